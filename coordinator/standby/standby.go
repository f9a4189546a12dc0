package standby

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/settings"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// Config says what a standby follows. All of it is required, but where zero has a meaning.
type Config struct {
	Cluster *kube.Cluster
	// Writes is the fenced client, with which volumes are bound.
	Writes kubernetes.Interface
	// View is the state that is followed: see the methods of View in package view.
	View View
	// Registry has the app managers that this binary can run, and Managers those that
	// are enabled, in order.
	Registry managers.Registry
	Managers []managers.Entry
	// Dynamic, DynamicWrites and Discovery are for managers: see managers.Deps.
	Dynamic, DynamicWrites dynamic.Interface
	Discovery              discovery.DiscoveryInterface
	// Settled is told what this process runs with, once that is known.
	Settled func(settings.Settings)
	// Configured is called when the ConfigMaps' queue configuration has come into force.
	// It must return at once.
	Configured func()
	Now        func() time.Time

	SchedulerName string
	UserLabel     string
	Version       string
	// EngineLogLevel is that of the scheduling core, unless its configuration has one.
	EngineLogLevel string
	// CompleteAfter is the engine's setting of that name; zero selects its default.
	CompleteAfter time.Duration
	Log           *slog.Logger
}

// View is where a standby reads the state that it follows.
type View interface {
	Synced() bool
	Read(read func(*ledger.Ledger)) bool
	Configuration() (record.Configuration, bool)
}

// Voice tells users about their pods and their configuration. Its methods return at once.
// What Problems and Object are given, users are told once, whichever replicas tell it.
type Voice interface {
	ConfigMap(cm *v1.ConfigMap, warning bool, reason, message string)
	Waits(pod *v1.Pod, reason, message string)
	Problems(pod *v1.Pod, found []workload.Problem)
	Object(about v1.ObjectReference, warning bool, reason, message string)
}

// Standby is what a replica keeps ready. Run follows, Apply is told of each change of
// the view; the other methods are for the lead that takes it over.
type Standby struct {
	cfg Config
	log *slog.Logger

	// These are made by prepare and not changed after it.
	preds  *predicates.Cache
	engine *engine.Engine
	staff  staff
	// settings are what the configuration said that this process started with.
	settings settings.Settings
	// prepared says that staff is there.
	prepared atomic.Bool
	// voice is nil until this replica leads, sink too.
	voice atomic.Pointer[Voice]
	sink  atomic.Pointer[func(ledger.Event)]
	// saying guards unsaid: see say.
	saying sync.Mutex
	unsaid []unsaid
	// stuck is where it is told that the engine does not get on.
	stuck atomic.Pointer[func(error)]
	pulse pulse

	configuring configuring
	// broken holds why an understudy has to begin anew.
	broken chan error

	mu sync.Mutex
	// why is what is missing before this replica can lead, empty for nothing.
	why string
	// following says that changes are told to the engine: since begin.
	following bool
	// tell carries out effects on the engine, remembered returns the pod of a UID.
	tell       func(ledger.Effect) error
	remembered func(uid string) *v1.Pod
	// fed are the applications that the engine has been told of.
	fed map[string]bool
	// suspects are tasks that have changed in the ledger or in the cluster, by
	// UID, until both are seen to agree.
	suspects  map[string]suspect
	led       bool
	promotion Promotion // since led
	// over ends with end, when the standby is stopped; telling is what managers are told
	// of their applications until then.
	over    context.Context
	end     context.CancelFunc
	telling sync.WaitGroup
	// unassigned are pods to schedule that nobody has reported yet: see Replay.
	unassigned []*v1.Pod
}

// New makes a standby; Run prepares it.
func New(cfg Config) *Standby {
	over, end := context.WithCancel(context.Background())
	return &Standby{
		cfg: cfg, log: cfg.Log, why: "the engine has not been started yet",
		fed: make(map[string]bool), suspects: make(map[string]suspect),
		broken: make(chan error, 1), over: over, end: end,
	}
}

// settlePeriod is how often suspects are looked at. A pod becomes one by each step
// from its creation to its start, most of which are less than that apart; a promotion
// looks at those that have not been settled yet.
const settlePeriod = 200 * time.Millisecond

// Run prepares the standby and keeps it current until ctx ends; then the engine
// is stopped.
func (s *Standby) Run(ctx context.Context) error {
	defer s.Stop()
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
		case err := <-s.broken:
			return err
		case <-tick.C:
			s.settle()
		}
	}
}

// engineStuck is told that the engine's core does not get on. Who leads is told; an
// understudy has no use for such an engine, and ends to begin anew.
func (s *Standby) engineStuck(err error) {
	if told := s.stuck.Load(); told != nil {
		(*told)(err)
		return
	}
	select {
	case s.broken <- err:
	default: // told already
	}
}

// Stop stops managers and engine. It may be called more than once.
func (s *Standby) Stop() {
	s.pulse.stop()
	s.mu.Lock()
	s.end()
	s.mu.Unlock()
	s.telling.Wait()
	s.staff.stop()
	if s.engine != nil {
		s.cfg.Cluster.Unfollow()
		s.engine.Stop()
	}
}

// prepare starts the engine, held, and feeds it all that exists.
func (s *Standby) prepare(ctx context.Context) error {
	cluster := s.cfg.Cluster
	if err := cluster.WaitForSync(ctx); err != nil {
		return err
	}
	configuration, err := s.choose(ctx)
	if err != nil {
		return err
	}
	if s.settings, err = settings.Parse(configuration); err != nil {
		return err // it has been accepted
	}
	s.cfg.Settled(s.settings)
	s.missing("the engine is being fed")
	factory := cluster.Factory()
	if s.preds, err = predicates.New(s.log, predicates.WithNamespaces(factory), predicates.WithVolumes(factory, s.cfg.Writes),
		predicates.WithBindTimeout(s.settings.VolumeBindTimeout)); err != nil {
		return fmt.Errorf("predicates: %w", err)
	}
	running := s.runsWith(configuration)
	if s.engine, err = engine.Start(running, s.preds, s.heard, s.log); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	s.tell, s.remembered = s.engine.Do, s.preds.Pod
	s.configures(s.engine)
	if err := s.hire(managers.Deps{
		Reads: s.cfg.Dynamic, Writes: s.cfg.DynamicWrites, Discovery: s.cfg.Discovery,
		SchedulerName: s.cfg.SchedulerName, UserLabel: s.cfg.UserLabel, UniqueAppID: s.settings.GenerateUniqueAppID,
		Resources: engine.ResourcesOf, Problems: s.problems, Event: s.tellObject, Now: s.cfg.Now, Log: s.log,
	}); err != nil {
		return err
	}
	if err := cluster.Follow(ctx, follower{s}); err != nil {
		return err
	}
	if err := s.awaitView(ctx); err != nil {
		return err
	}
	s.missing("the app managers are being started")
	s.staff.start(ctx, func(manager string) { s.missing("app manager " + manager + " has not seen what exists yet") })
	return s.begin(func() error { return s.engine.Sync(ctx) })
}

// runsWith is what the engine runs with.
func (s *Standby) runsWith(configuration map[string]string) engine.Config {
	running := engine.Default()
	running.RMID, running.PolicyGroup = s.settings.ClusterID, s.settings.PolicyGroup
	running.InstanceTypeLabel = s.settings.InstanceTypeLabel
	running.Version = s.cfg.Version
	running.ConfigYAML = configuration
	running.LogLevel = s.cfg.EngineLogLevel
	running.OnWait = s.waits
	running.OnStuck = s.engineStuck
	running.CompleteAfter = cmp.Or(s.cfg.CompleteAfter, running.CompleteAfter)
	running.PriorityClass = s.cfg.Cluster.PriorityClass
	return running
}

// viewPeriod is how often the view is looked at until it is synced.
const viewPeriod = 20 * time.Millisecond

func (s *Standby) awaitView(ctx context.Context) error {
	tick := time.NewTicker(viewPeriod)
	defer tick.Stop()
	for !s.cfg.View.Synced() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// Settings are those that this process runs with, of the zero value before the engine is
// there: what the configuration said when it started.
func (s *Standby) Settings() settings.Settings {
	if !s.prepared.Load() {
		return settings.Settings{}
	}
	return s.settings
}

// Engine returns the engine, nil before there is one.
func (s *Standby) Engine() *engine.Engine {
	if !s.prepared.Load() {
		return nil
	}
	return s.engine
}

func (s *Standby) missing(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = why
}

// Ready returns what is missing before this replica can lead.
func (s *Standby) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != "" {
		return errors.New(s.why)
	}
	return nil
}

// begin follows the view from here: the engine is told of all that it holds, and sync
// waits until it has taken that. Then this replica can lead, but not before every task
// has been looked at: each is a suspect until then, and a promotion would look at all.
func (s *Standby) begin(sync func() error) error {
	s.recollect()
	// No change comes between what is fed and what follows: the view waits meanwhile.
	s.cfg.View.Read(s.feedFrom)
	if err := sync(); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	s.settle()
	s.missing("")
	return nil
}

// heard takes the events of the engine, which come only from one that leads.
func (s *Standby) heard(event ledger.Event) {
	if sink := s.sink.Load(); sink != nil {
		(*sink)(event)
	}
}

// SetVoice says by whom users are told about their pods and their configuration from
// now on.
func (s *Standby) SetVoice(voice Voice) {
	s.voice.Store(&voice)
	if c := s.Configuration(); c.Err != nil || c.Waiting != "" {
		s.tellConfiguration()
	}
}

// waits tells the user of a pod why it has no node yet, and autoscalers whether
// another node would help.
func (s *Standby) waits(_, taskID string, why engine.Wait) {
	reason := kube.ReasonUnschedulable
	if why.Quota {
		reason = kube.ReasonSkipped
	}
	if voice, pod := s.voice.Load(), s.preds.Pod(taskID); voice != nil && pod != nil {
		(*voice).Waits(pod, reason, why.Message)
	}
}

func (s *Standby) problems(pod *v1.Pod, found []workload.Problem) {
	s.say(func(to Voice) { to.Problems(pod, found) })
}

func (s *Standby) tellObject(about v1.ObjectReference, warning bool, reason, message string) {
	s.say(func(to Voice) { to.Object(about, warning, reason, message) })
}

// Prepare binds the volumes of a pod ahead of the pod itself. When an attempt has
// failed before, it looks first whether the node has been cordoned or tainted since.
func (s *Standby) Prepare(ctx context.Context, task *ledger.Task) error {
	var err error
	if task.Retries > 0 {
		err = s.preds.Fits(task.ID, task.Node, false)
	}
	if err == nil {
		err = s.preds.BindVolumes(ctx, task.ID, task.Node)
	}
	var refusal *predicates.Refusal
	switch {
	case errors.Is(err, predicates.ErrUnknownNode):
		return fmt.Errorf("%w: %w", kube.ErrNodeGone, err)
	case errors.As(err, &refusal):
		return fmt.Errorf("%w: %w", kube.ErrUnfit, err)
	}
	return err
}

// GangProblem says why the cluster can never hold a gang, empty if it can.
func (s *Standby) GangProblem(groups []v1alpha1.TaskGroup) string { return s.preds.GangProblem(groups) }

// HasVolumes reports whether Prepare has something to do for a task.
func (s *Standby) HasVolumes(taskID string) bool { return s.preds.HasClaims(taskID) }
