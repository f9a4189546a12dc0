package coordinator

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/term"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

var _ serve.Source = (*replica)(nil)

// Status is a snapshot of this replica.
func (r *replica) Status() serve.Status {
	followed := r.view.Status()
	held := r.elector.Observed()
	status := serve.Status{
		Replica:     r.cfg.Identity,
		Incarnation: r.incarnation,
		Role:        *r.role.Load(),
		Leader:      leaderStatus(held, r.cfg.Election.LeaseDuration),
		Mirror:      serve.Mirror{Policy: r.cfg.Mirror.Policy},
		View: serve.View{
			Synced: followed.Synced, Revision: followed.Revision, Connected: followed.Connected,
			Lag: followed.Lag, LastError: followed.LastError,
		},
		Fence:         *r.fence.state.Load(),
		Configuration: r.configuration(),
		Accounting:    r.accounts.state.Load(),
		Managers:      r.standby.Managers(),
		Version:       r.opts.Version,
		Started:       r.started,
		UptimeSeconds: time.Since(r.started).Seconds(),
		Restarts:      r.past.Restarts,
		LastEnd:       r.lastEnd(),
	}
	for _, refused := range followed.Refused {
		status.View.Refused = append(status.View.Refused, serve.Refused{Key: refused.Key, Error: refused.Err.Error()})
	}
	if l := r.lead.Load(); l != nil {
		status.Epoch = l.Epoch()
		if counts := l.Counts(); counts != nil {
			count(&status, *counts)
		}
		if s, ok := l.MirrorStatus(); ok {
			status.Mirror.Revision, status.Mirror.Pending = s.Revision, s.Pending
			status.Mirror.Suspended, status.Mirror.Since, status.Mirror.LastError = s.Suspended, s.Since, s.LastError
			if s.Suspended {
				status.Suspended = append(status.Suspended,
					"nothing acknowledged is lost: etcd is away and effects run ahead of durability")
			}
		}
	} else {
		count(&status, r.view.Counts())
	}
	status.Terms = r.terms()
	if r.roster != nil {
		for _, m := range r.roster.Members() {
			status.Members = append(status.Members, memberStatus(m))
		}
	}
	return status
}

// terms is the history of leadership, newest first, as far as this replica knows.
func (r *replica) terms() []serve.Term {
	terms := r.view.Status().Terms
	if l := r.lead.Load(); l != nil {
		terms = replaceTerm(terms, l.Term())
	}
	return termsStatus(terms)
}

func leaderStatus(held election.Observation, configured time.Duration) serve.Leader {
	leader := serve.Leader{Identity: held.Holder, Epoch: held.Transitions}
	if held.Holder != "" { // what nobody holds promises nothing
		leader.LeaseSeconds = held.LeaseDuration.Seconds()
		leader.LeaseStretched = held.LeaseDuration > configured
	}
	return leader
}

// replaceTerm puts the own term, which the view of a lead no longer follows,
// in its place.
func replaceTerm(terms []record.Term, own record.Term) []record.Term {
	terms = slices.DeleteFunc(slices.Clone(terms), func(t record.Term) bool { return t.Epoch == own.Epoch })
	return append(terms, own)
}

// termsStatus returns terms, newest first. One that a later one follows is over, also if
// its lead did not come to write that down.
func termsStatus(terms []record.Term) (list []serve.Term) {
	terms = slices.SortedFunc(slices.Values(terms), func(a, b record.Term) int { return cmp.Compare(b.Epoch, a.Epoch) })
	for i, t := range terms {
		shown := termStatus(t)
		if i > 0 && shown.Ended.IsZero() {
			shown.Ended, shown.EndReason = endBy(terms[i-1])
			if shown.Ended.Before(shown.Started) { // by the clock of another machine
				shown.Ended = shown.Started
			}
		}
		list = append(list, shown)
	}
	return list
}

// endBy tells from the term that followed when and how one ended.
func endBy(next record.Term) (at time.Time, reason string) {
	at = next.Started.Time()
	if next.Reason != string(election.Dead) {
		return at, fmt.Sprintf("succeeded by epoch %d", next.Epoch)
	}
	for _, step := range next.Timings {
		if step.Step == term.StepDied {
			at = step.At.Time()
		}
	}
	return at, "crashed"
}

func termStatus(t record.Term) serve.Term {
	term := serve.Term{
		Epoch: t.Epoch, Incarnation: t.Incarnation, Reason: t.Reason, EndReason: t.EndReason,
		Started: t.Started.Time(), Ended: t.Ended.Time(),
	}
	for _, step := range t.Timings {
		at := step.At.Time()
		term.Timings = append(term.Timings, serve.Timing{
			Step: step.Step, At: at, Millis: float64(at.Sub(t.Started.Time()).Microseconds()) / 1000,
		})
	}
	return term
}

// count notes how many applications and tasks there are, and of which manager.
func count(status *serve.Status, c ledger.Counts) {
	status.Counts = serve.Counts{Apps: map[string]int{}, Tasks: map[string]int{}}
	for state, n := range c.Apps {
		status.Counts.Apps[string(state)] = n
	}
	for state, n := range c.Tasks {
		status.Counts.Tasks[string(state)] = n
	}
	for i := range status.Managers {
		m := &status.Managers[i]
		m.Applications = c.Managers[m.Name]
	}
}

// Checks are the conditions of readiness: an understudy is ready when its view
// and its informers are synced and its engine is fed.
func (r *replica) Checks() []serve.Check {
	checks := []serve.Check{{Name: "view", Err: r.viewSynced()}, {Name: "engine", Err: r.standby.Ready()}}
	unsynced := errors.New("not synced with the API server")
	if err := r.cluster.Unreachable(); err != nil {
		unsynced = fmt.Errorf("%w at %w", unsynced, err)
	}
	for name, synced := range r.cluster.Synced() {
		check := serve.Check{Name: "informer-" + name}
		if !synced {
			check.Err = unsynced
		}
		checks = append(checks, check)
	}
	slices.SortFunc(checks, func(a, b serve.Check) int { return strings.Compare(a.Name, b.Name) })
	return checks
}

func (r *replica) viewSynced() error {
	status := r.view.Status()
	switch {
	case r.lead.Load() != nil || status.Synced:
		return nil
	case status.LastError != "":
		return fmt.Errorf("not synced with etcd at %s: %s", strings.Join(r.cfg.Etcd.Endpoints, ", "), status.LastError)
	}
	return errors.New("not synced with etcd")
}

// missing says which checks have not passed, and why; those for the same reason
// together.
func (r *replica) missing() (list []string) {
	names := map[string][]string{}
	for _, check := range r.Checks() {
		if check.Err != nil {
			why := check.Err.Error()
			names[why] = append(names[why], check.Name)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(names)) {
		list = append(list, strings.Join(names[why], ", ")+": "+why)
	}
	return list
}
