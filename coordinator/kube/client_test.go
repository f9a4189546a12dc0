package kube

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// kubeconfig writes one for the server at url.
func kubeconfig(t *testing.T, server *httptest.Server) string {
	t.Helper()
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["c"] = &clientcmdapi.Cluster{Server: server.URL, InsecureSkipTLSVerify: true}
	cfg.Contexts["c"] = &clientcmdapi.Context{Cluster: "c"}
	cfg.CurrentContext = "c"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	fatal(t, clientcmd.WriteToFile(*cfg, path))
	return path
}

func TestClients(t *testing.T) {
	var mu sync.Mutex
	protocols, connections := map[string]string{}, map[string]bool{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		protocols[r.Method+" "+r.URL.Path] = r.Proto + " " + r.Header.Get("Accept")
		connections[r.RemoteAddr] = true
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Success"}`))
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()

	var wrapped atomic.Int32
	term := newTerm(time.Hour)
	clients, err := NewClients(ClientConfig{
		Kubeconfig: kubeconfig(t, server), UserAgent: "understudy/test", Guard: term.guard,
		Wrap: func(next http.RoundTripper) http.RoundTripper { wrapped.Add(1); return next },
	})
	fatal(t, err)
	defer closeIdle(clients)
	ctx := t.Context()
	_, err = clients.Reads.CoreV1().Pods("ns").Get(ctx, "r", metav1.GetOptions{})
	fatal(t, err)
	fatal(t, clients.Writes.CoreV1().Pods("ns").Delete(ctx, "w", metav1.DeleteOptions{}))
	_, err = clients.Lease.CoordinationV1().Leases("ns").Get(ctx, "l", metav1.GetOptions{})
	fatal(t, err)
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	fatal(t, clients.DryRuns.CoreV1().Pods("ns").Bind(ctx, &v1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "d"}}, dry))

	const pb = "application/vnd.kubernetes.protobuf,application/json"
	for request, want := range map[string]string{
		"GET /api/v1/namespaces/ns/pods/r":                        "HTTP/2.0 " + pb,
		"DELETE /api/v1/namespaces/ns/pods/w":                     "HTTP/2.0 " + pb,
		"POST /api/v1/namespaces/ns/pods/d/binding":               "HTTP/2.0 " + pb,
		"GET /apis/coordination.k8s.io/v1/namespaces/ns/leases/l": "HTTP/1.1 " + pb,
	} {
		if protocols[request] != want {
			t.Errorf("%s: sent as %q, want %q", request, protocols[request], want)
		}
	}
	if len(connections) != 4 {
		t.Errorf("%d connections, want one for each client", len(connections))
	}
	if wrapped.Load() == 0 {
		t.Error("the transports were not wrapped")
	}

	// The fence is in the client for writes, and through all of client-go its
	// error can be told.
	term.end(errors.New("over"))
	err = clients.Writes.CoreV1().Pods("ns").Delete(ctx, "late", metav1.DeleteOptions{})
	if !errors.Is(err, ErrFenced) {
		t.Errorf("error = %v, want ErrFenced", err)
	}
	if _, sent := protocols["DELETE /api/v1/namespaces/ns/pods/late"]; sent {
		t.Error("a write was sent after the term")
	}
	_, err = clients.Writes.CoreV1().Pods("ns").Get(ctx, "r", metav1.GetOptions{})
	fatal(t, err)

	// Without a term there are dry runs, and nothing else by the same client.
	pods := clients.DryRuns.CoreV1().Pods("ns")
	fatal(t, pods.Bind(ctx, &v1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "d"}}, dry))
	for what, err := range map[string]error{
		"binding":  pods.Bind(ctx, &v1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "e"}}, metav1.CreateOptions{}),
		"deletion": pods.Delete(ctx, "e", metav1.DeleteOptions{DryRun: dry.DryRun}),
	} {
		if !errors.Is(err, errNoDryRun) {
			t.Errorf("%s: error = %v, want that it is no dry run", what, err)
		}
	}
}

func TestFenceCancelsOnTheWire(t *testing.T) {
	arrived := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server would not see the client go
		close(arrived)
		<-r.Context().Done()
	}))
	defer server.Close()
	term := newTerm(time.Hour)
	clients, err := NewClients(ClientConfig{Kubeconfig: kubeconfig(t, server), Guard: term.guard})
	fatal(t, err)
	defer closeIdle(clients)
	go func() {
		<-arrived
		term.end(errors.New("another replica holds the lease"))
	}()
	err = clients.Writes.CoreV1().Pods("ns").Bind(t.Context(), &v1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}}, metav1.CreateOptions{})
	if !errors.Is(err, ErrFenced) {
		t.Errorf("error = %v, want ErrFenced", err)
	}
}

// closeIdle ends the connections, whose goroutines would outlive the test.
func closeIdle(clients *Clients) {
	for _, c := range []kubernetes.Interface{clients.Reads, clients.Writes, clients.Lease, clients.DryRuns, clients.Own} {
		utilnet.CloseIdleConnectionsFor(c.CoreV1().RESTClient().(*rest.RESTClient).Client.Transport)
	}
}

func TestClientsNeedAConfiguration(t *testing.T) {
	if _, err := NewClients(ClientConfig{Kubeconfig: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error = %v", err)
	}
}
