package telemetry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// The attributes that this project puts on spans.
const (
	AppIDKey    = attribute.Key("app.id")
	TaskIDKey   = attribute.Key("task.id")
	AppStateKey = attribute.Key("app.state")
	EpochKey    = attribute.Key("epoch")
	RevisionKey = attribute.Key("etcd.revision")
	RoleKey     = attribute.Key("replica.role")
	// ReasonKey says why a Lease could be taken, FromKey from whom.
	ReasonKey = attribute.Key("failover.reason")
	FromKey   = attribute.Key("failover.from")
)

// sendEvery is how often spans are sent: a replica that is killed takes those
// with it that it has not sent, and they are the ones that tell why.
const sendEvery = time.Second

// scope names this project as the instrumentation behind a span.
const scope = "github.com/understudy-ha/understudy"

// Tracing makes spans. Its zero value, and one that is not Enabled, makes none.
type Tracing struct {
	provider *sdktrace.TracerProvider // nil while not enabled
	tracer   trace.Tracer
}

// StartTracing sets tracing up from the environment. It never returns nil: with
// an error, as with nothing configured, the result is not enabled.
func StartTracing(ctx context.Context, standing *Standing, version string) (*Tracing, error) {
	if !configured(os.Getenv) {
		return &Tracing{}, nil
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return &Tracing{}, fmt.Errorf("tracing: %w", err)
	}
	// A resource that could be found out in part is better than no traces.
	res, resErr := describe(ctx, standing.Replica(), version)
	var batching []sdktrace.BatchSpanProcessorOption
	if os.Getenv("OTEL_BSP_SCHEDULE_DELAY") == "" {
		batching = append(batching, sdktrace.WithBatchTimeout(sendEvery))
	}
	provider := sdktrace.NewTracerProvider(
		// No sampler here: one set in code would override OTEL_TRACES_SAMPLER.
		sdktrace.WithSpanProcessor(labels{standing}),
		sdktrace.WithBatcher(exporter, batching...),
		sdktrace.WithResource(res),
	)
	t := &Tracing{provider: provider, tracer: provider.Tracer(scope, trace.WithInstrumentationVersion(version))}
	if resErr != nil {
		return t, fmt.Errorf("tracing: resource: %w", resErr)
	}
	return t, nil
}

// configured reports whether the environment says where traces should go. The
// exporter's own default, a collector on this host, is of no use here: it would
// be tried on every node of every cluster that has none.
func configured(getenv func(string) string) bool {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	for _, name := range []string{
		"OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
	} {
		if getenv(name) != "" {
			return true
		}
	}
	return false
}

func describe(ctx context.Context, replica, version string) (*resource.Resource, error) {
	res, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(
			attribute.String("service.name", "understudy"),
			attribute.String("service.version", version),
			attribute.String("service.instance.id", replica),
			attribute.String("replica", replica),
		),
		// Last, so that OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
		resource.WithFromEnv(),
	)
	if err != nil && !errors.Is(err, resource.ErrPartialResource) && !errors.Is(err, resource.ErrSchemaURLConflict) {
		return resource.Empty(), err
	}
	return res, err
}

// Enabled reports whether spans are made. Callers on a hot path ask first, and
// skip the making of names, attributes and times.
func (t *Tracing) Enabled() bool { return t.provider != nil }

// Provider is for instrumentation that wants a provider.
func (t *Tracing) Provider() trace.TracerProvider {
	if t.provider == nil {
		return noop.NewTracerProvider()
	}
	return t.provider
}

// Shutdown sends what is left and stops the exporter, or gives up when ctx ends.
func (t *Tracing) Shutdown(ctx context.Context) error {
	if t.provider == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("tracing: shutdown: %w", err)
	}
	return nil
}

// Span starts a span below the one in ctx, or a trace of its own if there is
// none. The caller ends it.
func (t *Tracing) Span(ctx context.Context, name string, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	if t.provider == nil {
		return ctx, noop.Span{}
	}
	return t.tracer.Start(ctx, name, trace.WithAttributes(attrs...))
}

// StartLinked starts a trace of its own, whatever ctx holds, with a link to the
// span whose traceparent is predecessor; an empty or malformed one means none.
// A zero start means now.
func (t *Tracing) StartLinked(ctx context.Context, name, predecessor string, start time.Time, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	return t.StartContinued(ctx, name, "", predecessor, start, attrs...)
}

// StartContinued is StartLinked, but for being a part of the trace of the span
// whose traceparent is parent, if that is neither empty nor malformed.
func (t *Tracing) StartContinued(ctx context.Context, name, parent, predecessor string, start time.Time, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	if t.provider == nil {
		return ctx, noop.Span{}
	}
	opts := []trace.SpanStartOption{trace.WithAttributes(attrs...)}
	if above := spanContext(parent); above.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, above)
	} else {
		opts = append(opts, trace.WithNewRoot())
	}
	if link, ok := Link(predecessor); ok {
		opts = append(opts, trace.WithLinks(link))
	}
	if !start.IsZero() {
		opts = append(opts, trace.WithTimestamp(start))
	}
	return t.tracer.Start(ctx, name, opts...)
}

// Record makes a linked trace of one span whose times are known, and returns
// its traceparent; empty while not enabled. A zero start or end means now, and a
// start that another clock puts after the end means the end.
func (t *Tracing) Record(name, predecessor string, start, end time.Time, attrs ...attribute.KeyValue) string {
	if t.provider == nil {
		return ""
	}
	if !end.IsZero() && (start.IsZero() || end.Before(start)) {
		start = end
	}
	ctx, span := t.StartLinked(context.Background(), name, predecessor, start, attrs...)
	if end.IsZero() {
		span.End()
	} else {
		span.End(trace.WithTimestamp(end))
	}
	return Traceparent(ctx)
}

// SpanAt makes a span below the one in ctx whose times are known, with the same
// care for clocks as Record.
func (t *Tracing) SpanAt(ctx context.Context, name string, start, end time.Time, attrs ...attribute.KeyValue) {
	if t.provider == nil {
		return
	}
	if end.Before(start) {
		start = end
	}
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(start), trace.WithAttributes(attrs...))
	span.End(trace.WithTimestamp(end))
}

// Lifecycle records the whole life of an application as one span, linked to
// the last step before its end.
func (t *Tracing) Lifecycle(appID, predecessor string, submitted, finished time.Time, attrs ...attribute.KeyValue) string {
	if t.provider == nil {
		return ""
	}
	return t.Record("app.lifecycle", predecessor, submitted, finished, append(attrs, AppIDKey.String(appID))...)
}

// labels puts on every span, also those of instrumented clients, what the
// package promises to be there.
type labels struct{ standing *Standing }

func (l labels) OnStart(parent context.Context, span sdktrace.ReadWriteSpan) {
	given := map[attribute.Key]bool{}
	for _, a := range span.Attributes() {
		given[a.Key] = true
	}
	for _, a := range l.standing.attributes() {
		if !given[a.Key] {
			span.SetAttributes(a)
		}
	}
	above, ok := trace.SpanFromContext(parent).(sdktrace.ReadOnlySpan)
	if !ok || given[AppIDKey] || span.Parent().SpanID() != above.SpanContext().SpanID() {
		return // No span above in this process, or one that a new root left behind.
	}
	for _, a := range above.Attributes() {
		if a.Key == AppIDKey {
			span.SetAttributes(a)
		}
	}
}

func (labels) OnEnd(sdktrace.ReadOnlySpan)      {}
func (labels) Shutdown(context.Context) error   { return nil }
func (labels) ForceFlush(context.Context) error { return nil }
