package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// header is the W3C name under which the context of a span travels.
const header = "traceparent"

// Traceparent returns the W3C form of the span in ctx, which records keep and
// other processes continue or link to; empty if there is none.
func Traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[header]
}

// Link returns a link to the span that traceparent names. It reports false for
// one that is empty or malformed: a record may come from a peer without traces.
func Link(traceparent string) (trace.Link, bool) {
	sc := spanContext(traceparent)
	return trace.Link{SpanContext: sc}, sc.IsValid()
}

// Continue returns ctx with the span that traceparent names as its parent, so
// that the next Span is part of that trace: a failover is one trace, begun by
// one process and ended by another. A malformed traceparent leaves ctx alone.
func Continue(ctx context.Context, traceparent string) context.Context {
	if sc := spanContext(traceparent); sc.IsValid() {
		return trace.ContextWithRemoteSpanContext(ctx, sc)
	}
	return ctx
}

func spanContext(traceparent string) trace.SpanContext {
	if traceparent == "" {
		return trace.SpanContext{}
	}
	carrier := propagation.MapCarrier{header: traceparent}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
}
