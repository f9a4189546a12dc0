package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
	_ "unsafe" // for the core's own router

	"github.com/apache/yunikorn-core/pkg/metrics/history"
	"github.com/apache/yunikorn-core/pkg/scheduler"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-core/pkg/webservice"
	"github.com/julienschmidt/httprouter"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/api"
	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/chronicle"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// The core's own web app listens on a fixed port of all interfaces. What answers behind it
// is reached past that.

//go:linkname coreRouter github.com/apache/yunikorn-core/pkg/webservice.newRouter
func coreRouter() *httprouter.Router

//go:linkname coreCompressed github.com/apache/yunikorn-core/pkg/webservice.compressResponse
func coreCompressed(http.Handler) http.Handler

const queues = `
partitions:
  - name: default
    nodesortpolicy: {type: binpacking, resourceweights: {vcore: 2.0, memory: 1.0}}
    preemption: {enabled: true, quotapreemptionenabled: true}
    placementrules:
      - name: provided
        create: false
        filter: {type: allow, users: [alice, bob], groups: [ops]}
      - name: tag
        value: namespace
        create: true
        filter: {type: deny, users: ["mal.*"], groups: ["mal.*"]}
        parent: {name: fixed, value: root.dyn}
    queues:
      - name: root
        submitacl: '*'
        limits:
          - {limit: devs, groups: [dev], maxresources: {vcore: 50}, maxapplications: 20}
          - {limit: everybody, users: ["*"], maxresources: {vcore: 100}, maxapplications: 50}
        queues:
          - name: a
            maxapplications: 30
            properties:
              application.sort.policy: fifo
              priority.policy: fence
              priority.offset: "3"
              preemption.policy: fence
              preemption.delay: 10s
            resources: {guaranteed: {vcore: 1}, max: {vcore: 8, memory: 100G}}
            limits:
              - {limit: alice, users: [alice], maxresources: {vcore: 7}, maxapplications: 10}
          - {name: small, resources: {max: {vcore: 1}}}
          - name: dyn
            parent: true
            childtemplate:
              maxapplications: 5
              properties: {application.sort.policy: fifo}
              resources: {guaranteed: {vcore: 1}, max: {vcore: 4}}
`

// world is an engine whose core has something to say for every field that can be had
// without waiting, with the core's web service and ours before it.
type world struct {
	engine *engine.Engine
	preds  *predicates.Cache
	mu     sync.Mutex
	events []ledger.Event
	// core and ours are at which URLs they answer.
	core, ours string
	coreRouter http.Handler
	api        *api.API
	chronicle  *chronicle.Log
	standing   api.Standing
	// records are what the ledger has, nil for nothing.
	records *ledger.Ledger
}

func (w *world) Standing() api.Standing { return w.standing }
func (w *world) Engine() api.Engine     { return w.engine }
func (w *world) Pod(_, name string) *v1.Pod {
	return w.preds.Pod(name)
}
func (w *world) Read(_ context.Context, read func(*ledger.Ledger)) bool {
	if w.records != nil {
		read(w.records)
	}
	return w.records != nil
}

func (w *world) partition() *scheduler.PartitionContext {
	return w.engine.Cluster().GetPartitionWithoutClusterID("default")
}

// shared is the world of all tests: a process can start one core.
var shared = sync.OnceValues(newWorld)

func theWorld(t testing.TB) *world {
	t.Helper()
	w, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func newWorld() (*world, error) {
	log := discard // the core complains of every configuration that is not valid
	w := &world{standing: api.Standing{Replica: "r0", Leads: true, Epoch: 7, Revision: 42, Lead: "r0_X"}}
	var err error
	if w.preds, err = predicates.New(log); err != nil {
		return nil, err
	}
	cfg := engine.Default()
	cfg.Version, cfg.CompleteAfter = "test", time.Hour
	cfg.ConfigYAML = map[string]string{"queues.yaml": queues}
	if w.engine, err = engine.Start(cfg, w.preds, w.take, log); err != nil {
		return nil, err
	}
	objects.SetReservationDelay(0)
	objects.SetCompletingTimeout(time.Millisecond)
	if err := w.populate(); err != nil {
		return nil, err
	}
	samples := history.NewInternalMetricsHistory(1440)
	samples.Store(3, 5)
	samples.Store(4, 6)
	_ = webservice.NewWebApp(w.engine.Cluster(), samples) // what its handlers read
	w.coreRouter = coreCompressed(coreRouter())
	if err := w.keep(samples.GetRecords(), log); err != nil {
		return nil, err
	}
	w.api = api.New(api.Config{Profiling: true, Scheme: "http", Chronicle: w.chronicle}, w, log)
	w.core, w.ours = httptest.NewServer(w.coreRouter).URL, httptest.NewServer(w.caughtUp(w.api)).URL
	return w, nil
}

func (w *world) take(e ledger.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// patience is for what must happen.
const patience = time.Minute

func until(what string, ok func() bool) error {
	for deadline := time.Now().Add(patience); !ok(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("never: %s", what)
		}
	}
	return nil
}

// heard waits for an event.
func (w *world) heard(what string, match func(ledger.Event) bool) error {
	return until(what, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, e := range w.events {
			if match(e) {
				return true
			}
		}
		return false
	})
}

func (w *world) allocated(task string) error {
	return w.heard(task+" is allocated", func(e ledger.Event) bool {
		x, ok := e.(ledger.Allocated)
		return ok && x.TaskID == task
	})
}

// steps does one after the other until one fails.
func steps(all ...func() error) error {
	for i, step := range all {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

func (w *world) do(effects ...ledger.Effect) func() error {
	return func() error {
		for _, x := range effects {
			if err := w.engine.Do(x); err != nil {
				return err
			}
		}
		return nil
	}
}

func (w *world) addNode(name, cpu string, edit ...func(*v1.Node)) func() error {
	n := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			v1.LabelHostname: name, v1.LabelInstanceTypeStable: "m5", "rack": "r<1>&2",
		}},
		Status: v1.NodeStatus{Allocatable: v1.ResourceList{
			v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse("8Gi"), v1.ResourcePods: resource.MustParse("110"),
		}},
	}
	for _, e := range edit {
		e(n)
	}
	return func() error {
		w.preds.SetNode(n)
		return w.engine.SetNode(n)
	}
}

func (w *world) pod(uid, cpu string, edit ...func(*v1.Pod)) *v1.Pod {
	priority := int32(5)
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: uid, UID: types.UID(uid), Labels: map[string]string{"app": "te<s>t"}},
		Spec: v1.PodSpec{Priority: &priority, Containers: []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{
			Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse("64Mi")},
		}}}},
	}
	for _, e := range edit {
		e(p)
	}
	w.preds.SetPod(p)
	return p
}

func newApp(id, queue, user string) *ledger.App {
	return &ledger.App{
		ID: id, Queue: queue, User: user, Groups: []string{"dev"}, State: ledger.AppStateSubmitted,
		Tags: map[string]string{"namespace": "default"}, Submitted: ledger.At(time.Now().Add(-time.Hour)),
	}
}

func newTask(app *ledger.App, pod *v1.Pod, group string, placeholder bool) *ledger.Task {
	return &ledger.Task{
		AppID: app.ID, ID: string(pod.UID), Namespace: pod.Namespace, Name: pod.Name, Node: pod.Spec.NodeName,
		Resources: engine.ResourcesOf(pod), TaskGroup: group, Placeholder: placeholder,
	}
}

// daemon makes a pod one of a DaemonSet for a node.
func daemon(node string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "d", UID: "d", Controller: &yes}}
		p.Spec.Affinity = &v1.Affinity{NodeAffinity: &v1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &v1.NodeSelector{
			NodeSelectorTerms: []v1.NodeSelectorTerm{{MatchFields: []v1.NodeSelectorRequirement{{
				Key: metav1.ObjectNameField, Operator: v1.NodeSelectorOpIn, Values: []string{node},
			}}}},
		}}}
	}
}

func (w *world) populate() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	plain, gang, small, done := newApp("plain", "root.a", "alice"), newApp("gang", "root.a", "bob"), newApp("small", "root.small", "alice"), newApp("done", "root.a", "alice")
	dynamic, rejected := newApp("dynamic", "", "carol"), newApp("rejected", "root.a", "mallory")
	plain.Originator = "runs"
	gang.TaskGroups = []v1alpha1.TaskGroup{{Name: "g", MinMember: 2, MinResource: map[string]resource.Quantity{
		"cpu": resource.MustParse("1"), "memory": resource.MustParse("64Mi"),
	}}}
	foreign := w.pod("foreign", "100m", func(p *v1.Pod) { p.Spec.NodeName = "n1" })
	holders := []*ledger.Task{newTask(gang, w.pod("ph0", "1"), "g", true), newTask(gang, w.pod("ph1", "1"), "g", true)}
	finished := newTask(done, w.pod("finished", "1"), "", false)
	return steps(
		w.addNode("n1", "4"),
		w.addNode("n2", "4", func(n *v1.Node) { n.Spec.Unschedulable = true }),
		w.addNode("n3", "500m"),
		func() error { return w.engine.SetForeign(foreign) },
		func() error { return w.engine.Engage(ctx) },
		w.do(ledger.SubmitApp{App: plain}, ledger.SubmitApp{App: gang}, ledger.SubmitApp{App: small},
			ledger.SubmitApp{App: done}, ledger.SubmitApp{App: dynamic}, ledger.SubmitApp{App: rejected}),
		func() error {
			err := w.heard("rejected", func(e ledger.Event) bool { _, ok := e.(ledger.AppRejected); return ok })
			w.records = ledger.New()
			w.records.Apply(ledger.Change{Key: ledger.Key{AppID: "rejected"}, App: &ledger.App{ID: "rejected", State: ledger.AppStateRejected}})
			return err
		},
		// One that has come to its end.
		w.do(ledger.Ask{App: done, Task: finished}),
		func() error { return w.allocated("finished") },
		func() error { w.preds.RemovePod("finished"); return nil },
		w.do(ledger.Release{Task: finished, Termination: ledger.StoppedByRM}),
		func() error {
			return until("completed", func() bool { return len(w.partition().GetCompletedApplications()) > 0 })
		},
		// A gang, one of whose placeholders has been replaced.
		w.do(ledger.Ask{App: gang, Task: holders[0]}, ledger.Ask{App: gang, Task: holders[1]}),
		func() error { return w.allocated("ph0") },
		func() error { return w.allocated("ph1") },
		w.do(ledger.Ask{App: gang, Task: newTask(gang, w.pod("real", "1"), "g", false)}),
		func() error { return w.swap(holders) },
		func() error { return w.allocated("real") },
		w.do(ledger.Ask{App: plain, Task: newTask(plain, w.pod("runs", "1"), "", false)}),
		func() error { return w.allocated("runs") },
		// What waits: for room on a node, where it is reserved; for quota; for its one node;
		// for a node that there is not.
		w.do(ledger.Ask{App: plain, Task: newTask(plain, w.pod("waits", "2"), "", false)}),
		func() error {
			return until("reserved", func() bool { return w.partition().GetApplication("plain").HasReserved() })
		},
		w.do(ledger.Ask{App: small, Task: newTask(small, w.pod("quota", "2"), "", false)},
			ledger.Ask{App: dynamic, Task: newTask(dynamic, w.pod("there", "400m", daemon("n3")), "", false)}),
		func() error { return w.allocated("there") },
		w.do(ledger.Ask{App: dynamic, Task: newTask(dynamic, w.pod("daemon", "300m", daemon("n3")), "", false)},
			ledger.Ask{App: dynamic, Task: newTask(dynamic, w.pod("nowhere", "1", func(p *v1.Pod) {
				p.Spec.NodeSelector = map[string]string{"no": "where"}
			}), "", false)}),
		func() error {
			return until("a reason for each", func() bool {
				return logged(w.partition().GetApplication("small")) && logged(w.partition().GetApplication("dynamic"))
			})
		},
		func() error { return w.engine.Sync(ctx) },
	)
}

func logged(app *objects.Application) bool {
	for _, ask := range app.GetAllRequests() {
		if len(ask.GetAllocationLog()) > 0 {
			return true
		}
	}
	return false
}

// swap carries out that a placeholder is replaced.
func (w *world) swap(holders []*ledger.Task) error {
	var replaced string
	err := w.heard("a placeholder is replaced", func(e ledger.Event) bool {
		x, ok := e.(ledger.Released)
		if ok && x.Termination == ledger.PlaceholderReplaced {
			replaced = x.TaskID
		}
		return replaced != ""
	})
	for _, h := range holders {
		if err == nil && h.ID == replaced {
			w.preds.RemovePod(h.ID)
			err = w.engine.Do(ledger.Release{Task: h, Termination: ledger.PlaceholderReplaced})
		}
	}
	return err
}

// client follows no redirection and decompresses nothing.
var client = &http.Client{
	Transport:     &http.Transport{DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       patience,
}

// send sends a request with headers, which are given as key, value.
func send(t testing.TB, method, url, body string, headers ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, stringReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, got
}

func decode[T any](t testing.TB, body []byte) (out T) {
	t.Helper()
	if err := json.Unmarshal(body, &out); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return out
}
