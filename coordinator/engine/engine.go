package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	corecommon "github.com/apache/yunikorn-core/pkg/common"
	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/common/security"
	"github.com/apache/yunikorn-core/pkg/entrypoint"
	corelog "github.com/apache/yunikorn-core/pkg/log"
	"github.com/apache/yunikorn-core/pkg/metrics"
	"github.com/apache/yunikorn-core/pkg/scheduler"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/api"
	sicommon "github.com/apache/yunikorn-scheduler-interface/lib/go/common"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/coordinator/engine/chatter"
	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// Sink takes an event for the ledger. It must not block for long: while it
// does, later events wait.
type Sink func(ledger.Event)

// Engine runs yunikorn-core. Its methods may be called from any goroutine.
type Engine struct {
	cfg       Config
	log       *slog.Logger
	preds     *predicates.Cache
	sink      Sink
	core      *entrypoint.ServiceContext
	proxy     api.SchedulerAPI
	partition string
	// out feeds the sink; chores does what has to wait for the core.
	out, chores *outbox
	explain     *explainer
	// changes counts what the core was told and what it said: see explainer.
	changes atomic.Uint64

	// opened says that nodes get their capacity: see Open.
	opened atomic.Bool
	// live says that events leave. It is set once, by Engage, and cleared
	// once, by Stop.
	live atomic.Bool
	// grants are what the scheduling loop is about to do.
	grants grants
	// cycles and answers tell whether the scheduling loop goes on: see Ping.
	cycles  cycles
	answers atomic.Uint64
	pings   pings
	// barriers are waiting for the core to come across them.
	barriers barriers
	// life ends with Stop: nothing waits for the core any longer.
	life context.Context
	end  context.CancelFunc
	// configuring admits one change of configuration at a time: of inForce, the
	// queues, and extra, the other settings. takenBack counts changes that failed.
	configuring sync.Mutex
	inForce     string
	extra       map[string]string
	takenBack   int
	// limits is the root of the queues whose limits the core has.
	limits atomic.Pointer[configs.QueueConfig]

	// mu guards the tables. Requests are sent to the core while it is held, so
	// that the core sees them in the order of the tables' changes; the core
	// only queues them, and never calls back on the same goroutine.
	mu      sync.Mutex
	stopped bool
	apps    map[string]*app
	tasks   map[string]*task
	nodes   map[string]*node
	foreign map[string]*foreign
	waiting map[string]*absentees
	// removing counts the removals of nodes that the core has to go through.
	removing map[string]int
	// takers are the tasks that the core is about to put in the place of a placeholder,
	// and spent the placeholders that it is not to choose: see swap.go.
	takers map[string]*task
	spent  []spent
	// deferred counts the releases of a task that are still to be sent.
	deferred map[string]int
	// queues are those in force. homeless are the applications that are astray,
	// housing says that the core is open for them, and redefine that it has to be told
	// of queues that are gone: see home.go.
	queues   queues
	homeless []string
	housing  bool
	redefine bool
	// unanswered counts the applications of which the core has still to say whether it
	// takes them, and expiring says that rejected ones are about to be expired: see
	// rejected.go.
	unanswered int
	expiring   bool
	// spoken reads what the core has said since it was engaged.
	spoken *EventReader
}

// ErrStopped is returned by calls after Stop.
var ErrStopped = errors.New("the engine has been stopped")

// Start starts the core, held. It works once per process.
func Start(cfg Config, preds *predicates.Cache, sink Sink, log *slog.Logger) (*Engine, error) {
	chatter.Capture()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("engine configuration: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	chatter.Direct(log.Handler())
	chatter.Hold(true)
	objects.SetCompletingTimeout(never) // see lifecycle.go
	rounds, err := newCycles()
	if err != nil {
		return nil, err
	}
	text, extra := split(cfg.ConfigYAML, cfg.LogLevel)
	corelog.UpdateLoggingConfig(extra)
	known, err := parseQueues(text, configs.QueueConfig{}, 0)
	if err != nil {
		return nil, fmt.Errorf("engine configuration: %w", err)
	}

	e := &Engine{
		cfg: cfg, log: log, preds: preds, sink: sink,
		partition: corecommon.GetNormalizedPartitionName("", cfg.RMID),
		apps:      make(map[string]*app),
		tasks:     make(map[string]*task),
		nodes:     make(map[string]*node),
		foreign:   make(map[string]*foreign),
		waiting:   make(map[string]*absentees),
		removing:  make(map[string]int),
		deferred:  make(map[string]int),
		takers:    make(map[string]*task),
		cycles:    rounds,
		inForce:   known.given,
		extra:     extra,
		queues:    known,
	}
	resolveBy(known.conf, security.GetConfigReader(), security.GetLdapAccess())
	// Neither a manual scheduler nor the web service, whose port is fixed.
	e.core = entrypoint.StartAllServicesWithParams(false, false)
	e.proxy = e.core.RMProxy
	e.life, e.end = context.WithCancel(context.Background())
	e.out, e.chores = newOutbox(), newOutbox()
	e.explain = newExplainer(e)
	build, _ := debug.ReadBuildInfo()
	_, err = e.proxy.RegisterResourceManager(&si.RegisterResourceManagerRequest{
		RmID:        cfg.RMID,
		Version:     cfg.Version,
		PolicyGroup: cfg.PolicyGroup,
		Config:      known.given,
		ExtraConfig: extra,
		BuildInfo:   buildInfo(cfg.Version, build),
	}, callback{e})
	if err != nil {
		e.Stop()
		return nil, fmt.Errorf("register with the scheduling core: %w", err)
	}
	if err := e.settle(known.conf); err != nil {
		e.Stop()
		return nil, fmt.Errorf("engine configuration: %w", err)
	}
	return e, nil
}

// Stop stops the core. When it has returned, no event leaves any more. The
// process cannot start another engine.
func (e *Engine) Stop() {
	e.mu.Lock()
	if e.stopped {
		e.mu.Unlock()
		return
	}
	e.stopped = true
	e.live.Store(false)
	for _, a := range e.apps {
		a.stopIdle()
	}
	e.mu.Unlock()
	e.end()
	e.barriers.fail()
	e.explain.stop()
	e.out.close()
	e.chores.close()
	// The core fails all applications as it stops; the fence is down before.
	e.core.StopAll()
}

// Configure replaces YuniKorn's configuration. If it returns an error, the configuration of
// before is in force, all of it.
func (e *Engine) Configure(data map[string]string) error {
	if err := Validate(data); err != nil {
		return fmt.Errorf("engine configuration: %w", err)
	}
	e.configuring.Lock()
	defer e.configuring.Unlock()
	e.mu.Lock()
	stopped, before := e.stopped, e.queues.remembered()
	e.mu.Unlock()
	if stopped {
		return ErrStopped
	}
	text, extra := split(data, e.cfg.LogLevel)
	next, err := parseQueues(text, before, ledger.At(e.cfg.Now()))
	if err == nil {
		if err = e.apply(e.life, next.given, extra); err != nil && !errors.Is(err, ErrStopped) {
			e.takeBack()
		}
	}
	if err != nil {
		return fmt.Errorf("engine configuration: %w", err)
	}
	e.inForce, e.extra = next.given, extra
	e.changes.Add(1)
	at := e.everybody()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(next.former.Queues) == 0 || reflect.DeepEqual(next.former, e.queues.former) {
		next.since = e.queues.since
	}
	e.queues = next
	e.review(at)
	return nil
}

// takeBack gives the core the configuration in force again, after it has refused another
// and may have applied a part of it. If that fails as well, nobody knows by which rules it
// schedules, and the owner has to end this engine. e.configuring is held.
func (e *Engine) takeBack() {
	e.takenBack++
	// The core passes over queues of the same text, whatever came in between.
	again := fmt.Sprintf("%s\n# again %d\n", e.inForce, e.takenBack)
	err := e.apply(e.life, again, e.extra)
	if err == nil || errors.Is(err, ErrStopped) {
		return
	}
	e.log.Error("the scheduling core has taken a part of a configuration, and does not give it back", "err", err)
	if e.cfg.OnStuck != nil {
		e.cfg.OnStuck(fmt.Errorf("%w: the configuration of before is not in force again: %w", ErrStuck, err))
	}
}

// emit sends an event to the ledger, unless the engine is held or stopped.
func (e *Engine) emit(event ledger.Event) {
	if !e.live.Load() {
		return
	}
	e.out.put(func() {
		if e.live.Load() {
			e.sink(event)
		}
	})
}

func (e *Engine) stamp() ledger.Stamp { return ledger.Stamp{At: ledger.At(e.cfg.Now())} }

// corePartition is the core's partition, nil once it has been stopped.
func (e *Engine) corePartition() *scheduler.PartitionContext {
	return e.core.Scheduler.GetClusterContext().GetPartition(e.partition)
}

// coreApp is an application as the core has it, nil if it has none.
func (e *Engine) coreApp(id string) *objects.Application {
	if p := e.corePartition(); p != nil {
		return p.GetApplication(id)
	}
	return nil
}

// barrierPartition is a partition that does not exist. An application or node
// for it is refused by the core, in order, and leaves nothing behind.
const barrierPartition = chatter.BarrierPartition

// Sync waits until the core has taken over everything it was fed before: nodes,
// applications, allocations and asks. While it is held, applications are at home then.
func (e *Engine) Sync(ctx context.Context) error {
	// What waits for a node is sent once the core has the node.
	if err := poll(ctx, e.nodesKnown); err != nil {
		return fmt.Errorf("sync with the scheduling core: nodes: %w", err)
	}
	for {
		err := e.barrier(ctx)
		if err == nil && !e.live.Load() {
			err = e.done(ctx, e.out) // where applications are has been looked up
		}
		if err != nil {
			return fmt.Errorf("sync with the scheduling core: %w", err)
		}
		if e.live.Load() || !e.unsettled() {
			return nil
		}
		if err := e.chored(ctx); err != nil {
			return fmt.Errorf("sync with the scheduling core: applications: %w", err)
		}
	}
}

// barrier waits until the core has processed everything it was sent before
// about applications, allocations and asks, and said what it had to say.
func (e *Engine) barrier(ctx context.Context) error {
	return e.await(ctx, func(id string) error {
		return e.proxy.UpdateApplication(&si.ApplicationRequest{
			RmID: e.cfg.RMID,
			New:  []*si.AddApplicationRequest{{ApplicationID: id, PartitionName: barrierPartition}},
		})
	})
}

// nodeBarrier does the same for nodes, which reach the core on another way.
func (e *Engine) nodeBarrier(ctx context.Context) error {
	err := e.await(ctx, func(id string) error {
		return e.proxy.UpdateNode(&si.NodeRequest{
			RmID: e.cfg.RMID,
			Nodes: []*si.NodeInfo{{
				NodeID: id, Action: si.NodeInfo_CREATE_DRAIN,
				Attributes: map[string]string{sicommon.NodePartition: barrierPartition},
			}},
		})
	})
	if err == nil {
		metrics.GetSchedulerMetrics().DecFailedNodes() // it was counted as one
	}
	return err
}

// await sends a barrier to the core and waits until the core refuses it.
func (e *Engine) await(ctx context.Context, send func(id string) error) error {
	id, passed := e.barriers.add()
	e.mu.Lock()
	if e.stopped {
		e.mu.Unlock()
		return ErrStopped
	}
	err := send(id)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case ok := <-passed:
		if !ok {
			return ErrStopped
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pollEvery is how often the core is looked at where it has no callback.
const pollEvery = time.Millisecond

// pollFast is for what the core does at once, on a goroutine of its own.
func pollFast(ctx context.Context, done func() bool) error {
	return pollAt(ctx, pollEvery/10, done)
}

func poll(ctx context.Context, done func() bool) error { return pollAt(ctx, pollEvery, done) }

func pollAt(ctx context.Context, every time.Duration, done func() bool) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// barriers tells waiters when the core has come across their barrier.
type barriers struct {
	mu      sync.Mutex
	next    int
	waiting map[string]chan bool
}

const barrierPrefix = "understudy-barrier-"

func (b *barriers) add() (string, <-chan bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == nil {
		b.waiting = make(map[string]chan bool)
	}
	b.next++
	id := fmt.Sprint(barrierPrefix, b.next)
	ch := make(chan bool, 1)
	b.waiting[id] = ch
	return id, ch
}

// pass reports whether id was a barrier.
func (b *barriers) pass(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ch := b.waiting[id]
	if ch == nil {
		return false
	}
	ch <- true
	delete(b.waiting, id)
	return true
}

func (b *barriers) fail() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, ch := range b.waiting {
		ch <- false
		delete(b.waiting, id)
	}
}
