// Package telemetrytest is a collector of traces in memory, for tests: a real
// receiver of OTLP over HTTP, to which any process can send.
package telemetrytest

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector keeps the spans that it is sent.
type Collector struct {
	server *httptest.Server

	mu      sync.Mutex
	spans   []Span
	arrived chan struct{} // closed, and replaced, when there are more
}

// ID names a span and its trace, in hexadecimal. The zero ID is of no span.
type ID struct{ Trace, Span string }

// Span is a span as it was received.
type Span struct {
	ID
	Name       string
	Parent     ID
	Links      []ID
	Start, End time.Time
	Attributes map[string]string
	// Resource is the process it comes from.
	Resource map[string]string
}

// New returns a collector that listens on this machine.
func New() *Collector {
	c := &Collector{arrived: make(chan struct{})}
	c.server = httptest.NewServer(c)
	return c
}

// Close ends it.
func (c *Collector) Close() { c.server.Close() }

// URL is for OTEL_EXPORTER_OTLP_ENDPOINT.
func (c *Collector) URL() string { return c.server.URL }

// Spans returns what has arrived, in the order of the spans' beginnings.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.spans)
	slices.SortStableFunc(all, func(a, b Span) int { return a.Start.Compare(b.Start) })
	return all
}

// Wait returns what has arrived once that is enough, or when ctx ends.
func (c *Collector) Wait(ctx context.Context, enough func([]Span) bool) ([]Span, error) {
	for {
		c.mu.Lock()
		arrived := c.arrived
		c.mu.Unlock()
		all := c.Spans()
		if enough(all) {
			return all, nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return all, context.Cause(ctx)
		}
	}
}

// ServeHTTP takes one export.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request collectorpb.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, "not an export of traces", http.StatusBadRequest)
		return
	}
	c.take(&request)
	reply, _ := proto.Marshal(&collectorpb.ExportTraceServiceResponse{})
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(reply)
}

func (c *Collector) take(request *collectorpb.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.arrived)
	c.arrived = make(chan struct{})
	for _, rs := range request.ResourceSpans {
		resource := values(rs.Resource.Attributes)
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				c.spans = append(c.spans, received(s, resource))
			}
		}
	}
}

func received(s *tracepb.Span, resource map[string]string) Span {
	span := Span{
		ID: id(s.TraceId, s.SpanId), Name: s.Name,
		Start: time.Unix(0, int64(s.StartTimeUnixNano)), End: time.Unix(0, int64(s.EndTimeUnixNano)),
		Attributes: values(s.Attributes), Resource: resource,
	}
	if len(s.ParentSpanId) > 0 {
		span.Parent = id(s.TraceId, s.ParentSpanId)
	}
	for _, l := range s.Links {
		span.Links = append(span.Links, id(l.TraceId, l.SpanId))
	}
	return span
}

func id(trace, span []byte) ID {
	return ID{hex.EncodeToString(trace), hex.EncodeToString(span)}
}

// values keeps strings and integers, which is all that this project uses.
func values(attrs []*commonpb.KeyValue) map[string]string {
	m := map[string]string{}
	for _, kv := range attrs {
		switch v := kv.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			m[kv.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			m[kv.Key] = strconv.FormatInt(v.IntValue, 10)
		}
	}
	return m
}
