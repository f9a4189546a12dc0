package coordinator

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/understudy-ha/understudy/coordinator/telemetry"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
)

// failover keeps the time of every step by which a term came to lead, for the
// term's record and as one trace: detect, acquire, claim, catch up, reconcile,
// verify and release the engine, first bind. The trace context travels in the
// leader record, so that other processes can add to the trace.
type failover struct {
	replica *replica
	ctx     context.Context // holds the trace's root span
	root    trace.Span

	mu       sync.Mutex
	term     record.Term
	last     time.Time
	bound    bool
	revision int64 // of the claim; set before anyone else reads it
}

// The steps of a recovery, as they appear in the term's record.
const (
	stepDetected   = "detected"
	stepTaken      = "taken"
	stepClaimed    = "claimed"
	stepCaughtUp   = "caught-up"
	stepCluster    = "cluster-synced"
	stepReconciled = "reconciled"
	stepVerified   = "engine-verified"
	stepReleased   = "engine-released"
	stepLeading    = "leading"
	stepFirstBind  = "first-bind"
)

func startFailover(r *replica, term *election.Term) *failover {
	f := &failover{
		replica: r,
		last:    term.DetectedAt(),
		term: record.Term{
			Epoch:       term.Epoch(),
			Incarnation: r.incarnation,
			Reason:      string(term.Why()),
			Started:     ledger.At(term.AcquiredAt()),
		},
	}
	f.ctx, f.root = r.opts.Tracing.StartLinked(context.Background(), "failover", r.view.Status().Leader.Trace,
		term.DetectedAt(), telemetry.EpochKey.Int64(int64(term.Epoch())))
	f.term.Trace = f.traceparent()
	f.stepAt(stepDetected, term.DetectedAt())
	f.stepAt(stepTaken, term.AcquiredAt())
	return f
}

func (f *failover) traceparent() string { return telemetry.Traceparent(f.ctx) }

func (f *failover) step(name string) { f.stepAt(name, f.replica.now()) }

// stepAt notes that a step was complete at the given time.
func (f *failover) stepAt(name string, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.term.Timings = append(f.term.Timings, record.Timing{Step: name, At: ledger.At(at)})
	if f.replica.opts.Tracing.Enabled() {
		f.replica.opts.Tracing.SpanAt(f.ctx, "failover."+name, f.last, at)
	}
	f.last = at
}

// firstBind notes the first pod bound in this term and ends the trace. It
// reports whether this was the first.
func (f *failover) firstBind(m *mirror.Mirror, at time.Time) {
	f.mu.Lock()
	seen := f.bound
	f.bound = true
	f.mu.Unlock()
	if seen {
		return
	}
	f.stepAt(stepFirstBind, at)
	f.root.End()
	f.put(m)
}

// put writes the term's record.
func (f *failover) put(m *mirror.Mirror) {
	m.PutTerm(f.snapshot())
}

// snapshot is the term's record as it is now.
func (f *failover) snapshot() record.Term {
	f.mu.Lock()
	defer f.mu.Unlock()
	term := f.term
	term.Timings = append([]record.Timing(nil), term.Timings...)
	return term
}

// finish writes why the term ended.
func (f *failover) finish(m *mirror.Mirror, cause error) {
	f.mu.Lock()
	f.term.Ended = ledger.At(f.replica.now())
	f.term.EndReason = "handed over"
	if cause != nil {
		f.term.EndReason = cause.Error()
	}
	bound := f.bound
	f.bound = true
	f.mu.Unlock()
	if !bound {
		f.root.End()
	}
	f.put(m)
}

// summary is the recovery in one line, each step with the milliseconds since
// the start of the first.
func (f *failover) summary() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var steps []string
	start := f.term.Timings[0].At.Time()
	for _, t := range f.term.Timings {
		steps = append(steps, fmt.Sprintf("%s +%.1fms", t.Step, float64(t.At.Time().Sub(start).Microseconds())/1000))
	}
	return strings.Join(steps, ", ")
}
