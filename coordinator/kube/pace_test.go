package kube

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTheRateOfClientsThatExist can be changed: it is in what they have to read first.
func TestTheRateOfClientsThatExist(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: '" + server.URL + "'}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	clients, err := NewClients(ClientConfig{Kubeconfig: file, QPS: 0.001, Burst: 1})
	if err != nil {
		t.Fatal(err)
	}
	waits := func() bool {
		all := len(clients.paces) > 0
		for _, p := range clients.paces {
			all = !p.TryAccept() && all
		}
		return all
	}
	waits() // takes what each may send at once
	if !waits() {
		t.Error("there is no bound")
	}
	clients.SetRate(0, 0)
	for range 10 { // none of which waits
		if _, err := clients.Reads.CoreV1().Pods("ns").Get(t.Context(), "p", metav1.GetOptions{}); err == nil {
			t.Fatal("there is no such pod")
		}
	}
	if waits() || clients.Reads.CoreV1().RESTClient().GetRateLimiter().QPS() != clients.paces[0].QPS() {
		t.Error("the bound has not gone")
	}
	clients.SetRate(7, 1)
	if got := clients.Writes.CoreV1().RESTClient().GetRateLimiter().QPS(); got != 7 {
		t.Errorf("%v a second", got)
	}
	if lease := clients.Lease.CoordinationV1().RESTClient().GetRateLimiter(); lease != nil {
		t.Errorf("the Lease is held up: %v", lease.QPS())
	}
}
