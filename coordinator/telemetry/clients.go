package telemetry

import (
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// EtcdDialOptions are for the etcd client: calls made within a step become
// spans of it. They are empty while tracing is not enabled.
func (t *Tracing) EtcdDialOptions() []grpc.DialOption {
	if !t.Enabled() {
		return nil
	}
	handler := otelgrpc.NewClientHandler(
		otelgrpc.WithTracerProvider(t.provider),
		otelgrpc.WithPropagators(propagation.TraceContext{}),
	)
	return []grpc.DialOption{grpc.WithStatsHandler(withinStep{handler})}
}

// WrapTransport is for rest.Config.Wrap: requests to the API server made within
// a step become spans of it. While tracing is not enabled it returns rt itself.
func (t *Tracing) WrapTransport(rt http.RoundTripper) http.RoundTripper {
	if !t.Enabled() {
		return rt
	}
	return otelhttp.NewTransport(rt,
		otelhttp.WithTracerProvider(t.provider),
		otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithFilter(traced),
		otelhttp.WithSpanNameFormatter(requestName),
	)
}

// traced leaves out what belongs to no step, and what never ends or repeats for
// ever: watches and the Lease.
func traced(r *http.Request) bool {
	if !trace.SpanContextFromContext(r.Context()).IsValid() {
		return false
	}
	if w := r.URL.Query().Get("watch"); w != "" && w != "0" && w != "false" {
		return false
	}
	return !strings.HasPrefix(r.URL.Path, "/apis/coordination.k8s.io/")
}

// requestName is the method and the resource of a request, without the names
// of objects: spans are grouped by their names.
func requestName(_ string, r *http.Request) string {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) >= 2 && parts[0] == "api":
		parts = parts[2:] // api/v1
	case len(parts) >= 3 && parts[0] == "apis":
		parts = parts[3:] // apis/group/v1
	default:
		return "kube " + r.Method
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	name := "kube " + r.Method
	if len(parts) > 0 {
		name += " " + parts[0]
	}
	if len(parts) > 2 {
		name += "/" + parts[2] // a subresource
	}
	return name
}

// withinStep keeps calls without a step, and streams without an end, away from
// the handler behind it.
type withinStep struct{ stats.Handler }

type untracedKey struct{}

func (h withinStep) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	switch info.FullMethodName {
	case "/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive":
		return context.WithValue(ctx, untracedKey{}, true)
	}
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return context.WithValue(ctx, untracedKey{}, true)
	}
	return h.Handler.TagRPC(ctx, info)
}

func (h withinStep) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if ctx.Value(untracedKey{}) == nil {
		h.Handler.HandleRPC(ctx, s)
	}
}
