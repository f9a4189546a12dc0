package telemetry

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// roundTripper answers every request, and keeps what it was asked.
type roundTripper func(*http.Request)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	f(r)
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
}

func TestKubernetesRequestsAreTracedWithinAStepOnly(t *testing.T) {
	c := newCollector(t)
	tracing, stop := c.process(t, NewStanding("r1"))
	parents := map[string]string{}
	transport := tracing.WrapTransport(roundTripper(func(r *http.Request) {
		parents[r.Method+" "+r.URL.RequestURI()] = r.Header.Get("traceparent")
	}))
	do := func(ctx context.Context, method, path string) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, method, "http://kubernetes"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}

	step, span := tracing.Span(t.Context(), "bind", AppIDKey.String("app-1"))
	do(step, http.MethodPost, "/api/v1/namespaces/default/pods/worker-17/binding")
	do(step, http.MethodPatch, "/apis/yunikorn.apache.org/v1alpha1/namespaces/default/applications/a/status")
	do(step, http.MethodGet, "/api/v1/pods?watch=true")
	do(step, http.MethodPut, "/apis/coordination.k8s.io/v1/namespaces/understudy-system/leases/understudy")
	do(t.Context(), http.MethodGet, "/api/v1/nodes")
	span.End()
	stop()

	got := c.names()
	slices.Sort(got)
	if want := []string{"bind", "kube PATCH applications/status", "kube POST pods/binding"}; !slices.Equal(got, want) {
		t.Errorf("spans %q, want %q", got, want)
	}
	if c.span(t, "kube POST pods/binding").Attributes["app.id"] != "app-1" {
		t.Error("the request does not tell the application")
	}
	for request, parent := range parents {
		traced := strings.Contains(request, "binding") || strings.Contains(request, "applications")
		if (parent != "") != traced {
			t.Errorf("%s carries traceparent %q", request, parent)
		}
	}
}

func TestRequestNames(t *testing.T) {
	for path, want := range map[string]string{
		"/api/v1/nodes":                          "kube GET nodes",
		"/api/v1/namespaces/default":             "kube GET namespaces",
		"/api/v1/namespaces/default/pods":        "kube GET pods",
		"/api/v1/namespaces/default/pods/a":      "kube GET pods",
		"/apis/apps/v1/namespaces/d/things/a/up": "kube GET things/up",
		"/api/v1":                                "kube GET",
		"/version":                               "kube GET",
		"/":                                      "kube GET",
	} {
		req, err := http.NewRequest(http.MethodGet, "http://kubernetes"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := requestName("", req); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// fakeEtcd knows no method, and keeps what it was asked.
type fakeEtcd struct {
	mu    sync.Mutex
	calls map[string]string // traceparent by method
}

func (f *fakeEtcd) handle(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	meta, _ := metadata.FromIncomingContext(stream.Context())
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[method] = strings.Join(meta.Get("traceparent"), "")
	return status.Error(codes.Unimplemented, method)
}

func TestEtcdCallsAreTracedWithinAStepOnly(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	etcd := &fakeEtcd{calls: map[string]string{}}
	server := grpc.NewServer(grpc.UnknownServiceHandler(etcd.handle))
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		<-served
	}()

	c := newCollector(t)
	tracing, stop := c.process(t, NewStanding("r1"))
	conn, err := grpc.NewClient(listener.Addr().String(),
		append(tracing.EtcdDialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	call := func(ctx context.Context, method string) {
		t.Helper()
		err := conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{})
		if status.Code(err) != codes.Unimplemented {
			t.Fatalf("%s: %v", method, err)
		}
	}

	step, span := tracing.Span(t.Context(), "commit", AppIDKey.String("app-1"))
	call(step, "/etcdserverpb.KV/Txn")
	call(step, "/etcdserverpb.Watch/Watch")
	call(step, "/etcdserverpb.Lease/LeaseKeepAlive")
	call(t.Context(), "/etcdserverpb.KV/Range")
	span.End()
	stop()

	got := c.names()
	slices.Sort(got)
	if want := []string{"commit", "etcdserverpb.KV/Txn"}; !slices.Equal(got, want) {
		t.Errorf("spans %q, want %q", got, want)
	}
	if c.span(t, "etcdserverpb.KV/Txn").Attributes["app.id"] != "app-1" {
		t.Error("the call does not tell the application")
	}
	etcd.mu.Lock()
	defer etcd.mu.Unlock()
	if len(etcd.calls) != 4 {
		t.Errorf("calls %v", etcd.calls)
	}
	for method, parent := range etcd.calls {
		if (parent != "") != (method == "/etcdserverpb.KV/Txn") {
			t.Errorf("%s carries traceparent %q", method, parent)
		}
	}
}
