package v1

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

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

// BenchmarkList lists 20,000 applications with two tasks each: what one answer takes, of processors
// too, which other programs on the machine do not change.
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
			used := processors(b)
			for b.Loop() {
				r.router.ServeHTTP(&nowhere{header: make(http.Header)}, httptest.NewRequest(http.MethodGet, Prefix+path, nil))
			}
			b.ReportMetric(float64((processors(b)-used).Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

// processors is for how long this process has used one.
func processors(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
