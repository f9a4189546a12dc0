package custom

import (
	"cmp"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/requests"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// call is a call of the protocol that follows from an event.
type call func(protocol.ApplicationManagementProtocol)

// book is what a manager knows of objects and their pods. It is pure: an event returns
// the calls that follow from it, in order. It is not safe for concurrent use.
type book struct {
	objects map[types.NamespacedName]*object
	apps    map[string]*app
	tasks   map[types.UID]*task
	// waiting are the pods that are not reported yet, by their object: it is not known,
	// could not be evaluated, or is suspended.
	waiting map[types.NamespacedName]map[types.UID]*v1.Pod
	// waitsFor is the object of each of them.
	waitsFor map[types.UID]types.NamespacedName
	// leaving is told of an application of which nothing is left.
	leaving func(id string)
}

type object struct {
	uid types.UID
	// matches is false for one that is not for this manager. It is true before that is
	// known.
	matches bool
	// said is what was evaluated last; app is nil before that.
	said Evaluation
	app  *app
}

// app is an application, which may be that of several objects.
type app struct {
	id      string
	objects map[types.NamespacedName]*object
	tasks   map[types.UID]*task
	// meta is as its oldest object says.
	meta protocol.ApplicationMetadata
	// begun says that it was reported, ended how it was reported to have ended.
	begun bool
	ended Phase
}

type task struct {
	app  *app
	pod  *v1.Pod
	meta protocol.TaskMetadata
	over bool
}

func newBook(leaving func(id string)) *book {
	return &book{
		leaving: leaving,
		objects: make(map[types.NamespacedName]*object), apps: make(map[string]*app), tasks: make(map[types.UID]*task),
		waiting:  make(map[types.NamespacedName]map[types.UID]*v1.Pod),
		waitsFor: make(map[types.UID]types.NamespacedName),
	}
}

// exists notes an object of which nothing could be evaluated. Its pods wait.
func (b *book) exists(key types.NamespacedName, uid types.UID) {
	if known := b.objects[key]; known == nil || known.uid != uid {
		b.objects[key] = &object{uid: uid, matches: true}
	}
}

// unread reports whether there is an object of which nobody can say what application it has.
func (b *book) unread() bool {
	for _, o := range b.objects {
		if o.matches && o.app == nil {
			return true
		}
	}
	return false
}

// evaluated takes over what an object says. group names the task group of a pod.
func (b *book) evaluated(key types.NamespacedName, uid types.UID, said Evaluation, group func(*v1.Pod, *app) string) []call {
	b.exists(key, uid)
	o := b.objects[key]
	if o.matches = said.Matches; !o.matches {
		b.forget(key)
		return b.leave(o, key)
	}
	if o.app == nil {
		o.app = b.app(said.App.ApplicationID)
		o.app.objects[key] = o
	}
	// Pods belong to the application for which they were first reported.
	said.App.ApplicationID = o.app.id
	o.said = said
	o.app.describe()
	calls := o.app.settle()
	for _, pod := range b.waitingFor(key) {
		if !o.holdsBack(pod) {
			b.stopWaiting(pod.UID)
			calls = append(calls, b.report(o.app, pod, group(pod, o.app), false)...)
		}
	}
	return calls
}

// waitingFor returns the pods that wait for an object, the oldest first.
func (b *book) waitingFor(key types.NamespacedName) []*v1.Pod {
	return slices.SortedFunc(maps.Values(b.waiting[key]), func(x, y *v1.Pod) int {
		return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp.Time), cmp.Compare(x.Name, y.Name))
	})
}

// holdsBack reports whether a pod is not to be placed yet.
func (o *object) holdsBack(pod *v1.Pod) bool {
	return o.app == nil || o.said.Phase == Suspended && pod.Spec.NodeName == ""
}

func (b *book) app(id string) *app {
	a := b.apps[id]
	if a == nil {
		a = &app{id: id, objects: make(map[types.NamespacedName]*object), tasks: make(map[types.UID]*task)}
		b.apps[id] = a
	}
	return a
}

// describe chooses the object that speaks for the application.
func (a *app) describe() {
	var oldest *object
	var name types.NamespacedName
	for key, o := range a.objects {
		if oldest == nil || cmp.Or(cmp.Compare(o.said.App.CreationTime, oldest.said.App.CreationTime), cmp.Compare(key.String(), name.String())) < 0 {
			oldest, name = o, key
		}
	}
	if oldest != nil {
		a.meta = oldest.said.App
	}
}

// phase returns how the application as a whole has ended, empty while it has not.
func (a *app) phase() Phase {
	phase := Succeeded
	for _, o := range a.objects {
		switch {
		case !o.said.Phase.Ended():
			return ""
		case o.said.Phase == Failed:
			phase = Failed
		}
	}
	return phase
}

// settle begins the application with its object, or ends it with its last one.
func (a *app) settle() []call {
	if len(a.objects) == 0 {
		return nil
	}
	if phase := a.phase(); phase != "" {
		if a.ended == phase {
			return nil
		}
		calls := []call{a.end(phase)}
		a.ended, a.begun = phase, false
		return calls
	}
	a.ended = ""
	for _, o := range a.objects {
		if !a.begun && o.said.Scheduled && o.said.Phase != Suspended && !o.said.Phase.Ended() {
			return []call{a.begin(nil)}
		}
	}
	return nil
}

// begin reports the application. If it may be for a task that a predecessor has seen, one
// that ended with that task in it is not begun anew.
func (a *app) begin(known *protocol.TaskMetadata) call {
	a.begun = true
	meta := cloned(a.meta)
	return func(amp protocol.ApplicationManagementProtocol) {
		if known != nil {
			if is := amp.GetApplication(meta.ApplicationID); is != nil {
				if _, err := is.GetTask(known.TaskID); err == nil || !managers.Ended(is.GetApplicationState()) {
					return
				}
			}
		}
		amp.AddApplication(&protocol.AddApplicationRequest{Metadata: meta})
	}
}

// end reports that the application has ended, unless nobody knows of it.
func (a *app) end(phase Phase) call {
	id, begun := a.id, a.begun
	return func(amp protocol.ApplicationManagementProtocol) {
		if !begun {
			if is := amp.GetApplication(id); is == nil || managers.Ended(is.GetApplicationState()) {
				return
			}
		}
		if phase == Failed {
			amp.NotifyApplicationFail(id)
		} else {
			amp.NotifyApplicationComplete(id)
		}
	}
}

// gone takes note that an object does not exist any more.
func (b *book) gone(key types.NamespacedName) []call {
	o := b.objects[key]
	if o == nil {
		return nil
	}
	delete(b.objects, key)
	b.forget(key)
	return b.leave(o, key)
}

// leave takes an object from its application.
func (b *book) leave(o *object, key types.NamespacedName) []call {
	a := o.app
	if a == nil {
		return nil
	}
	o.app = nil
	delete(a.objects, key)
	if b.left(a) {
		return nil
	}
	a.describe()
	return a.settle()
}

// left reports whether nothing is left of an application, and has it removed then.
func (b *book) left(a *app) bool {
	if len(a.objects) > 0 || len(a.tasks) > 0 {
		return false
	}
	b.leaving(a.id)
	return true
}

// forget drops the pods that wait for an object.
func (b *book) forget(key types.NamespacedName) {
	for uid := range b.waiting[key] {
		delete(b.waitsFor, uid)
	}
	delete(b.waiting, key)
}

func (b *book) stopWaiting(uid types.UID) {
	key, ok := b.waitsFor[uid]
	if !ok {
		return
	}
	delete(b.waitsFor, uid)
	delete(b.waiting[key], uid)
	if len(b.waiting[key]) == 0 {
		delete(b.waiting, key)
	}
}

// pod takes note of a pod of an object that has not been reported before. initial says
// that a predecessor may have.
func (b *book) pod(key types.NamespacedName, pod *v1.Pod, group func(*v1.Pod, *app) string, initial bool) []call {
	o := b.objects[key]
	switch {
	case workload.Over(pod):
		b.stopWaiting(pod.UID)
		if initial && o != nil && o.app != nil {
			return []call{completes(o.app.id, pod.UID)}
		}
		return nil
	case pod.Spec.NodeName == "" && len(pod.Spec.SchedulingGates) > 0:
		return nil // the API server would refuse to bind it
	case o != nil && !o.matches:
		return nil
	case o == nil || o.holdsBack(pod):
		if b.waiting[key] == nil {
			b.waiting[key] = make(map[types.UID]*v1.Pod)
		}
		b.waiting[key][pod.UID], b.waitsFor[pod.UID] = pod, key
		return nil
	}
	b.stopWaiting(pod.UID)
	return b.report(o.app, pod, group(pod, o.app), initial)
}

// placeholder takes note of a placeholder of an application that has not been reported
// before.
func (b *book) placeholder(a *app, pod *v1.Pod, group string) []call {
	if workload.Over(pod) {
		return nil
	}
	return b.report(a, pod, group, false)
}

// report makes a task of a pod.
func (b *book) report(a *app, pod *v1.Pod, group string, initial bool) []call {
	meta, _ := workload.ParseTask(pod)
	meta.ApplicationID, meta.TaskGroupName = a.id, group
	b.tasks[pod.UID] = &task{app: a, pod: pod, meta: meta}
	a.tasks[pod.UID] = b.tasks[pod.UID]
	if meta.Placeholder {
		return []call{adds(meta)} // A late one must not begin an application anew.
	}
	var known *protocol.TaskMetadata
	if initial {
		known = &meta
	}
	return []call{a.begin(known), adds(meta)}
}

// reporter is what a protocol may have besides: it takes a task without an answer, which
// spares the lead a question for each pod.
type reporter interface {
	Report(request *protocol.AddTaskRequest) bool
}

func adds(meta protocol.TaskMetadata) call {
	return func(amp protocol.ApplicationManagementProtocol) {
		request := &protocol.AddTaskRequest{Metadata: meta}
		if quick, ok := amp.(reporter); ok {
			quick.Report(request)
			return
		}
		amp.AddTask(request)
	}
}

// changed takes note of a new version of a pod that has been reported.
func (b *book) changed(t *task, pod *v1.Pod) []call {
	old := t.pod
	t.pod, t.meta.Pod = pod, pod
	switch {
	case t.over:
		return nil
	case workload.Over(pod):
		t.over = true
		return []call{completes(t.app.id, pod.UID)}
	case old.Spec.NodeName != pod.Spec.NodeName || !requests.Same(old, pod):
		return []call{adds(t.meta)}
	}
	return nil
}

// deleted takes note that a pod is gone.
func (b *book) deleted(pod *v1.Pod) []call {
	b.stopWaiting(pod.UID)
	t := b.tasks[pod.UID]
	if t == nil {
		return nil
	}
	delete(b.tasks, pod.UID)
	delete(t.app.tasks, pod.UID)
	b.left(t.app)
	id := t.app.id
	return []call{completes(id, pod.UID), func(amp protocol.ApplicationManagementProtocol) { amp.RemoveTask(id, string(pod.UID)) }}
}

func completes(appID string, uid types.UID) call {
	return func(amp protocol.ApplicationManagementProtocol) { amp.NotifyTaskComplete(appID, string(uid)) }
}

// cloned returns metadata that belongs to the receiver.
func cloned(meta protocol.ApplicationMetadata) protocol.ApplicationMetadata {
	meta.Tags = maps.Clone(meta.Tags)
	meta.OwnerReferences = slices.Clone(meta.OwnerReferences)
	groups := make([]v1alpha1.TaskGroup, len(meta.TaskGroups))
	for i := range meta.TaskGroups {
		meta.TaskGroups[i].DeepCopyInto(&groups[i])
	}
	if len(groups) > 0 {
		meta.TaskGroups = groups
	}
	return meta
}
