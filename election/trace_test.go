package election_test

import (
	"context"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/understudy-ha/understudy/election"
)

// inSpan returns ctx as part of a trace, and the W3C form of that.
func inSpan(ctx context.Context) (context.Context, string) {
	span := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{15: 1}, SpanID: trace.SpanID{7: 2}, TraceFlags: trace.FlagsSampled,
	})
	return trace.ContextWithSpanContext(ctx, span), "00-00000000000000000000000000000001-0000000000000002-01"
}

func TestTraceGoesOnInTheSuccessor(t *testing.T) {
	for name, vacate := range map[string]func(ctx context.Context, w *world, holder *election.Term) error{
		"release": func(ctx context.Context, _ *world, holder *election.Term) error {
			return holder.Release(ctx, "")
		},
		"depose": func(ctx context.Context, w *world, _ *election.Term) error {
			_, _, err := election.Depose(ctx, w.store.Client("supervisor"), nil, time.Now(), func(string) bool { return true })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				a, b, c := w.replica("a"), w.replica("b"), w.replica("c")
				first := a.lead()
				won := b.campaign()
				advance(time.Second)
				ctx, want := inSpan(w.ctx)
				began := time.Now()
				if err := vacate(ctx, w, first); err != nil {
					t.Fatal(err)
				}
				second := within(w, won, network, "takeover")
				equal(w, "trace", second.Trace(), want)
				if at := second.ChangedAt(); at.Before(began) || at.After(second.DetectedAt()) {
					t.Errorf("changed at %v, released at %v, detected at %v", at, began, second.DetectedAt())
				}
				if _, left := w.store.Lease().Annotations[election.AnnotationTrace]; left {
					t.Error("the trace outlives the takeover")
				}
				// Who releases without a trace begins none.
				if err := second.Release(w.ctx, ""); err != nil {
					t.Fatal(err)
				}
				equal(w, "trace after a plain release", c.lead().Trace(), "")
			})
		})
	}
}

func TestNoTraceOfAHolderThatDied(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a"), w.replica("b")
		a.lead()
		won := b.campaign()
		advance(time.Second)
		a.line.Hang()
		second := within(w, won, 5*time.Second, "takeover")
		equal(w, "trace", second.Trace(), "")
		if silent := second.DetectedAt().Sub(second.ChangedAt()); silent < a.cfg.LeaseDuration {
			t.Errorf("the lease was taken after %v without a change", silent)
		}
	})
}
