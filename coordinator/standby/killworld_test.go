package standby

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	clienttesting "k8s.io/client-go/testing"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/loop"
	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/managers/managerstest"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

var (
	podResource   = v1.SchemeGroupVersion.WithResource("pods")
	eventResource = v1.SchemeGroupVersion.WithResource("events")
)

// killWorld is an API server, etcd, and two replicas of which one leads, in virtual time.
// Managers, gates, reconciliation, ledger, loop and executors are the real ones. The
// engine is a simple one that places what it is asked for, and what is written to etcd is
// durable at once.
type killWorld struct {
	t *testing.T
	*managerstest.World
	managers []managers.Entry
	api      *fake.Clientset
	tracker  clienttesting.ObjectTracker
	version  atomic.Int64
	// places is for how many pods nodes have room.
	places atomic.Int64
	// stuck says that no pod can be deleted by who leads.
	stuck   atomic.Bool
	started int

	mu      sync.Mutex // guards what follows
	etcd    map[ledger.Key][]byte
	commits int
	// dieAt is the commit at which the lead dies, zero for none; lost says that the
	// commit is lost with it, else it is durable and nothing has come of it.
	dieAt     int
	lost      bool
	followers []*killReplica
	// made are the placeholders that there have ever been, by name.
	made map[string]bool

	lead, next *killReplica
}

// newKillWorld makes a world in which a replica leads. before makes what is there before any replica.
func newKillWorld(t *testing.T, enabled []managers.Entry, before ...func(*killWorld)) *killWorld {
	w := &killWorld{
		t: t, World: managerstest.New(t, killKinds), managers: enabled, etcd: make(map[ledger.Key][]byte), api: &fake.Clientset{},
		made:    make(map[string]bool),
		tracker: clienttesting.NewObjectTracker(scheme.Scheme, scheme.Codecs.UniversalDecoder()),
	}
	w.places.Store(manyPods)
	w.api.AddReactor("create", "pods", w.createPod)
	w.api.AddReactor("patch", "pods", w.patchPod)
	w.api.AddReactor("delete", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		return w.stuck.Load(), nil, apierrors.NewInternalError(errors.New("stuck"))
	})
	w.api.AddReactor("*", "*", clienttesting.ObjectReaction(w.tracker))
	w.api.AddWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		var opts metav1.ListOptions
		if of, ok := a.(clienttesting.WatchActionImpl); ok {
			opts = of.ListOptions
		}
		events, err := w.tracker.Watch(a.GetResource(), a.GetNamespace(), opts)
		return true, events, err
	})
	for _, do := range before {
		do(w)
	}
	w.lead, w.next = w.start(), w.start()
	w.promote(w.lead)
	t.Cleanup(func() {
		w.lead.stop()
		w.next.stop()
	})
	return w
}

// stamped gives an object what an API server gives it.
func (w *killWorld) stamped(pod *v1.Pod) *v1.Pod {
	pod.ResourceVersion = fmt.Sprint(1000 + w.version.Add(1))
	if pod.UID == "" {
		pod.UID = types.UID(pod.Name)
	}
	if pod.CreationTimestamp.IsZero() {
		pod.CreationTimestamp = metav1.Now()
	}
	return pod
}

// createPod creates a pod, or binds one.
func (w *killWorld) createPod(a clienttesting.Action) (bool, runtime.Object, error) {
	create, _ := a.(clienttesting.CreateActionImpl)
	if pod, ok := create.GetObject().(*v1.Pod); ok {
		pod = pod.DeepCopy()
		// A placeholder that is made anew may have the name of one that is gone.
		pod.UID = types.UID(fmt.Sprintf("%s-%010d", pod.Name, w.version.Add(1)))
		pod = w.stamped(pod)
		pod.Status.Phase = v1.PodPending
		err := w.tracker.Create(podResource, pod, pod.Namespace)
		w.mu.Lock()
		defer w.mu.Unlock()
		if err == nil && w.made[pod.Name] {
			w.t.Errorf("placeholder %s is created again", pod.Name)
		}
		w.made[pod.Name] = w.made[pod.Name] || err == nil
		return true, pod, err
	}
	binding, ok := create.GetObject().(*v1.Binding)
	if !ok {
		return false, nil, nil
	}
	found, err := w.tracker.Get(podResource, binding.Namespace, binding.Name)
	if err != nil {
		return true, nil, err
	}
	pod, _ := found.(*v1.Pod)
	if pod.UID != binding.UID || pod.Spec.NodeName != "" {
		return true, nil, apierrors.NewConflict(podResource.GroupResource(), pod.Name, nil)
	}
	pod.Spec.NodeName = binding.Target.Name
	return true, binding, w.tracker.Update(podResource, w.stamped(pod), pod.Namespace)
}

// patchPod patches a pod that is still in the version which the patch names.
func (w *killWorld) patchPod(a clienttesting.Action) (bool, runtime.Object, error) {
	patch, _ := a.(clienttesting.PatchActionImpl)
	var of struct {
		Metadata struct{ ResourceVersion string }
	}
	if err := json.Unmarshal(patch.GetPatch(), &of); err != nil {
		return true, nil, err
	}
	found, err := w.tracker.Get(podResource, patch.GetNamespace(), patch.GetName())
	if err != nil {
		return true, nil, err
	}
	if version := of.Metadata.ResourceVersion; version != "" && version != found.(*v1.Pod).ResourceVersion {
		return true, nil, apierrors.NewConflict(podResource.GroupResource(), patch.GetName(), nil)
	}
	_, patched, err := clienttesting.ObjectReaction(w.tracker)(a)
	if pod, ok := patched.(*v1.Pod); ok && err == nil {
		return true, pod, w.tracker.Update(podResource, w.stamped(pod), pod.Namespace)
	}
	return true, nil, err
}

// pod creates a pod to schedule; its name is its UID.
func (w *killWorld) pod(name string, labels map[string]string, edit func(*v1.Pod)) {
	w.t.Helper()
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: labels, Annotations: map[string]string{}},
		Spec:       v1.PodSpec{SchedulerName: workload.DefaultSchedulerName, Containers: []v1.Container{{Name: "main"}}},
		Status:     v1.PodStatus{Phase: v1.PodPending},
	}
	if edit != nil {
		edit(pod)
	}
	w.do(w.tracker.Create(podResource, w.stamped(pod), "ns"))
}

// pods changes the phase of pods as their kubelet does; of one that has no node, nothing
// changes.
func (w *killWorld) pods(phase v1.PodPhase, names ...string) {
	w.t.Helper()
	for _, name := range names {
		pod := w.podNow(name)
		if pod.Spec.NodeName == "" {
			w.t.Errorf("pod %s has no node and cannot be %s", name, phase)
		}
		pod.Status.Phase = phase
		w.do(w.tracker.Update(podResource, w.stamped(pod), "ns"))
	}
}

func (w *killWorld) podNow(name string) *v1.Pod {
	w.t.Helper()
	found, err := w.tracker.Get(podResource, "ns", name)
	w.do(err)
	return found.(*v1.Pod)
}

func (w *killWorld) deletePods(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.do(w.tracker.Delete(podResource, "ns", name))
	}
}

func (w *killWorld) do(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// killReplica is a replica, which follows until it is promoted.
type killReplica struct {
	w       *killWorld
	s       *Standby
	cluster *kube.Cluster
	client  kubernetes.Interface
	view    *killView
	engine  *killEngine
	dead    atomic.Bool
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	box      *loop.Mailbox // since it leads, like what follows
	binder   *kube.Binder
	executor *kube.Pods
	recorder *kube.Recorder
}

// start starts a replica, which follows what etcd holds.
func (w *killWorld) start() *killReplica {
	w.t.Helper()
	w.started++
	r := &killReplica{w: w, view: &killView{l: ledger.New()}}
	r.engine = newKillEngine(r)
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.client = w.clientOf(r)
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(w.t.Output(), nil)).With("replica", w.started)
	}
	r.cluster = kube.New(&kube.Clients{Reads: r.client}, kube.ClusterConfig{SchedulerName: workload.DefaultSchedulerName}, log)
	objects := w.Deps("")
	writes := w.Client(func() error {
		if r.dead.Load() {
			return kube.ErrFenced
		}
		return nil
	})
	r.s = New(Config{
		Cluster: r.cluster, Writes: r.client, View: r.view, Registry: killRegistry, Managers: w.managers,
		Dynamic: objects.Reads, DynamicWrites: writes, Discovery: objects.Discovery, Configured: func() {}, Now: time.Now,
		SchedulerName: workload.DefaultSchedulerName, UserLabel: workload.DefaultUserLabel, Log: log,
	})
	var err error
	r.s.preds, err = predicates.New(log)
	w.do(err)
	r.s.tell, r.s.remembered = r.engine.do, r.s.preds.Pod
	w.do(r.s.hire(managers.Deps{
		Reads: objects.Reads, Writes: writes, Discovery: objects.Discovery,
		SchedulerName: workload.DefaultSchedulerName, UserLabel: workload.DefaultUserLabel, Resources: engine.ResourcesOf,
		Problems: r.s.problems, Event: r.s.tellObject, Now: time.Now, Log: log,
	}))
	r.running.Go(func() { _ = r.cluster.Run(r.ctx) })
	w.do(r.cluster.Follow(r.ctx, killFollower{follower{r.s}}))
	w.mu.Lock()
	for key, value := range w.etcd {
		r.view.l.Apply(decoded(w.t, key, value))
	}
	w.followers = append(w.followers, r)
	w.mu.Unlock()
	r.s.staff.start(r.ctx, func(string) {})
	w.do(r.s.begin(func() error { return nil }))
	return r
}

// clientOf returns the client of a replica, which writes nothing once that is dead.
func (w *killWorld) clientOf(r *killReplica) kubernetes.Interface {
	client := &fake.Clientset{}
	client.AddReactor("*", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if verb := a.GetVerb(); r.dead.Load() && verb != "get" && verb != "list" {
			return true, nil, kube.ErrFenced
		}
		object, err := w.api.Invokes(a, nil)
		return true, object, err
	})
	client.AddWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		events, err := w.api.InvokesWatch(a)
		return true, events, err
	})
	return client
}

// stop ends what a replica started. It is dead from the beginning.
func (r *killReplica) stop() {
	r.dead.Store(true)
	r.w.mu.Lock()
	r.w.followers = slices.DeleteFunc(r.w.followers, func(f *killReplica) bool { return f == r })
	r.w.mu.Unlock()
	if r.box != nil {
		r.box.Close()
		r.binder.Stop()
		r.executor.Stop()
		r.recorder.Stop()
	}
	r.cluster.Unfollow()
	r.cancel()
	r.s.Stop()
	r.running.Wait()
}

// killFollower follows pods. There are no nodes, and no pods of others.
type killFollower struct{ follower }

func (killFollower) Configure(map[string]string, error) {}

// killView is what a replica follows of etcd.
type killView struct {
	mu    sync.Mutex
	l     *ledger.Ledger
	taken bool
}

func (*killView) Synced() bool                                { return true }
func (*killView) Configuration() (record.Configuration, bool) { return record.Configuration{}, false }

func (v *killView) Read(read func(*ledger.Ledger)) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.taken {
		return false
	}
	read(v.l)
	return true
}

func (v *killView) take() *ledger.Ledger {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.taken = true
	return v.l
}

// keyed is where etcd has a record.
var keyed = record.Keys{Prefix: "/p"}

func encoded(c ledger.Change) []byte {
	if c.App != nil {
		return record.EncodeApp(c.App)
	}
	return record.EncodeTask(c.Task)
}

func decoded(t *testing.T, key ledger.Key, value []byte) ledger.Change {
	if value == nil {
		return ledger.Change{Key: key}
	}
	entry, err := keyed.Decode(keyed.Record(key), value)
	if err != nil {
		t.Error(err)
	}
	return entry.Change()
}

// Append is the mirror of a lead.
func (r *killReplica) Append(changes []ledger.Change, done func()) {
	w := r.w
	w.mu.Lock()
	if len(changes) > 0 && !r.dead.Load() {
		w.commits++
		if w.commits == w.dieAt {
			r.dead.Store(true)
		}
		if w.commits != w.dieAt || !w.lost {
			for _, c := range changes {
				w.put(c)
			}
		}
	}
	w.mu.Unlock()
	if done != nil && !r.dead.Load() {
		done()
	}
}

// put writes a change, and tells those who follow. w.mu is held.
func (w *killWorld) put(c ledger.Change) {
	w.deadlineStays(c)
	if c.Deleted() {
		delete(w.etcd, c.Key)
	} else {
		w.etcd[c.Key] = encoded(c)
	}
	for _, f := range w.followers {
		f.view.mu.Lock()
		change := decoded(w.t, c.Key, w.etcd[c.Key])
		f.view.l.Apply(change)
		f.s.Apply(f.view.l, change)
		f.view.mu.Unlock()
	}
}

// deadlineStays checks that a gang has one deadline in its life, whoever leads. w.mu is held.
func (w *killWorld) deadlineStays(c ledger.Change) {
	if c.App == nil || w.etcd[c.Key] == nil {
		return
	}
	was := decoded(w.t, c.Key, w.etcd[c.Key]).App
	same := len(was.StateLog) > 0 && len(c.App.StateLog) > 0 && was.StateLog[0] == c.App.StateLog[0]
	if same && was.PlaceholderDeadline != 0 && was.PlaceholderDeadline != c.App.PlaceholderDeadline {
		w.t.Errorf("the deadline of %s was %v and is %v", c.Key.AppID, was.PlaceholderDeadline, c.App.PlaceholderDeadline)
	}
}

// promote has a replica lead: see package term, which does the same.
func (w *killWorld) promote(r *killReplica) {
	synctest.Wait() // it has caught up
	w.mu.Lock()
	w.followers = slices.DeleteFunc(w.followers, func(f *killReplica) bool { return f == r })
	w.mu.Unlock()
	state := r.view.take()
	box := loop.NewMailbox(8192)
	sink := func(e ledger.Event) { box.Push(e) }
	log := slog.New(slog.DiscardHandler)
	r.box = box
	r.binder = kube.NewBinder(r.client, 0, kube.Tenure{}, sink, log)
	r.executor = kube.NewPods(r.client, kube.PodsConfig{Image: "pause"}, sink, log)
	r.recorder = kube.NewRecorder(r.client, kube.RecorderConfig{Instance: fmt.Sprint(w.started), Pod: r.cluster.Pod}, log)
	r.s.SetVoice(r.recorder)
	found := r.s.Promote(Promotion{
		Context: r.ctx, Mailbox: box, State: state, Keys: keyed, Stuck: func(error) {}, Step: (*ledger.Ledger).Step, Now: time.Now,
	})
	running := loop.New(loop.Config{
		Ledger: state, Mailbox: box, Journal: r, Inside: func(e ledger.Effect) { _ = r.engine.do(e) }, Outside: r.outside,
		Durable: r.s.Durable, Now: time.Now,
	})
	running.Commit(found.Changes.All(), found.Outside)
	r.s.mu.Lock()
	r.s.fed = nil
	r.s.staff.recount(state)
	r.s.mu.Unlock()
	r.engine.engage(box)
	r.Append(nil, r.s.Announce)
	for _, effect := range state.Due(ledger.At(time.Now())) {
		if effect.External() {
			running.Commit(nil, []ledger.Effect{effect})
		} else {
			_ = r.engine.do(effect)
		}
	}
	for _, effect := range state.Recent(ledger.At(time.Now().Add(-2 * stateLasts))) {
		r.outside(effect)
	}
	r.running.Go(func() { running.Run(r.ctx) })
	r.running.Go(r.s.Replay)
}

// outside carries out effects on the cluster.
func (r *killReplica) outside(effect ledger.Effect) {
	if r.dead.Load() {
		return
	}
	switch x := effect.(type) {
	case ledger.Bind:
		r.binder.Do(x)
	case ledger.CreatePlaceholder, ledger.CancelPlaceholders, ledger.DeletePod, ledger.FailPod:
		r.executor.Do(x)
	case ledger.ReportTask:
		r.recorder.Task(x)
	}
}

// settle waits until nothing more happens. A lead that has died meanwhile is succeeded.
func (w *killWorld) settle() {
	for {
		synctest.Wait()
		time.Sleep(stateLasts)
		synctest.Wait()
		if !w.lead.dead.Load() {
			break
		}
		w.failOver(false, nil)
	}
	w.next.s.settle()
}

// failOver has the lead die, and then the understudy lead: one that has just been started
// if it is cold. meanwhile is done while nobody leads.
func (w *killWorld) failOver(cold bool, meanwhile func()) {
	w.lead.stop()
	if meanwhile != nil {
		meanwhile()
		synctest.Wait()
	}
	if cold {
		w.next.stop()
		w.next = w.start()
	}
	w.lead = w.next
	w.promote(w.lead)
	w.next = w.start()
}
