package kube

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/understudy-ha/understudy/replica/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// inbox is a sink that tests wait on.
type inbox struct{ events chan ledger.Event }

func newInbox() *inbox { return &inbox{make(chan ledger.Event, 1024)} }

func (b *inbox) sink(e ledger.Event) { b.events <- e }

// next returns the next event, without its time.
func (b *inbox) next(t *testing.T) ledger.Event {
	t.Helper()
	select {
	case e := <-b.events:
		if e.When() == 0 {
			t.Errorf("%T has no time", e)
		}
		return timeless(e)
	case <-time.After(time.Minute):
		t.Fatal("no event")
		return nil
	}
}

func (b *inbox) empty(t *testing.T) {
	t.Helper()
	select {
	case e := <-b.events:
		t.Errorf("unexpected event %#v", e)
	default:
	}
}

func timeless(e ledger.Event) ledger.Event {
	switch e := e.(type) {
	case ledger.NodeLost:
		e.Stamp = ledger.Stamp{}
		return e
	case ledger.BindDone:
		e.Stamp = ledger.Stamp{}
		return e
	case ledger.BindFailed:
		e.Stamp = ledger.Stamp{}
		return e
	case ledger.CompleteTask:
		e.Stamp = ledger.Stamp{}
		return e
	case ledger.PlaceholderFailed:
		e.Stamp = ledger.Stamp{}
		return e
	case ledger.PlaceholderDelayed:
		e.Stamp = ledger.Stamp{}
		return e
	case ledger.DeleteFailed:
		e.Stamp = ledger.Stamp{}
		return e
	case ledger.PodNotFailed:
		e.Stamp = ledger.Stamp{}
		return e
	case ledger.PodFailed:
		e.Stamp = ledger.Stamp{}
		return e
	}
	return e
}

func task(name string) *ledger.Task {
	return &ledger.Task{AppID: "app", ID: "uid-" + name, Namespace: "ns", Name: name, Node: "node-1"}
}

type option func(*v1.Pod)

func version(rv string) option { return func(p *v1.Pod) { p.ResourceVersion = rv } }
func on(node string) option    { return func(p *v1.Pod) { p.Spec.NodeName = node } }
func uid(id string) option     { return func(p *v1.Pod) { p.UID = types.UID(id) } }
func in(phase v1.PodPhase) option {
	return func(p *v1.Pod) { p.Status.Phase = phase }
}

func pod(name string, options ...option) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "1"},
		Spec:       v1.PodSpec{SchedulerName: "yunikorn"},
	}
	for _, o := range options {
		o(p)
	}
	return p
}

// server is a fake API server.
type server struct {
	*fake.Clientset
	meta *metadatafake.FakeMetadataClient
}

func newServer(objects ...runtime.Object) *server {
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		panic(err)
	}
	return &server{fake.NewClientset(objects...), metadatafake.NewSimpleMetadataClient(scheme)}
}

func (s *server) clients() *Clients {
	return &Clients{Reads: s, Writes: s, Lease: s, Metadata: s.meta}
}

// answer has the fake answer a request in its own way.
func (s *server) answer(verb, resource string, with func(action clienttesting.Action) (runtime.Object, error)) {
	s.PrependReactor(verb, resource, func(action clienttesting.Action) (bool, runtime.Object, error) {
		obj, err := with(action)
		return true, obj, err
	})
}

// cluster returns a cluster whose informers run until the test ends.
func (s *server) cluster(t *testing.T, cfg ClusterConfig) *Cluster {
	t.Helper()
	cfg.SchedulerName = "yunikorn"
	c := New(s.clients(), cfg, quiet)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	if err := c.WaitForSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// journal is a follower that notes its calls.
type journal struct{ calls chan string }

func newJournal() *journal { return &journal{make(chan string, 1024)} }

func (j *journal) SetNode(n *v1.Node)     { j.calls <- "set node " + n.Name + " " + n.ResourceVersion }
func (j *journal) RemoveNode(name string) { j.calls <- "remove node " + name }
func (j *journal) SetPod(p *v1.Pod)       { j.calls <- "set " + string(p.UID) + " " + p.ResourceVersion }
func (j *journal) RemovePod(p *v1.Pod)    { j.calls <- "remove " + string(p.UID) }
func (j *journal) Configure(c map[string]string, err error) {
	if err != nil {
		j.calls <- "refuse " + err.Error()
		return
	}
	j.calls <- "configure " + c["queues.yaml"]
}

// expect waits for calls, in any order.
func (j *journal) expect(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for range want {
		select {
		case call := <-j.calls:
			got = append(got, call)
		case <-t.Context().Done():
			t.Fatalf("calls = %q, want %q", got, want)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("calls = %q, want %q", got, want)
	}
}

func (j *journal) none(t *testing.T) {
	t.Helper()
	select {
	case call := <-j.calls:
		t.Errorf("unexpected call %q", call)
	default:
	}
}
