package coordinator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/understudy-ha/understudy/coordinator/accounting"
	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/replica/ledger"
)

const (
	// accountPeriod is how often a lead compares who has how much, and accountAgain when it looks
	// a second time at what differs: most of that was under way.
	accountPeriod = time.Minute
	accountAgain  = 10 * time.Second
	// accountTold bounds how many differences are told.
	accountTold = 10
)

// accounts keep watch on the accounts of nodes, queues and users, off the loop.
type accounts struct {
	// look compares; false where this replica does not lead.
	look func(context.Context) ([]accounting.Drift, bool)
	// tell tells of drift of a kind, once for as long as there is any.
	tell  func(kind, message string)
	drift *prometheus.GaugeVec
	state atomic.Pointer[serve.Accounting]
	told  map[string]bool
}

func newAccounts(look func(context.Context) ([]accounting.Drift, bool), tell func(kind, message string), metrics prometheus.Registerer) *accounts {
	a := &accounts{look: look, tell: tell, told: make(map[string]bool), drift: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "understudy_accounting_drift",
		Help: "In how many amounts the account of the ledger or of the core is not that of the pods, by kind of holder. Only a lead knows.",
	}, []string{"kind", "account"})}
	metrics.MustRegister(a.drift)
	return a
}

// run compares until ctx ends.
func (a *accounts) run(ctx context.Context) error {
	tick := time.NewTicker(accountPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.compare(ctx)
		}
	}
}

func (a *accounts) compare(ctx context.Context) {
	found, ok := a.look(ctx)
	if ok && len(found) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(accountAgain):
		}
		var again []accounting.Drift
		again, ok = a.look(ctx)
		found = accounting.Again(found, again)
	}
	if !ok {
		a.state.Store(nil)
		a.drift.Reset()
		return
	}
	a.note(found)
}

func (a *accounts) note(found []accounting.Drift) {
	state := serve.Accounting{Checked: time.Now()}
	for _, d := range found[:min(len(found), accountTold)] {
		state.Drift = append(state.Drift, d.String())
	}
	state.More = len(found) - len(state.Drift)
	a.state.Store(&state)
	for _, kind := range []string{"node", "queue", "user"} {
		var all []string
		for _, in := range []string{"ledger", "core"} {
			n := 0
			for _, d := range found {
				if d.Kind == kind && d.In == in {
					n++
					all = append(all, d.String())
				}
			}
			a.drift.WithLabelValues(kind, in).Set(float64(n))
		}
		if len(all) > 0 && !a.told[kind] {
			a.tell(kind, strings.Join(all[:min(len(all), accountTold)], "; "))
		}
		a.told[kind] = len(all) > 0
	}
}

// lookAtAccounts compares pods, records and core of a lead.
func (r *replica) lookAtAccounts(ctx context.Context) ([]accounting.Drift, bool) {
	lead, running := r.lead.Load(), r.standby.Engine()
	if lead == nil || running == nil || *r.role.Load() != serve.Lead {
		return nil, false
	}
	world := accounting.World{Tasks: make(map[string]accounting.Placed), Core: running.Account(), Takes: engine.ResourcesOf}
	if !lead.Records(ctx, func(of []ledger.Change) {
		i := slices.IndexFunc(of, func(c ledger.Change) bool { return c.App != nil })
		for _, c := range of {
			if c.Task != nil && c.Task.Placed() && i >= 0 {
				world.Tasks[c.Task.ID] = accounting.Placed{Task: c.Task, App: of[i].App}
			}
		}
	}) {
		return nil, false
	}
	world.Pods = r.cluster.Pods()
	return accounting.Compare(world), true
}

// tellDrift leaves a trace of accounts that do not agree: a line in the log, and where this replica
// has a pod, an Event on that.
func (r *replica) tellDrift(kind, message string) {
	r.log.Error("accounts do not agree", "of", kind, "drift", message)
	if pod := r.cluster.OwnPod(); pod != nil {
		r.about.Pod(pod, true, kube.ReasonDrift, fmt.Sprintf("Accounts of a %s do not agree: %s", kind, message))
	}
}
