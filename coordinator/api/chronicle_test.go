package api_test

import (
	"context"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/apache/yunikorn-core/pkg/events"
	"github.com/apache/yunikorn-core/pkg/metrics/history"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/replica/chronicle"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
)

// atOnce is an etcd that has everything at once.
type atOnce struct{}

func (atOnce) PutNotes(_ []mirror.Note, landed func()) {
	if landed != nil {
		landed()
	}
}

// everything is what the core has said since it was started.
type everything struct{ next uint64 }

func (e *everything) Read(int) ([]*si.EventRecord, uint64) {
	records, _, _ := events.GetEventSystem().GetEventsFromID(e.next, math.MaxUint64)
	e.next += uint64(len(records))
	return records, 0
}

// keep has the world's chronicle have what the core has, samples included.
func (w *world) keep(records []*history.MetricsRecord, log *slog.Logger) (err error) {
	var samples []record.Sample
	for i, taken := range records {
		if taken != nil {
			// One a minute.
			taken.Timestamp = taken.Timestamp.Add(time.Duration(i-len(records)) * time.Minute)
			samples = append(samples, record.Sample{
				At: ledger.At(taken.Timestamp), Applications: taken.TotalApplications, Containers: taken.TotalContainers,
			})
		}
	}
	past := chronicle.Past{ID: w.engine.Cluster().GetUUID(), Samples: samples}
	w.chronicle, err = chronicleOf(log, past, &everything{})
	return err
}

// chronicleOf is the chronicle of a lead that never ends.
func chronicleOf(log *slog.Logger, past chronicle.Past, source chronicle.Source) (*chronicle.Log, error) {
	cfg := chronicle.Default()
	cfg.Prefix, cfg.Events = "/p", 1<<20
	l, err := chronicle.New(cfg, log)
	if err != nil {
		return nil, err
	}
	go l.Keep(context.Background(), chronicle.Lead{
		Writer: atOnce{}, Events: source, Count: func() (int, int, bool) { return 0, 0, false },
		Load: func(context.Context) (chronicle.Past, error) { return past, nil },
	})
	return l, nil
}

// caughtUp has requests for events wait until the chronicle has what the core has.
func (w *world) caughtUp(h http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/v1/events") {
			_ = until("the chronicle has caught up", func() bool {
				_, _, newest := events.GetEventSystem().GetEventsFromID(math.MaxUint64, 1)
				return w.chronicle.Batch(0, 1).Highest >= newest
			})
		}
		h.ServeHTTP(out, r)
	})
}
