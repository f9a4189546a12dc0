package v1

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// nowhere takes an answer and keeps nothing of it.
type nowhere struct {
	header http.Header
	bytes  int
}

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) WriteHeader(int)             {}
func (n *nowhere) Write(b []byte) (int, error) { n.bytes += len(b); return len(b), nil }

// BenchmarkList lists 20,000 applications with two tasks each: the time and the memory of one
// answer, and for how long one piece of it keeps the records.
func BenchmarkList(b *testing.B) {
	r := newReplica()
	for i := range 20_000 {
		id := fmt.Sprintf("app-%05d", i)
		r.records.Apply(app(id, "root.q", fmt.Sprint("user-", i%50), ledger.AppStateRunning))
		r.records.Apply(task(id, fmt.Sprint("t1-", i), "n1", ledger.TaskStateBound))
		r.records.Apply(task(id, fmt.Sprint("t2-", i), "", ledger.TaskStateScheduling))
	}
	for _, path := range []string{"applications", "applications?limit=100&fields=id,state", "applications?user=user-7", "tasks", "users"} {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			r.longest = 0
			for b.Loop() {
				r.router.ServeHTTP(&nowhere{header: make(http.Header)}, httptest.NewRequest(http.MethodGet, Prefix+path, nil))
			}
			b.ReportMetric(float64(r.longest.Microseconds()), "µs/longest-read")
		})
	}
}
