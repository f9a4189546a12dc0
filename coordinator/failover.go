package coordinator

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/understudy-ha/understudy/coordinator/telemetry"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
)

// failover keeps the time of every step by which a term came to lead, for the
// term's record and as one trace across processes. A lead that hands over, or the
// supervisor of one that died, begins the trace and leaves it on the Lease; else
// the successor begins it. The leader record carries it to the other replicas, which
// add when they followed.
type failover struct {
	replica *replica
	ctx     context.Context // holds the span of the whole failover
	root    trace.Span

	mu       sync.Mutex
	term     record.Term
	last     time.Time
	bound    bool
	over     bool      // the root has ended
	ending   time.Time // when the term's work was told to stop
	revision int64     // of the claim; set before anyone else reads it
}

// The steps of a recovery, as they appear in the term's record.
const (
	stepDied       = "died"
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

// startFailover begins with what the election has done. work ends with the work
// of the term.
func startFailover(work context.Context, r *replica, term *election.Term) *failover {
	f := &failover{
		replica: r,
		term: record.Term{
			Epoch:       term.Epoch(),
			Incarnation: r.incarnation,
			Reason:      string(term.Why()),
			Started:     ledger.At(term.AcquiredAt()),
		},
	}
	following := r.view.Status()
	r.opts.Standing.SetRevision(following.Revision)
	// The time that the Lease was left alone is part of the failover.
	f.last = term.ChangedAt()
	f.ctx, f.root = r.opts.Tracing.StartContinued(context.Background(), "failover", term.Trace(), following.Leader.Trace, f.last,
		f.epoch(), telemetry.ReasonKey.String(f.term.Reason), telemetry.FromKey.String(term.From()))
	f.term.Trace = f.traceparent()
	if r.opts.Tracing.Enabled() {
		context.AfterFunc(work, f.ends)
	}
	// By the clock of another machine: it is told where it makes sense here, and
	// no span is made of it.
	if died := term.DiedAt(); !died.IsZero() && died.Before(term.DetectedAt()) {
		f.term.Timings = append(f.term.Timings, record.Timing{Step: stepDied, At: ledger.At(died)})
	}
	f.stepAt(stepDetected, term.DetectedAt())
	f.stepAt(stepTaken, term.AcquiredAt())
	return f
}

func (f *failover) traceparent() string { return telemetry.Traceparent(f.ctx) }

func (f *failover) epoch() attribute.KeyValue {
	return telemetry.EpochKey.Int64(int64(f.term.Epoch))
}

// within makes requests under ctx part of the trace.
func (f *failover) within(ctx context.Context) context.Context {
	if !f.replica.opts.Tracing.Enabled() {
		return ctx
	}
	return trace.ContextWithSpan(ctx, f.root)
}

func (f *failover) step(name string) { f.stepAt(name, f.replica.now()) }

// claimed notes that the epoch was claimed at a revision.
func (f *failover) claimed(revision int64) {
	f.revision = revision
	f.replica.opts.Standing.SetRevision(revision)
	f.step(stepClaimed)
}

// caughtUp notes what is held of what had been written up to the claim: whoever
// has etcd's history can tell whether that was all of it.
func (f *failover) caughtUp(held record.Digest) {
	f.mu.Lock()
	f.term.Claim, f.term.Held = f.revision, held
	f.mu.Unlock()
	f.step(stepCaughtUp)
}

// stepAt notes that a step was complete at the given time. The attributes are for
// its span.
func (f *failover) stepAt(name string, at time.Time, attrs ...attribute.KeyValue) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.term.Timings = append(f.term.Timings, record.Timing{Step: name, At: ledger.At(at)})
	if tracing := f.replica.opts.Tracing; tracing.Enabled() && (name != stepFirstBind || at.Sub(f.last) <= firstBindWithin) {
		tracing.SpanAt(f.ctx, spanName(name), f.last, at, append(attrs, f.epoch())...)
	}
	f.last = at
}

// leading notes that the lead is ready. Its span ends here, and the first bind is
// a late child: a span that has not ended is lost with a lead that dies, and all
// that is below it hangs in the air.
func (f *failover) leading() {
	f.step(stepLeading)
	f.end()
}

// firstBind notes the first pod bound in this term.
func (f *failover) firstBind(m *mirror.Mirror, e ledger.BindDone) {
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
func (f *failover) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.over {
		f.over = true
		f.root.End(trace.WithTimestamp(f.last))
	}
}

// ends notes that the work of the term was told to stop.
func (f *failover) ends() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ending = f.replica.now()
}

// release gives the Lease up, in a span that begins the trace of the failover
// that follows. A term that is lost already has nothing to give.
func (f *failover) release(ctx context.Context, term *election.Term, successor string) error {
	tracing := f.replica.opts.Tracing
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

// followWithin is how old a claim may be for a replica that learns of it to have
// a part in that failover: later ones have only been started.
const followWithin = time.Minute

// followed adds to the trace of another replica's failover how long it took this
// one to follow the new lead.
func (r *replica) followed(leader record.Leader, revision int64) {
	now, claimed := r.now(), leader.Since.Time()
	// A replica that led in an incarnation before this one does not follow itself.
	self := strings.HasPrefix(leader.Incarnation, r.cfg.Identity+"_")
	if leader.Trace == "" || self || now.Sub(claimed) > followWithin {
		return
	}
	r.opts.Standing.SetRevision(revision)
	r.opts.Tracing.SpanAt(telemetry.Continue(context.Background(), leader.Trace), "failover.follow", claimed, now,
		telemetry.EpochKey.Int64(int64(leader.Epoch)))
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
	f.bound = true
	f.mu.Unlock()
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
