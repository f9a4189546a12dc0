package coordinator

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/telemetry"
	"github.com/understudy-ha/understudy/replica/roster"
)

// TestAReplicaHasARoleFromTheStart: who asks, and whom it tells, may come before it
// plays any.
func TestAReplicaHasARoleFromTheStart(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: "https://127.0.0.1:1"}},
		Contexts:       map[string]*clientcmdapi.Context{"c": {Cluster: "c"}},
		CurrentContext: "c",
	}, kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Identity, cfg.Namespace, cfg.Kubernetes.Kubeconfig = "a", config.DefaultNamespace, kubeconfig
	cfg.Etcd.Endpoints = []string{"http://127.0.0.1:1"}
	standing := telemetry.NewStanding("a")
	tracing, err := telemetry.StartTracing(t.Context(), standing, "v")
	if err != nil {
		t.Fatal(err)
	}
	r, err := newReplica(cfg, Options{
		Log: slog.New(slog.DiscardHandler), Standing: standing, Tracing: tracing,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.etcd.Close()
	if status, told := r.Status(), r.standing(); status.Role != serve.Understudy || told.Role != string(serve.Understudy) {
		t.Errorf("its role is %q, and to others %q", status.Role, told.Role)
	}
}

// TestAProcessOfWhichAPartHangsEnds: nobody starts a replica anew that never ends.
func TestAProcessOfWhichAPartHangsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan int, 1)
		r := &replica{log: slog.New(slog.DiscardHandler), opts: Options{Exit: func(code int) { ended <- code }}}
		r.endWith(func() {})
		<-time.After(time.Minute)
		select {
		case code := <-ended:
			t.Errorf("one that had ended in order was ended with %d", code)
		default:
		}
		over := make(chan struct{})
		go r.endWith(func() { <-over })
		if code := <-ended; code != exitHung {
			t.Errorf("ended with %d", code)
		}
		close(over)
	})
}

// A replica that could not lead at once is not ready for probes, and tells the others
// what is missing.
func TestAStandbyThatIsNotWarmSaysSo(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(`{"apiVersion": "v1", "kind": "Config", "current-context": "c",
"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}], "contexts": [{"name": "c", "context": {"cluster": "c"}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Identity, cfg.Namespace, cfg.Kubernetes.Kubeconfig, cfg.Etcd.Endpoints = "r", "ns", kubeconfig, []string{"http://127.0.0.1:1"}
	r, err := newReplica(cfg, Options{
		Log: slog.New(slog.DiscardHandler), Standing: telemetry.NewStanding("r"), Tracing: &telemetry.Tracing{},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.etcd.Close()
	r.setRole(serve.Understudy, 0)
	probe := httptest.NewRecorder()
	serve.Handler(serve.Config{}, r, r.metrics, r.log).ServeHTTP(probe, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	for _, what := range []string{"[-]engine failed: the engine has not been started yet", "[-]view failed:", "[-]informer-pods failed:"} {
		if probe.Code != 503 || !strings.Contains(probe.Body.String(), what) {
			t.Errorf("readiness is %d and does not say %q:\n%s", probe.Code, what, probe.Body)
		}
	}
	standing := r.standing()
	if standing.Ready || !strings.HasPrefix(standing.Missing, "view: not synced with etcd") {
		t.Errorf("the others are told that it is ready: %t, and misses %q", standing.Ready, standing.Missing)
	}
	if m := memberStatus(roster.Member{Standing: standing}); m.Ready || m.Missing != standing.Missing {
		t.Errorf("shown as a member that is ready: %t, and misses %q", m.Ready, m.Missing)
	}
}
