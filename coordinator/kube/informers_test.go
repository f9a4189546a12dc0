package kube

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Replicas that start at once would each have the API server put together a list of
// all pods. A streamed list it sends from what it has, object by object.
func TestListsAreStreamed(t *testing.T) {
	streamed := make(chan bool, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/pods" {
			q := r.URL.Query()
			select {
			case streamed <- q.Get("watch") != "" && q.Get("sendInitialEvents") == "true":
			default:
			}
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- New(&Clients{Reads: client}, ClusterConfig{SchedulerName: "yunikorn"}, quiet).Run(ctx) }()
	if !<-streamed {
		t.Error("the first request for pods is a list")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
