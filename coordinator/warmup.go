package coordinator

import (
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/internal/process"
)

// yieldFor is for how long a replica rests between what it reads. It is to be warm within a
// minute, also where that takes longer than it should.
const yieldFor = 30 * time.Second

// warmup has a replica that is not warm yet leave processors, API server and etcd to the lead.
// Without a lead there is nobody to leave them to, and nothing comes before being warm.
type warmup struct {
	yields atomic.Bool
	until  time.Time // rests until then
	now    func() time.Time

	lower  func() (resume func() error, err error) // the priority of this process
	narrow func() (widen func())                   // Go's processors, to one
	resume func() error
	widen  func()
	log    *slog.Logger
}

func newWarmup(now func() time.Time, log *slog.Logger) *warmup {
	return &warmup{until: now().Add(yieldFor), now: now, log: log, lower: process.Yield, narrow: oneProcessor}
}

// oneProcessor has Go run on one processor until widen is called.
func oneProcessor() (widen func()) {
	before := runtime.GOMAXPROCS(1)
	if os.Getenv("GOMAXPROCS") != "" {
		return func() { runtime.GOMAXPROCS(before) }
	}
	return runtime.SetDefaultGOMAXPROCS // which follows the limits of the container again
}

// rests says whether who reads is to rest. Anybody may ask at any time.
func (w *warmup) rests() bool { return w.yields.Load() && w.now().Before(w.until) }

// look yields while another holds the Lease, or may hold it for all that is known.
func (w *warmup) look(lease election.Observation) {
	free := lease.Synced && (lease.Holder == "" || !w.now().Before(lease.Expires))
	w.set(!free)
}

// set begins or ends to yield. It is called by one goroutine.
func (w *warmup) set(yields bool) {
	if w.yields.Swap(yields) == yields {
		return
	}
	if yields {
		w.widen = w.narrow()
		resume, err := w.lower()
		if err != nil {
			// A container without privileges: it yields by its processors and rests alone.
			w.log.Debug("this process keeps its priority while it warms up", "err", err)
		}
		w.resume = resume
		return
	}
	if w.resume != nil {
		if err := w.resume(); err != nil {
			w.log.Error("this process keeps a low priority", "err", err)
		}
		w.resume = nil
	}
	w.widen()
}
