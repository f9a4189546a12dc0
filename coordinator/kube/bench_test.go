package kube

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// agrees answers every request as the API server does a Binding.
type agrees struct{}

func (agrees) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusCreated, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(`{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","code":201}`)),
	}, nil
}

// BenchmarkBind is what a replica does for one Binding, from the effect to the outcome,
// without the network.
func BenchmarkBind(b *testing.B) {
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: "http://apiserver", QPS: -1, Transport: agrees{},
		ContentConfig: rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf"},
	})
	if err != nil {
		b.Fatal(err)
	}
	outcomes := make(chan ledger.Event, 1)
	binder := NewBinder(client, 0, tenure, func(e ledger.Event) { outcomes <- e }, quiet)
	defer binder.Stop()
	bind := ledger.Bind{Task: task("p")}
	b.ReportAllocs()
	for b.Loop() {
		binder.Do(bind)
		if e, bound := (<-outcomes).(ledger.BindDone); !bound {
			b.Fatalf("%#v", e)
		}
	}
}
