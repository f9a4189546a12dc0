package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/managers/general"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// standby is what a replica keeps ready beside its view, so that taking over
// costs what has changed and not what exists: an engine that is fed and held, an
// app manager that knows all pods, and the few tasks over which ledger and
// cluster do not agree at the moment. The lead takes it over as it is.
type standby struct {
	r   *replica
	log *slog.Logger

	// These are made by prepare and not changed after it.
	preds   *predicates.Cache
	engine  *engine.Engine
	general *general.Manager
	// recorder tells users about their pods; nil until this replica leads.
	recorder atomic.Pointer[kube.Recorder]

	mu sync.Mutex
	// why is what is missing before this replica can lead, empty for nothing.
	why string
	// ledger is a copy of the view's state, nil before prepare has made it and
	// after the promotion.
	ledger *ledger.Ledger
	// tell carries out effects on the engine.
	tell func(ledger.Effect) error
	// fed are the applications that the engine has been told of.
	fed map[string]bool
	// suspects are tasks that have changed in the ledger or in the cluster, by
	// UID, until both are seen to agree.
	suspects map[string]suspect
	led      bool
}

// suspect says where to look for a task.
type suspect struct {
	app             string
	namespace, name string // of its pod; empty if only the ledger knows
}

func newStandby(r *replica) *standby {
	return &standby{
		r: r, log: r.log, why: "the engine has not been started yet",
		fed: make(map[string]bool), suspects: make(map[string]suspect),
	}
}

// settlePeriod is how often suspects are looked at. A pod becomes one by each step
// from its creation to its start, most of which are less than that apart; a promotion
// looks at those that have not been settled yet.
const settlePeriod = 200 * time.Millisecond

// run prepares the standby and keeps it current until ctx ends; then the engine
// is stopped.
func (s *standby) run(ctx context.Context) error {
	defer s.stop()
	if err := s.prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	tick := time.NewTicker(settlePeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.settle()
		}
	}
}

func (s *standby) stop() {
	if s.general != nil {
		s.general.Stop()
	}
	if s.engine != nil {
		s.r.cluster.Unfollow()
		s.engine.Stop()
	}
}

// prepare starts the engine, held, and feeds it all that exists.
func (s *standby) prepare(ctx context.Context) error {
	r := s.r
	if err := r.cluster.WaitForSync(ctx); err != nil {
		return err
	}
	configuration, err := s.configuration(ctx)
	if err != nil {
		return err
	}
	s.missing("the engine is being fed")
	factory := r.cluster.Factory()
	if s.preds, err = predicates.New(s.log, predicates.WithNamespaces(factory), predicates.WithVolumes(factory, r.kube.Writes)); err != nil {
		return fmt.Errorf("predicates: %w", err)
	}
	running := engine.Default()
	running.Version = r.opts.Version
	running.ConfigYAML = configuration
	running.OnUnschedulable = s.unschedulable
	running.PriorityClass = r.cluster.PriorityClass
	if s.engine, err = engine.Start(running, s.preds, s.heard, s.log); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	s.tell = s.engine.Do
	if err := r.cluster.Follow(ctx, follower{s}); err != nil {
		return err
	}
	s.general = general.New(rehearsal{s}, r.cluster, general.Config{
		SchedulerName: r.cfg.SchedulerName,
		UserLabel:     r.cfg.Workload.UserLabel,
		Resources:     engine.ResourcesOf,
	}, s.problems, s.log)
	if err := errors.Join(s.general.ServiceInit(), s.general.Start()); err != nil {
		return err
	}
	if err := s.awaitView(ctx); err != nil {
		return err
	}
	return s.begin(r.view.Ledger, func() error { return s.engine.Sync(ctx) })
}

// configurationPeriod is how often a queue configuration that is not valid is
// looked at again.
const configurationPeriod = time.Second

// configuration returns the queue configuration once it is valid. Without one
// there are no quotas to schedule by, so the replica waits, and says why. One
// that becomes invalid later changes nothing: the last valid one stays in force.
func (s *standby) configuration(ctx context.Context) (map[string]string, error) {
	told := ""
	for {
		data, err := s.r.cluster.Configuration()
		if err == nil {
			err = engine.Validate(data)
		}
		if err == nil {
			return data, nil
		}
		if err.Error() != told {
			told = err.Error()
			s.missing("the queue configuration is not valid: " + told)
			s.log.Error("queue configuration is not valid: this replica cannot lead until it is", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(configurationPeriod):
		}
	}
}

func (s *standby) awaitView(ctx context.Context) error {
	tick := time.NewTicker(readyPeriod)
	defer tick.Stop()
	for !s.r.view.Synced() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

func (s *standby) missing(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = why
}

// ready returns what is missing before this replica can lead.
func (s *standby) ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != "" {
		return errors.New(s.why)
	}
	return nil
}

// heard takes the events of the engine, which come only from one that leads.
func (s *standby) heard(event ledger.Event) {
	if l := s.r.lead.Load(); l != nil {
		l.box.push(item{event: event})
	}
}

// unschedulable tells the user of a pod why it fits nowhere.
func (s *standby) unschedulable(_, taskID, reason string) {
	if recorder, pod := s.recorder.Load(), s.preds.Pod(taskID); recorder != nil && pod != nil {
		recorder.Pod(pod, true, "FailedScheduling", reason)
	}
}

func (s *standby) problems(pod *v1.Pod, found []workload.Problem) {
	if recorder := s.recorder.Load(); recorder != nil {
		recorder.Problems(pod, found)
	}
}

// begin follows the view from here: the engine is told of all that it holds, and sync
// waits until it has taken that. Then this replica can lead, but not before every task
// has been looked at: each is a suspect until then, and a promotion would look at all.
func (s *standby) begin(view func() *ledger.Ledger, sync func() error) error {
	s.mu.Lock()
	s.feedFrom(view()) // with the lock held, so that no change is missed between the two
	s.mu.Unlock()
	if err := sync(); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	s.settle()
	s.missing("")
	return nil
}

// feedFrom feeds all of a ledger, which becomes the standby's. A change that it
// holds already may be applied again. s.mu is held.
func (s *standby) feedFrom(l *ledger.Ledger) {
	s.ledger = l
	for app := range s.ledger.Apps() {
		s.feedApp(app.ID)
		for task := range s.ledger.Tasks(app.ID) {
			s.suspect(task.ID, suspect{app.ID, task.Namespace, task.Name})
		}
	}
	for task := range s.ledger.Orphans() {
		s.suspect(task.ID, suspect{task.AppID, task.Namespace, task.Name})
	}
}

// apply follows one change of the view, or of the reconciled state.
func (s *standby) apply(c ledger.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ledger == nil {
		return
	}
	if c.Key.TaskID == "" {
		s.ledger.Apply(c)
		s.feedApp(c.Key.AppID)
		return
	}
	before := s.ledger.Task(c.Key.AppID, c.Key.TaskID)
	s.ledger.Apply(c)
	s.feedTask(c.Key, before)
	at := suspect{app: c.Key.AppID}
	if task := cmpOr(c.Task, before); task != nil {
		at.namespace, at.name = task.Namespace, task.Name
	}
	s.suspect(c.Key.TaskID, at)
}

func cmpOr(a, b *ledger.Task) *ledger.Task {
	if a != nil {
		return a
	}
	return b
}

// wants reports whether the engine has to know an application: see
// ledger.Feed. A gang that is still waiting is told of with its first placeholder,
// because the engine's clock for it starts with what it is told then.
func (s *standby) wants(app *ledger.App) bool {
	switch {
	case app == nil:
		return false
	case s.ledger.Placed(app.ID) > 0:
		return true
	case app.State.Terminal():
		return s.ledger.Live(app.ID) > 0
	}
	return app.State != ledger.AppStateSubmitted && len(app.TaskGroups) == 0
}

// feedApp tells the engine of an application as it is now. s.mu is held.
func (s *standby) feedApp(id string) {
	app := s.ledger.App(id)
	if !s.wants(app) {
		if s.fed[id] {
			delete(s.fed, id)
			s.do(ledger.ForgetApp{AppID: id})
		}
		return
	}
	s.do(ledger.SubmitApp{App: app, Recovery: true})
	if s.fed[id] {
		return
	}
	s.fed[id] = true
	for task := range s.ledger.Tasks(id) {
		if task.Placed() {
			s.do(ledger.Restore{App: app, Task: task})
		}
	}
}

// feedTask tells the engine of what has become of a task. s.mu is held.
func (s *standby) feedTask(key ledger.Key, before *ledger.Task) {
	fed := s.fed[key.AppID]
	s.feedApp(key.AppID)
	task := s.ledger.Task(key.AppID, key.TaskID)
	switch {
	case !fed || !s.fed[key.AppID]: // told with the application, or forgotten with it
	case task != nil && task.Placed():
		s.do(ledger.Restore{App: s.ledger.App(key.AppID), Task: task})
	case before != nil && before.Placed():
		why := ledger.StoppedByRM
		if task != nil && task.Termination != ledger.NotTerminated {
			why = task.Termination
		}
		s.do(ledger.Release{Task: before, Termination: why})
	}
}

func (s *standby) do(effect ledger.Effect) {
	if _, exists := effect.(ledger.Restore); exists && failpoint.Off(failpoint.RecoveryGuard) {
		return
	}
	if err := s.tell(effect); err != nil && !errors.Is(err, engine.ErrStopped) {
		s.log.Error("engine refused", "effect", fmt.Sprintf("%T", effect), "err", err)
	}
}

// suspect notes that a task has to be looked at, as long as this replica does
// not lead. s.mu is held.
func (s *standby) suspect(uid string, at suspect) {
	if s.led {
		return
	}
	if known, ok := s.suspects[uid]; ok && at.name == "" {
		at.namespace, at.name = known.namespace, known.name
	}
	s.suspects[uid] = at
}

// notePod notes a change of a pod that may be a task.
func (s *standby) notePod(pod *v1.Pod) {
	if !workload.Ours(pod, s.r.cfg.SchedulerName) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspect(string(pod.UID), suspect{workload.AppID(pod), pod.Namespace, pod.Name})
}

// noteTask does the same where only the task is known.
func (s *standby) noteTask(app, uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspect(uid, suspect{app: app})
}

// settleBatch is how many suspects are looked at before others get to tell of
// changes. A look takes some tens of microseconds.
const settleBatch = 64

// settle drops the suspects over which ledger and cluster agree.
func (s *standby) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	looked := 0
	for uid, at := range s.suspects {
		if s.led || s.ledger == nil {
			return
		}
		if _, agrees := s.look(s.ledger, uid, at); agrees {
			delete(s.suspects, uid)
		}
		if looked++; looked%settleBatch == 0 {
			s.mu.Unlock()
			s.mu.Lock()
		}
	}
}

// promote ends the following and returns what ledger and cluster do not agree
// about, in a stable order. state is the view's, which the engine has been told.
func (s *standby) promote(state *ledger.Ledger) []finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.led = true
	var findings []finding
	for uid, at := range s.suspects {
		if f, agrees := s.look(state, uid, at); !agrees {
			findings = append(findings, f)
		}
	}
	s.suspects = nil
	slices.SortFunc(findings, func(a, b finding) int {
		if a.key.AppID != b.key.AppID {
			return compare(a.key.AppID, b.key.AppID)
		}
		return compare(a.key.TaskID, b.key.TaskID)
	})
	return findings
}

// release ends the use of the standby's own state.
func (s *standby) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger, s.fed = nil, nil
}

// look compares a task of the ledger with its pod.
func (s *standby) look(l *ledger.Ledger, uid string, at suspect) (finding, bool) {
	task := l.Task(at.app, uid)
	if at.name == "" && task != nil {
		at.namespace, at.name = task.Namespace, task.Name
	}
	f := finding{key: ledger.Key{AppID: at.app, TaskID: uid}}
	if at.name != "" {
		if pod := s.r.cluster.Pod(at.namespace, at.name); pod != nil && string(pod.UID) == uid {
			f.pod = pod
		}
	}
	// Without its application a task means nothing, whatever its record says.
	orphan := task != nil && l.App(at.app) == nil
	return f, !orphan && agree(task, f.pod, s.r.cfg.SchedulerName)
}

// agree reports whether a task is as its pod says; either may be nil.
func agree(task *ledger.Task, pod *v1.Pod, schedulerName string) bool {
	switch {
	case pod == nil:
		return task == nil
	case !workload.Ours(pod, schedulerName):
		return true // not a task of ours; one that was goes with its pod
	case workload.Terminated(pod):
		return task == nil || task.State.Terminal()
	case pod.Spec.NodeName == "":
		return task != nil || !bindable(pod)
	case task == nil:
		return false
	case task.State == ledger.TaskStateKilling && task.DeletePod:
		return task.Node == pod.Spec.NodeName
	default:
		return task.State == ledger.TaskStateBound && task.Node == pod.Spec.NodeName &&
			sameResources(task.Resources, engine.ResourcesOf(pod))
	}
}

// bindable reports whether the API server would take a binding of the pod.
func bindable(pod *v1.Pod) bool {
	return pod.DeletionTimestamp == nil && len(pod.Spec.SchedulingGates) == 0
}

func sameResources(a, b map[string]int64) bool {
	if len(a) != len(b) {
		return false
	}
	for name, v := range a {
		if w, ok := b[name]; !ok || v != w {
			return false
		}
	}
	return true
}

// verify checks that the engine's account is that of state.
func (s *standby) verify(ctx context.Context, state *ledger.Ledger) error {
	usage := make(map[string]map[string]int64)
	for app := range state.Apps() {
		if used := state.Usage(app.ID); len(used) > 0 {
			usage[app.ID] = used
		}
	}
	if failpoint.Off(failpoint.UsageGuard) {
		return nil
	}
	return s.engine.Compare(ctx, usage)
}
