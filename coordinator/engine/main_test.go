package engine_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// The core cannot be started twice in a process, so each test that needs one
// runs in a process of its own.
const childEnv = "UNDERSTUDY_ENGINE_TEST_CHILD"

func TestMain(m *testing.M) {
	flag.Parse()
	// A process that ran the core is left with goroutines of the core's.
	if os.Getenv(childEnv) != "" || flag.Lookup("test.bench").Value.String() != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// isolated runs the test in a child process and reports true in the parent,
// which has nothing more to do.
func isolated(t testing.TB) bool {
	t.Helper()
	if os.Getenv(childEnv) != "" {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in its own process: %v\n%s", err, out)
	} else if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("did not run in its own process:\n%s", out)
	}
	return true
}

// fixture is an engine, what it says, and the cluster it is shown.
type fixture struct {
	t      testing.TB
	engine *engine.Engine
	preds  *predicates.Cache

	mu      sync.Mutex
	events  []ledger.Event
	changed chan struct{}
	reasons []string
	waits   []engine.Wait
}

// skipUnderRace leaves a test out that changes the configuration, if only to take an application
// in where it was: the core races with itself then. `make test` runs these without the race
// detector.
func skipUnderRace(t *testing.T) {
	t.Helper()
	if coreRaces {
		t.Skip("changes the configuration quickly, over which the core races with itself")
	}
}

func start(t testing.TB, change func(*engine.Config)) *fixture {
	t.Helper()
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	preds, err := predicates.New(log)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, preds: preds, changed: make(chan struct{}, 1)}
	cfg := engine.Default()
	cfg.ExplainInterval = 100 * time.Millisecond
	cfg.OnWait = func(app, task string, why engine.Wait) {
		f.mu.Lock()
		f.reasons = append(f.reasons, task+": "+why.Message)
		f.waits = append(f.waits, why)
		f.mu.Unlock()
		f.poke()
	}
	if change != nil {
		change(&cfg)
	}
	f.engine, err = engine.Start(cfg, preds, f.take, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.engine.Stop()
		verifyNoLeaks(t)
	})
	return f
}

// verifyNoLeaks fails the test if a goroutine of ours is still running. Those
// that only the core and its libraries started are let be: it does not wait for
// them when it stops, and some, such as the cleaner of its user cache, never
// end.
func verifyNoLeaks(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		buf := make([]byte, 1<<20)
		leaks := ours(string(buf[:runtime.Stack(buf, true)]))
		if len(leaks) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("leaked:\n%s", strings.Join(leaks, "\n\n"))
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// ours returns the stacks of goroutines started by this package.
func ours(dump string) []string {
	var out []string
	for _, stack := range strings.Split(dump, "\n\n") {
		_, creator, ok := strings.Cut(stack, "created by ")
		if ok && strings.HasPrefix(creator, "github.com/understudy-ha/understudy/coordinator/engine.") {
			out = append(out, stack)
		}
	}
	return out
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	fmt.Fprint(os.Stderr, string(p))
	return len(p), nil
}

func (f *fixture) take(e ledger.Event) {
	f.mu.Lock()
	f.events = append(f.events, e)
	f.mu.Unlock()
	f.poke()
}

func (f *fixture) poke() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// until waits until cond, which is called with f.mu held, is true.
func (f *fixture) until(what string, cond func() bool) {
	f.t.Helper()
	timeout := time.After(time.Minute)
	for {
		f.mu.Lock()
		ok := cond()
		f.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-f.changed:
		case <-time.After(5 * time.Millisecond):
		case <-timeout:
			f.mu.Lock()
			defer f.mu.Unlock()
			f.t.Fatalf("never: %s\nevents: %s\nreasons: %q", what, show(f.events), f.reasons)
		}
	}
}

func show(events []ledger.Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "\n  %T%+v", e, e)
	}
	return b.String()
}

// waitFor waits for an event of type T that matches.
func waitFor[T ledger.Event](f *fixture, match func(T) bool) T {
	f.t.Helper()
	var found T
	f.until(fmt.Sprintf("%T", found), func() bool {
		i := slices.IndexFunc(f.events, func(e ledger.Event) bool {
			x, ok := e.(T)
			return ok && match(x)
		})
		if i >= 0 {
			found = f.events[i].(T)
		}
		return i >= 0
	})
	return found
}

// count returns how many events of type T match.
func count[T ledger.Event](f *fixture, match func(T) bool) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, e := range f.events {
		if x, ok := e.(T); ok && match(x) {
			n++
		}
	}
	return n
}

func (f *fixture) total() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.events)
}

func (f *fixture) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) do(effects ...ledger.Effect) {
	f.t.Helper()
	for _, x := range effects {
		f.ok(f.engine.Do(x))
	}
}

func (f *fixture) sync() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// What had to wait for the core is sent by now, and taken over: a live engine does not wait for it.
	f.ok(errors.Join(f.engine.Sync(ctx), f.engine.Chored(ctx), f.engine.Sync(ctx)))
}

func (f *fixture) engage() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	f.ok(f.engine.Engage(ctx))
}

// node shows a node to engine and predicates.
func (f *fixture) node(name string, edit ...func(*v1.Node)) {
	f.t.Helper()
	n := newNode(name, "4", "8Gi")
	for _, e := range edit {
		e(n)
	}
	f.preds.SetNode(n)
	f.ok(f.engine.SetNode(n))
}

func newNode(name, cpu, memory string) *v1.Node {
	return &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1.LabelHostname: name}},
		Status: v1.NodeStatus{Allocatable: v1.ResourceList{
			v1.ResourceCPU:    resource.MustParse(cpu),
			v1.ResourceMemory: resource.MustParse(memory),
			v1.ResourcePods:   resource.MustParse("110"),
		}},
	}
}

// pod shows a pod to the predicates.
func (f *fixture) pod(uid, cpu string, edit ...func(*v1.Pod)) *v1.Pod {
	p := newPod(uid, cpu, edit...)
	f.preds.SetPod(p)
	return p
}

func newPod(uid, cpu string, edit ...func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: uid, UID: types.UID(uid), Labels: map[string]string{"app": "test"}},
		Spec: v1.PodSpec{Containers: []v1.Container{{
			Name: "c",
			Resources: v1.ResourceRequirements{Requests: v1.ResourceList{
				v1.ResourceCPU:    resource.MustParse(cpu),
				v1.ResourceMemory: resource.MustParse("64Mi"),
			}},
		}}},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func on(node string) func(*v1.Pod) { return func(p *v1.Pod) { p.Spec.NodeName = node } }

func newApp(id, queue string) *ledger.App {
	return &ledger.App{
		ID: id, Queue: queue, User: "alice", Groups: []string{"dev"},
		State: ledger.AppStateSubmitted, Tags: map[string]string{"namespace": "default"},
	}
}

func newTask(app *ledger.App, pod *v1.Pod) *ledger.Task {
	return &ledger.Task{
		AppID: app.ID, ID: string(pod.UID), Namespace: pod.Namespace, Name: pod.Name,
		Resources: engine.ResourcesOf(pod), Node: pod.Spec.NodeName,
	}
}

// submit has an application accepted.
func (f *fixture) submit(app *ledger.App) {
	f.t.Helper()
	f.do(ledger.SubmitApp{App: app})
	waitFor(f, func(e ledger.AppAccepted) bool { return e.AppID == app.ID })
}

func (f *fixture) allocated(task string) string {
	f.t.Helper()
	return waitFor(f, func(e ledger.Allocated) bool { return e.TaskID == task }).Node
}

func (f *fixture) vcore(queue string) int64 { return f.engine.QueueUsage()[queue]["vcore"] }

const quotaQueues = `
partitions:
  - name: default
    queues:
      - name: root
        submitacl: '*'
        queues:
          - name: a
          - name: small
            resources:
              max: {vcore: 2}
`

func withQueues(yaml string) func(*engine.Config) {
	return func(c *engine.Config) { c.ConfigYAML = map[string]string{"queues.yaml": yaml} }
}

// engineUsage is vcore for use while f.mu is held.
func (f *fixture) engineUsage(queue string) int64 { return f.engine.QueueUsage()[queue]["vcore"] }
