package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/apache/yunikorn-core/pkg/metrics"
	"github.com/apache/yunikorn-core/pkg/scheduler"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// pings looks at the core one look at a time: those who ask meanwhile share it,
// so that a core that hangs does not collect goroutines that hang with it.
type pings struct {
	mu      sync.Mutex
	current *look
}

// look is one look at the core.
type look struct {
	done chan struct{}
	err  error
	// at is what is being looked at.
	at atomic.Pointer[string]
}

// Ping returns nil when the core has been seen to get on: it has come across
// what it was sent about applications, allocations and nodes before; the locks
// of its partition, queues, applications and nodes can be had; and its scheduling
// loop has ended a round, or got an answer from the predicates, meanwhile. A
// round begins every 100 ms at least, so that takes a tenth of a second, on a
// held engine as well. A core that hangs gives ErrStuck, with what it hangs in,
// when ctx has ended. A round that takes longer than ctx and does not ask the
// predicates anything, as when thousands of asks fit no node, looks the same: ctx
// should leave it some seconds.
func (e *Engine) Ping(ctx context.Context) error {
	l := e.pings.begin(e)
	select {
	case <-l.done:
		return l.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %s: %w", ErrStuck, *l.at.Load(), ctx.Err())
	}
}

func (p *pings) begin(e *Engine) *look {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil {
		return p.current
	}
	l := &look{done: make(chan struct{})}
	l.now("begun")
	p.current = l
	// Nobody waits for it but those who ask: it may hang for ever, with the core.
	go func() {
		l.err = e.look(l)
		p.mu.Lock()
		p.current = nil
		p.mu.Unlock()
		close(l.done)
	}()
	return l
}

func (l *look) now(at string) { l.at.Store(&at) }

func (e *Engine) look(l *look) error {
	cycles, answers := e.cycles.count(), e.answers.Load()
	l.now("applications and allocations")
	if err := e.barrier(e.life); err != nil {
		return stopped(err)
	}
	l.now("nodes")
	if err := e.nodeBarrier(e.life); err != nil {
		return stopped(err)
	}
	if p := e.corePartition(); p != nil {
		touch(l, p)
	}
	l.now("the scheduling loop")
	return stopped(poll(e.life, func() bool {
		return e.cycles.count() != cycles || e.answers.Load() != answers
	}))
}

// stopped says why nothing is to be seen after Stop.
func stopped(err error) error {
	if errors.Is(err, context.Canceled) {
		return ErrStopped
	}
	return err
}

// touch takes each of the core's locks, and returns when it has had them all.
func touch(l *look, p *scheduler.PartitionContext) {
	l.now("the partition")
	apps, nodes := p.GetApplications(), p.GetNodes()
	l.now("a queue")
	touchQueue(l, p.GetQueue("root"))
	for _, a := range apps {
		l.now("application " + a.ApplicationID)
		a.GetAllocatedResource()
	}
	for _, n := range nodes {
		l.now("node " + n.NodeID)
		n.GetCapacity()
	}
}

func touchQueue(l *look, q *objects.Queue) {
	if q == nil {
		return
	}
	l.now("queue " + q.QueuePath)
	q.GetAllocatedResource()
	for _, child := range q.GetCopyOfChildren() {
		touchQueue(l, child)
	}
}

// cycles counts the rounds of the core's scheduling loop.
type cycles struct{ rounds prometheus.Histogram }

var errNoCycles = errors.New("the rounds of the scheduling core cannot be counted: it has no such metric any more")

// newCycles finds the core's own metric, which the core registers and does not
// export. Who registers the same again is told of the one that exists.
func newCycles() (cycles, error) {
	metrics.GetSchedulerMetrics() // registers it, if nothing has yet
	same := prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: metrics.Namespace, Subsystem: metrics.SchedulerSubsystem,
		Name: "scheduling_cycle_milliseconds",
		Help: "Time taken for a scheduling cycle, in seconds.",
	})
	err := prometheus.Register(same)
	var exists prometheus.AlreadyRegisteredError
	if !errors.As(err, &exists) {
		prometheus.Unregister(same)
		return cycles{}, errNoCycles
	}
	rounds, ok := exists.ExistingCollector.(prometheus.Histogram)
	if !ok {
		return cycles{}, errNoCycles
	}
	return cycles{rounds}, nil
}

func (c cycles) count() uint64 {
	var m dto.Metric
	if err := c.rounds.Write(&m); err != nil {
		return 0 // does not happen to a histogram without labels
	}
	return m.GetHistogram().GetSampleCount()
}
