package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/understudy-ha/understudy/coordinator/config"
)

// script writes an executable that stands in for the replica's.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "replica")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// actor returns an executable that plays the replica, and as `supervise -- run ...`
// its supervisor.
func actor(t *testing.T) string {
	return script(t, `
if [ "$1" != supervise ]; then exec sleep 1000; fi
trap 'kill $pid; exit 0' TERM
while :; do
  setpriv --pdeathsig KILL sleep 1000 & pid=$!
  echo '{"msg":"replica started","role":"supervisor","pid":'$pid'}'
  wait $pid
  echo '{"msg":"replica ended","role":"supervisor","pid":'$pid'}'
done`)
}

func TestReplicasAreTheServiceAccountOfTheManifests(t *testing.T) {
	needTools(t)
	o := clusterOnly(filepath.Join(t.TempDir(), "lab"))
	o.Replicas, o.Binary, o.SkipWait, o.Nodes, o.Supervise = 2, script(t, "exec sleep 1000"), true, 1, false
	o.Configure = func(replica string, file map[string]any) {
		if replica == "understudy-1" {
			file["schedulerName"] = "other"
		}
	}
	l := start(t, o)

	cfg, err := config.Load(l.path("config", "understudy-1.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Identity != "understudy-1" || cfg.SchedulerName != "other" {
		t.Errorf("identity %q, scheduler %q", cfg.Identity, cfg.SchedulerName)
	}
	state, err := l.State()
	if err != nil {
		t.Fatal(err)
	}
	if state.Namespace != "understudy-system" || state.Lease != cfg.Election.LeaseName || state.Prefix != cfg.Etcd.Prefix {
		t.Errorf("the state names %s/%s and %s", state.Namespace, state.Lease, state.Prefix)
	}

	rest, err := clientcmd.BuildConfigFromFlags("", cfg.Kubernetes.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	replica, err := kubernetes.NewForConfig(rest)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what  authorizationv1.ResourceAttributes
		allow bool
	}{
		{authorizationv1.ResourceAttributes{Verb: "create", Resource: "pods", Subresource: "binding", Namespace: "default"}, true},
		{authorizationv1.ResourceAttributes{Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Name: state.Lease, Namespace: state.Namespace}, true},
		{authorizationv1.ResourceAttributes{Verb: "list", Resource: "secrets", Namespace: "default"}, false},
		{authorizationv1.ResourceAttributes{Verb: "delete", Resource: "nodes"}, false},
	} {
		review, err := replica.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(),
			&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &c.what}},
			metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if review.Status.Allowed != c.allow {
			t.Errorf("%s %s/%s: allowed %v, want %v", c.what.Verb, c.what.Resource, c.what.Subresource, review.Status.Allowed, c.allow)
		}
	}
}

func TestAReplicaThatEndsAgainAndAgainIsReported(t *testing.T) {
	needTools(t)
	dir := filepath.Join(t.TempDir(), "lab")
	o := clusterOnly(dir)
	o.Replicas, o.Binary, o.Nodes, o.Supervise = 1, script(t, "echo the last words; exit 3"), 0, false
	_, err := Up(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "ended 5 times") || !strings.Contains(err.Error(), "the last words") {
		t.Errorf("Up: %v; want how often it ended, and its log", err)
	}
}

// A detached lab lives on without the process that started it, replicas are
// started again, and Down finds everything.
func TestDetachedLab(t *testing.T) {
	for name, supervise := range map[string]bool{"supervised": true, "alone": false} {
		t.Run(name, func(t *testing.T) { detached(t, supervise) })
	}
}

func detached(t *testing.T, supervise bool) {
	needTools(t)
	dir := filepath.Join(t.TempDir(), "lab")
	o := clusterOnly(dir)
	o.Detached, o.Keeper, o.Supervise = true, os.Args[0], supervise
	o.Replicas, o.Binary, o.SkipWait, o.Nodes = 2, actor(t), true, 0
	starter, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	starter.Close()
	if _, err := Up(t.Context(), o); err == nil || !strings.Contains(err.Error(), "a lab is up") {
		t.Errorf("Up over a lab that is up: %v", err)
	}

	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	downed := false
	t.Cleanup(func() {
		if !downed {
			_ = l.Down(false)
		}
	})
	alive := func(name string, not int) (p Process) {
		t.Helper()
		eventually(t, name, func(context.Context) (err error) {
			if p, err = l.process(name); err == nil && (!p.Running() || p.PID == not) {
				err = fmt.Errorf("%+v", p)
			}
			return err
		})
		return p
	}
	first := alive("understudy-0", 0)
	if err := l.Kill("understudy-0", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := alive("understudy-0", first.PID)

	if err := l.Stop("understudy-0"); err != nil {
		t.Fatal(err)
	}
	if p, err := l.process("understudy-0"); err != nil || p.PID != 0 || !p.Stopped || second.Running() {
		t.Errorf("after Stop: %+v, %v", p, err)
	}
	if err := l.Start("understudy-0"); err != nil {
		t.Fatal(err)
	}
	if p := alive("understudy-0", 0); p.Stopped {
		t.Error("still marked stopped after Start")
	}

	// A replica does not survive its keeper, so that none is ever lost.
	orphan := alive("understudy-1", 0)
	if err := l.Kill("understudy-1-keeper", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the orphan to end", func(context.Context) error {
		if orphan.Running() {
			return errors.New("it runs")
		}
		return nil
	})

	state, err := l.State()
	if err != nil {
		t.Fatal(err)
	}
	downed = true
	if err := l.Down(false); err != nil {
		t.Fatal(err)
	}
	if left := running(state); len(left) > 0 {
		t.Errorf("still running after Down: %v", left)
	}
}
