package kube

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Lists of replicas that start together do not come together; what is not a first list
// comes at once.
func TestFirstListsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const replicas = 100
		began := time.Now()
		var mu sync.Mutex
		came := make(map[time.Duration]int) // in which tenth of the time
		transport := spread{roundTrip(func(*http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			came[time.Since(began)/(listSpread/10)]++
			return httptest.NewRecorder().Result(), nil
		})}
		get := func(ctx context.Context, query string) error {
			req := httptest.NewRequest(http.MethodGet, "https://api/api/v1/pods?"+query, nil)
			_, err := transport.RoundTrip(req.WithContext(ctx))
			return err
		}
		for range replicas {
			go func() { _ = get(t.Context(), "limit=500&resourceVersion=0") }()
		}
		time.Sleep(listSpread)
		synctest.Wait()
		total := 0
		for tenth, n := range came {
			if total += n; n > replicas/3 {
				t.Errorf("%d of %d lists came in tenth %d", n, replicas, tenth)
			}
		}
		if total != replicas {
			t.Errorf("%d of %d lists came", total, replicas)
		}
		for _, query := range []string{
			"watch=true&resourceVersion=0", "watch=true&sendInitialEvents=true", "limit=1", "resourceVersion=77", "limit=500&continue=x",
		} {
			if before := time.Now(); get(t.Context(), query) != nil || !time.Now().Equal(before) {
				t.Errorf("%s had to wait", query)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := get(ctx, "resourceVersion=0"); !errors.Is(err, context.Canceled) {
			t.Errorf("a list that was given up: %v", err)
		}
	})
}

// An informer whose server does not stream lists asks for pages of one, in such words
// that its first list is spread.
func TestListsThatAreNotStreamedAreSpread(t *testing.T) {
	lists := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/pods" && r.URL.Query().Get("watch") == "" {
			select {
			case lists <- r.URL.RawQuery:
			default:
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = w.Write([]byte(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422}`))
	}))
	defer server.Close()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	fatal(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- New(&Clients{Reads: client}, ClusterConfig{SchedulerName: "yunikorn"}, quiet).Run(ctx) }()
	if got := <-lists; got != "limit=500&resourceVersion=0" {
		t.Errorf("the first list is asked for by %q", got)
	}
	cancel()
	fatal(t, <-done)
}

// What is read by informers goes through the spread.
func TestClientsSpreadTheirLists(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	clients, err := NewClients(ClientConfig{Kubeconfig: kubeconfig(t, server)})
	fatal(t, err)
	reads, ok := clients.Reads.CoreV1().RESTClient().(*rest.RESTClient)
	if !ok {
		t.Fatalf("a client of type %T", clients.Reads.CoreV1().RESTClient())
	}
	for at := reads.Client.Transport; ; {
		if _, is := at.(spread); is {
			return
		}
		wrapper, is := at.(utilnet.RoundTripperWrapper)
		if !is {
			t.Fatalf("%T is the last, and none spreads lists", at)
		}
		at = wrapper.WrappedRoundTripper()
	}
}
