package coordinator

import (
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/telemetry"
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
	r, err := newReplica(cfg, Options{Log: slog.New(slog.DiscardHandler), Standing: standing, Tracing: tracing})
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
