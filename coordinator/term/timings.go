package term

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/understudy-ha/understudy/coordinator/telemetry"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// timings keeps the time of every step by which a term came to lead, for the
// term's record and as one trace across processes. A lead that hands over, or the
// supervisor of one that died, begins the trace and leaves it on the Lease; else
// the successor begins it. The leader record carries it to the other replicas, which
// add when they followed.
type timings struct {
	tracing  *telemetry.Tracing
	standing *telemetry.Standing
	now      func() time.Time
	ctx      context.Context // holds the span of the whole failover
	root     trace.Span

	mu       sync.Mutex
	term     record.Term
	last     time.Time
	bound    bool
	over     bool      // the root has ended
	ending   time.Time // when the term's work was told to stop
	revision int64     // of the claim; set before anyone else reads it
}

// StepDied is when the lead before died, as it appears among the steps of a term.
const StepDied = "died"

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

// spanName names the span of the work that a step completes.
func spanName(step string) string {
	switch step {
	case stepDetected:
		return "failover.detect"
	case stepTaken:
		return "failover.acquire"
	case stepClaimed:
		return "failover.claim"
	case stepCaughtUp:
		return "failover.catch-up"
	case stepCluster:
		return "failover.sync-cluster"
	case stepReconciled:
		return "failover.reconcile"
	case stepVerified:
		return "failover.verify-engine"
	case stepReleased:
		return "failover.release-engine"
	case stepLeading:
		return "failover.attach"
	}
	return "failover." + step
}

// firstBindWithin is how long after a lead is ready its first bind is a part of
// the failover: where nothing waits to be bound, it is over when the lead is ready.
const firstBindWithin = 10 * time.Second

// startTimings begins with what the election has done. work ends with the work
// of the term; predecessor is the traceparent of the failover that made the last lead.
func startTimings(work context.Context, d Deps, term *election.Term, predecessor string) *timings {
	f := &timings{
		tracing: d.Tracing, standing: d.Standing, now: d.Now,
		term: record.Term{
			Epoch:       term.Epoch(),
			Incarnation: d.Incarnation,
			Reason:      string(term.Why()),
			Started:     ledger.At(term.AcquiredAt()),
		},
	}
	// The time that the Lease was left alone is part of the failover.
	f.last = term.ChangedAt()
	f.ctx, f.root = f.tracing.StartContinued(context.Background(), "failover", term.Trace(), predecessor, f.last,
		f.epoch(), telemetry.ReasonKey.String(f.term.Reason), telemetry.FromKey.String(term.From()))
	f.term.Trace = f.traceparent()
	if f.tracing.Enabled() {
		context.AfterFunc(work, f.ends)
	}
	// By the clock of another machine: it is told where it makes sense here, and
	// no span is made of it.
	if died := term.DiedAt(); !died.IsZero() && died.Before(term.DetectedAt()) {
		f.term.Timings = append(f.term.Timings, record.Timing{Step: StepDied, At: ledger.At(died)})
	}
	f.stepAt(stepDetected, term.DetectedAt())
	f.stepAt(stepTaken, term.AcquiredAt())
	return f
}

func (f *timings) traceparent() string { return telemetry.Traceparent(f.ctx) }

func (f *timings) epoch() attribute.KeyValue {
	return telemetry.EpochKey.Int64(int64(f.term.Epoch))
}

// within makes requests under ctx part of the trace.
func (f *timings) within(ctx context.Context) context.Context {
	if !f.tracing.Enabled() {
		return ctx
	}
	return trace.ContextWithSpan(ctx, f.root)
}

func (f *timings) step(name string) { f.stepAt(name, f.now()) }

// claimed notes at which revision the epoch was claimed.
func (f *timings) claimed(revision int64) {
	f.revision = revision
	f.standing.SetRevision(revision)
}

// caughtUp notes what is held of what had been written up to the claim: whoever
// has etcd's history can tell whether that was all of it.
func (f *timings) caughtUp(held record.Digest) {
	f.mu.Lock()
	f.term.Claim, f.term.Held = f.revision, held
	f.mu.Unlock()
}

// stepAt notes that a step was complete at the given time. The attributes are for
// its span.
func (f *timings) stepAt(name string, at time.Time, attrs ...attribute.KeyValue) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.term.Timings = append(f.term.Timings, record.Timing{Step: name, At: ledger.At(at)})
	if tracing := f.tracing; tracing.Enabled() && (name != stepFirstBind || at.Sub(f.last) <= firstBindWithin) {
		tracing.SpanAt(f.ctx, spanName(name), f.last, at, append(attrs, f.epoch())...)
	}
	f.last = at
}

// leading notes that the lead is ready. Its span ends here, and the first bind is
// a late child: a span that has not ended is lost with a lead that dies, and all
// that is below it hangs in the air.
func (f *timings) leading() {
	f.step(stepLeading)
	f.end()
}

// firstBind notes the first pod bound in this term.
func (f *timings) firstBind(m Mirror, e ledger.BindDone) {
	f.mu.Lock()
	seen := f.bound
	f.bound = true
	f.mu.Unlock()
	if seen {
		return
	}
	f.stepAt(stepFirstBind, e.At.Time(), telemetry.AppIDKey.String(e.AppID), telemetry.TaskIDKey.String(e.TaskID))
	f.put(m)
}

// end ends the span of the whole with the last step taken, if it has not ended.
func (f *timings) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.over {
		f.over = true
		f.root.End(trace.WithTimestamp(f.last))
	}
}

// ends notes that the work of the term was told to stop.
func (f *timings) ends() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ending = f.now()
}

// release gives the Lease up, in a span that begins the trace of the failover
// that follows. A term that is lost already has nothing to give.
func (f *timings) release(ctx context.Context, term *election.Term, successor string) error {
	tracing := f.tracing
	if !tracing.Enabled() || !term.Valid() {
		return term.Release(ctx, successor)
	}
	f.mu.Lock()
	began := f.ending
	f.mu.Unlock()
	ctx, span := tracing.StartLinked(ctx, "failover.hand-over", f.traceparent(), began, f.epoch())
	defer span.End()
	err := term.Release(ctx, successor)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	return err
}

// put writes the term's record.
func (f *timings) put(m Mirror) {
	m.PutTerm(f.snapshot())
}

// snapshot is the term's record as it is now.
func (f *timings) snapshot() record.Term {
	f.mu.Lock()
	defer f.mu.Unlock()
	term := f.term
	term.Timings = append([]record.Timing(nil), term.Timings...)
	return term
}

// Why a term ended, where its record says so in the same words each time.
const (
	handedOver  = "handed over"
	steppedBack = "stepped back: " // and why
)

// setAside notes applications that are rebuilt from their pods.
func (f *timings) setAside(apps []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, app := range apps[:min(len(apps), maxSetAside)] {
		if !slices.Contains(f.term.SetAside, app) {
			f.term.SetAside = append(f.term.SetAside, app)
		}
	}
}

// maxSetAside bounds what the record of a term names.
const maxSetAside = 100

// fromCluster notes that the mirror is not believed.
func (f *timings) fromCluster() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.term.FromCluster = true
}

// finish writes why the term ended.
func (f *timings) finish(m Mirror, cause error) {
	f.mu.Lock()
	f.term.Ended = ledger.At(f.now())
	switch {
	case errors.Is(cause, ErrSettings):
		f.term.EndReason = handedOver + ": " + ErrSettings.Error()
	case cause == nil, errors.Is(cause, errHandOver):
		f.term.EndReason = handedOver
	case errors.Is(cause, ErrStepBack):
		f.term.EndReason = steppedBack + cause.Error()
	default:
		f.term.EndReason = cause.Error()
	}
	f.bound = true
	f.mu.Unlock()
	f.put(m)
}

// summary is the recovery in one line, each step with the milliseconds since
// the start of the first.
func (f *timings) summary() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var steps []string
	start := f.term.Timings[0].At.Time()
	for _, t := range f.term.Timings {
		steps = append(steps, fmt.Sprintf("%s +%.1fms", t.Step, float64(t.At.Time().Sub(start).Microseconds())/1000))
	}
	return strings.Join(steps, ", ")
}
