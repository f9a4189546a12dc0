package api_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"

	"github.com/understudy-ha/understudy/coordinator/api"
	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
	"github.com/understudy-ha/understudy/coordinator/loop"
	"github.com/understudy-ha/understudy/replica/chronicle"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// A succession is several leads one after the other. Each is a process of its own, because a
// process can start one core. Ledger, loop and engine are the real ones; what is durable is a
// file, and the cluster does at once what it is asked for, but for pods that are stuck and those
// of the load.

// successionVariable names the directory in which a lead finds what the one before has left.
const successionVariable = "UNDERSTUDY_TEST_SUCCESSION"

// estate is what a lead leaves: records, pods, and what it answered last.
type estate struct {
	// Generation counts the leads before this one.
	Generation int
	Records    map[string][]byte // by key
	Pods       map[string]*v1.Pod
	Past       chronicle.Past
	// First is what it answered when it began to lead, and Last before the load came with which it
	// died; Passed is what an understudy had it answer that differs.
	First, Last answers
	Passed      []string
}

// answers are statuses and bodies by request.
type answers map[string]string

func estateIn(dir string) (left estate, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, "estate.json"))
	if err == nil {
		err = json.Unmarshal(raw, &left)
	}
	return left, err
}

func (e estate) keep(dir string) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "estate.json"), raw, 0o600)
}

var successionKeys = record.Keys{Prefix: "/p"}

// lead leads until its process ends.
type lead struct {
	engine *engine.Engine
	preds  *predicates.Cache
	box    *loop.Mailbox
	loop   *loop.Loop
	reader *loop.Reader
	api    *api.API

	chronicle *chronicle.Log
	load      *load

	mu      sync.Mutex // guards what follows
	pods    map[string]*v1.Pod
	records map[string][]byte
	// bindings counts those of the load.
	bindings int
}

func (l *lead) Standing() api.Standing {
	return api.Standing{Replica: "r", Leads: true, Epoch: 1, Revision: 1, Lead: "r_X"}
}
func (l *lead) Engine() api.Engine { return l.engine }
func (l *lead) Read(ctx context.Context, read func(*ledger.Ledger)) bool {
	return l.reader.Read(ctx, read)
}

func (l *lead) Pod(_, name string) *v1.Pod {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pods[name]
}

// successionQueues are those of the other tests, and one with room for gangs.
var successionQueues = strings.Replace(queues, "          - {name: small,",
	"          - {name: g, resources: {guaranteed: {vcore: 2}, max: {vcore: 60, memory: 200G}}}\n          - {name: small,", 1)

// succeed begins to lead with what the lead before has left.
func succeed(ctx context.Context, left estate) (*lead, error) {
	l := &lead{pods: left.Pods, records: left.Records, box: loop.NewMailbox(1 << 16)}
	if l.records == nil {
		l.pods, l.records = make(map[string]*v1.Pod), make(map[string][]byte)
	}
	var err error
	if l.preds, err = predicates.New(discard); err != nil {
		return nil, err
	}
	cfg := engine.Default()
	cfg.Version, cfg.CompleteAfter = "test", time.Hour
	cfg.ConfigYAML = map[string]string{"queues.yaml": successionQueues}
	if l.engine, err = engine.Start(cfg, l.preds, func(e ledger.Event) { l.box.Push(e) }, discard); err != nil {
		return nil, err
	}
	state := ledger.New()
	for key, value := range l.records {
		entry, err := successionKeys.Decode(key, value)
		if err != nil {
			return nil, err
		}
		state.Apply(entry.Change())
	}
	for _, pod := range l.pods {
		l.preds.SetPod(pod)
	}
	l.reader = loop.NewReader(l.box)
	l.loop = loop.New(loop.Config{
		Ledger: state, Mailbox: l.box, Journal: l, Reader: l.reader, Now: time.Now,
		Inside: func(e ledger.Effect) { _ = l.engine.Do(e) }, Outside: l.outside,
	})
	if err := steps(l.addNode("n1", "4"), l.addNode("n2", "4"), l.addNode("n3", "500m"), l.addNode("big", "64"), func() error {
		return l.engine.SetForeign(l.newPod("foreign", "100m", on("n1"), func(p *v1.Pod) {
			p.Spec.NodeName, p.CreationTimestamp = "n1", metav1.Unix(1_700_000_000, 0)
		}))
	}); err != nil {
		return nil, err
	}
	if left.Generation > 0 {
		l.load = l.press(state)
	}
	if err := l.promote(ctx, state); err != nil {
		return nil, err
	}
	left.Past.ID = "succession"
	if l.chronicle, err = chronicleOf(discard, left.Past, l.engine.Events()); err != nil {
		return nil, err
	}
	l.api = api.New(api.Config{Chronicle: l.chronicle}, l, discard)
	return l, nil
}

// promote is what package term does with an engine that has been fed.
func (l *lead) promote(ctx context.Context, state *ledger.Ledger) error {
	do := func(effects []ledger.Effect) (err error) {
		for _, e := range effects {
			if e.External() {
				l.outside(e)
				continue
			}
			err = errors.Join(err, l.engine.Do(e))
		}
		return err
	}
	if err := steps(
		func() error { return do(state.Feed()) },
		func() error { return l.engine.Engage(ctx) },
		func() error { return do(state.Due(ledger.At(time.Now()))) },
	); err != nil {
		return err
	}
	go l.loop.Run(ctx) // until the process ends
	return nil
}

func (l *lead) addNode(name, cpu string) func() error {
	n := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1.LabelHostname: name, v1.LabelInstanceTypeStable: "m5"}},
		Spec:       v1.NodeSpec{Unschedulable: name == "n2"},
		Status: v1.NodeStatus{Allocatable: v1.ResourceList{
			v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse("64Gi"), v1.ResourcePods: resource.MustParse("1000"),
		}},
	}
	return func() error {
		l.preds.SetNode(n)
		return l.engine.SetNode(n)
	}
}

// Append keeps what has to outlive this process.
func (l *lead) Append(changes []ledger.Change, done func()) {
	l.mu.Lock()
	for _, c := range changes {
		switch key := successionKeys.Record(c.Key); {
		case c.Deleted():
			delete(l.records, key)
		case c.App != nil:
			l.records[key] = record.EncodeApp(c.App)
		default:
			l.records[key] = record.EncodeTask(c.Task)
		}
	}
	l.mu.Unlock()
	if done != nil {
		done()
	}
}

// outside is the cluster.
func (l *lead) outside(effect ledger.Effect) {
	switch x := effect.(type) {
	case ledger.Bind:
		if ofLoad(x.Task.ID) {
			time.AfterFunc(bindingTakes, func() { l.bind(x.Task) })
			return
		}
		l.bind(x.Task)
	case ledger.CreatePlaceholder:
		for _, group := range x.App.TaskGroups {
			if group.Name == x.Group {
				cpu := group.MinResource["cpu"]
				l.addTask(x.App.ID, l.newPod(x.Name, cpu.String(), on(group.NodeSelector[v1.LabelHostname])), x.Group, true)
			}
		}
	case ledger.DeletePod:
		if !stuck[x.Task.AppID] {
			l.removePod(x.Task)
		}
	case ledger.FailPod:
		l.push(ledger.PodFailed{Stamp: now(), AppID: x.Task.AppID, TaskID: x.Task.ID})
	}
}

// bind binds a pod, unless it has gone.
func (l *lead) bind(task *ledger.Task) {
	l.mu.Lock()
	pod := l.pods[task.ID].DeepCopy()
	if pod == nil {
		l.mu.Unlock()
		return
	}
	pod.Spec.NodeName = task.Node
	pod.Labels["understudy.dev/lease"] = "lease" // which a binding gives it
	l.pods[task.ID] = pod
	if ofLoad(task.ID) {
		l.bindings++
	}
	l.mu.Unlock()
	l.preds.SetPod(pod)
	l.push(ledger.BindDone{Stamp: now(), AppID: task.AppID, TaskID: task.ID, Node: task.Node})
}

func now() ledger.Stamp { return ledger.Stamp{At: ledger.At(time.Now())} }

func (l *lead) push(e ledger.Event) { l.box.Push(e) }

// on has a pod run on one node and nowhere else.
func on(node string) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{v1.LabelHostname: node} }
}

func (l *lead) newPod(name, cpu string, edit ...func(*v1.Pod)) *v1.Pod {
	priority := int32(5)
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "test"}},
		Spec: v1.PodSpec{Priority: &priority, Containers: []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{
			Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse("64Mi")},
		}}}},
	}
	for _, e := range edit {
		e(pod)
	}
	l.mu.Lock()
	l.pods[name] = pod
	l.mu.Unlock()
	l.preds.SetPod(pod)
	return pod
}

func (l *lead) addTask(app string, pod *v1.Pod, group string, placeholder bool) {
	l.push(ledger.AddTask{
		Stamp: now(), AppID: app, ID: string(pod.UID), Namespace: pod.Namespace, Name: pod.Name, Submitted: now().At,
		Resources: engine.ResourcesOf(pod), TaskGroup: group, Placeholder: placeholder,
	})
}

func (l *lead) removePod(task *ledger.Task) {
	l.mu.Lock()
	delete(l.pods, task.ID)
	l.mu.Unlock()
	l.preds.RemovePod(task.ID)
	l.push(ledger.RemoveTask{Stamp: now(), AppID: task.AppID, TaskID: task.ID})
}

// TestLeadOfASuccession is a lead: see TestEqualAfterFailovers, which starts it.
func TestLeadOfASuccession(t *testing.T) {
	dir := os.Getenv(successionVariable)
	if dir == "" {
		t.Skip("TestEqualAfterFailovers starts it")
	}
	left, err := estateIn(dir)
	first := errors.Is(err, os.ErrNotExist)
	if err != nil && !first {
		t.Fatal(err)
	}
	l, err := succeed(t.Context(), left)
	if err != nil {
		t.Fatal(err)
	}
	own := estate{Generation: left.Generation + 1}
	if !first {
		l.load.end(t)
		own.First = l.like(t, left.Last)
		own.Passed = l.passed(t, own.First)
	}
	l.live(t, left.Generation)
	own.Last = l.settled(t)
	if first {
		l.countsAsTheCore(t)
	}
	l.load = l.press(nil)
	l.dies(t, &own)
	if err := own.keep(dir); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%d records, %d requests\n", len(own.Records), len(own.Last))
}

// countsAsTheCore compares what the records say of the use of resources with what a core says that
// was there from the beginning: the most of it, and the seconds but for one of each pod.
func (l *lead) countsAsTheCore(t *testing.T) {
	t.Helper()
	apps := l.engine.Cluster().GetPartitionWithoutClusterID(configs.DefaultPartition).GetApplications()
	if len(apps) == 0 {
		t.Fatal("the core has no applications")
	}
	for _, app := range apps {
		var most map[string]int64
		var consumed []ledger.Consumption
		l.Read(t.Context(), func(state *ledger.Ledger) {
			if record := state.App(app.ApplicationID); record != nil {
				most, consumed = state.MostUsed(record.ID), record.Consumed
			}
		})
		if want := app.GetMaxAllocatedResource().DAOMap(); !maps.Equal(most, want) {
			t.Errorf("%s has used %v at most, the core says %v", app.ApplicationID, most, want)
		}
		for kind, of := range map[ledger.ConsumptionKind]string{
			ledger.ConsumedByPods: "usedResource", ledger.ConsumedByPlaceholders: "placeholderResource", ledger.ConsumedByPreempted: "preemptedResource",
		} {
			want := app.GetTrackedDAOMap(of)
			for _, c := range consumed {
				if c.Kind != kind {
					continue
				}
				instance := cmp.Or(c.InstanceType, objects.UnknownInstanceType)
				off := c.ResourceSeconds["pods"] - want[instance]["pods"]
				if _, has := want[instance]; !has || max(off, -off) > secondsOff {
					t.Errorf("%s has %v in %s of %s, the core has %v", app.ApplicationID, c.ResourceSeconds, of, instance, want)
				}
				delete(want, instance)
			}
			if len(want) > 0 {
				t.Errorf("%s has nothing in %s, the core has %v", app.ApplicationID, of, want)
			}
		}
	}
}

// secondsOff is for how many of the pods that an application had one second more or less counts.
const secondsOff = 5
