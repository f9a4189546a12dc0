package standby

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/loop"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
	"github.com/understudy-ha/understudy/replica/view"
)

// Promotion is what a lead brings to the standby that it takes over.
type Promotion struct {
	// Context ends with the lead; Mailbox is where app managers and engine reach it.
	Context context.Context
	Mailbox *loop.Mailbox
	// State is the view's ledger, which the engine has been told. Refused are the
	// records that could not be read, and Keys where they are.
	State   *ledger.Ledger
	Refused []view.Refused
	Keys    record.Keys
	// Stuck is told that the engine's core does not get on. It returns at once.
	Stuck func(error)
	// Step steps an event.
	Step func(*ledger.Ledger, ledger.Event) ledger.Delta
	Now  func() time.Time
}

// Reconciled is what came of reconciling a ledger with the cluster: changes to commit,
// and effects to carry out once they are durable.
type Reconciled struct {
	Changes  ledger.ChangeSet
	Outside  []ledger.Effect
	Findings int
	Events   int
	Refused  []view.Refused
}

// Merge takes in what was found later.
func (r *Reconciled) Merge(o Reconciled) {
	r.Changes.Add(o.Changes.All())
	r.Outside = append(r.Outside, o.Outside...)
	r.Findings += o.Findings
	r.Events += o.Events
}

// Open has nodes get their capacity, with the engine still held: it holds no asks.
func (s *Standby) Open() error { return s.engine.Open() }

// Promote ends the following: it steps what the cluster says about the suspects into
// the ledger, and tells the engine what that changes. From now on the managers' reports
// and the engine's decisions are events of the lead; what managers reported before is
// among the findings, or noted. Records that were refused are put right with the same changes.
func (s *Standby) Promote(p Promotion) Reconciled {
	sink := func(event ledger.Event) { p.Mailbox.Push(event) }
	s.sink.Store(&sink)
	s.stuck.Store(&p.Stuck)
	s.staff.open(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.promotion = p
	findings := s.finish(p.State)
	r := s.reconcile(findings)
	for _, event := range idle(p.State, s.staff, p.Now()) {
		s.stepInto(&r, event)
	}
	for _, id := range p.State.Halfway() {
		s.stepInto(&r, ledger.Continue{Stamp: ledger.Stamp{At: ledger.At(p.Now())}, AppID: id})
	}
	r.Refused = p.Refused
	if repairs := repairs(p.State, p.Refused, p.Keys); len(repairs) > 0 {
		s.log.Warn("records that could not be read are written anew or deleted", "refused", len(p.Refused), "repaired", len(repairs))
		r.Changes.Add(repairs)
	}
	return r
}

// finish ends the following and returns what ledger and cluster do not agree
// about, in a stable order. s.mu is held.
func (s *Standby) finish(state *ledger.Ledger) []finding {
	s.led, s.following = true, false
	var findings []finding
	for uid, at := range s.suspects {
		if f, agrees := s.look(state, uid, at); !agrees {
			findings = append(findings, f)
		}
	}
	s.suspects = nil
	inOrder(findings)
	return findings
}

// reconcile steps what the cluster says of the findings. s.mu is held.
func (s *Standby) reconcile(findings []finding) Reconciled {
	r := Reconciled{Findings: len(findings)}
	events, unassigned, unknown := reconciliation(s.promotion.State, s.staff, s.cfg.SchedulerName, findings, s.promotion.Now())
	if unknown > 0 {
		s.log.Error("no app manager knows pods that have a node: they are not counted until one reports them", "pods", unknown)
	}
	s.unassigned = append(s.unassigned, unassigned...)
	if failpoint.Off(failpoint.ReconcileGuard) {
		return r
	}
	for _, event := range events {
		s.stepInto(&r, event)
	}
	return r
}

// stepInto steps an event, and feeds the engine what that changes. Effects on the
// engine are not carried out: as long as it is held it is fed. s.mu is held.
func (s *Standby) stepInto(r *Reconciled, event ledger.Event) {
	r.Events++
	delta := s.promotion.Step(s.promotion.State, event)
	r.Changes.Add(delta.Changes)
	for _, effect := range delta.Effects {
		if effect.External() {
			r.Outside = append(r.Outside, effect)
		}
	}
	for _, c := range delta.Changes {
		s.feed(s.promotion.State, c.Key)
	}
}

// Verify compares the engine's account with that of a ledger.
func (s *Standby) Verify(ctx context.Context, state *ledger.Ledger) (engine.Mismatches, error) {
	if failpoint.Off(failpoint.UsageGuard) {
		return nil, nil
	}
	usage := make(map[string]map[string]int64)
	for app := range state.Apps() {
		if used := state.Usage(app.ID); len(used) > 0 {
			usage[app.ID] = used
		}
	}
	return s.engine.Compare(ctx, usage)
}

// SetAside forgets what the mirror says of applications, and rebuilds them from the
// pods that are theirs: those that the ledger knew as theirs, and those that name them
// and are nobody else's.
func (s *Standby) SetAside(ctx context.Context, state *ledger.Ledger, apps []string) (Reconciled, error) {
	aside, known := make(map[string]bool, len(apps)), make(map[string]string)
	for _, id := range apps {
		aside[id] = true
		for task := range state.Tasks(id) {
			known[task.ID] = id
		}
		if err := s.engine.Drop(ctx, id); err != nil {
			return Reconciled{}, fmt.Errorf("application %s: %w", id, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var r Reconciled
	for _, id := range apps {
		delete(s.fed, id)
		r.Changes.Add(state.SetAside(id))
	}
	var findings []finding
	for _, pod := range s.cfg.Cluster.Pods() {
		uid := string(pod.UID)
		app, was := known[uid]
		if task := state.TaskByID(uid); task != nil {
			app = task.AppID
		} else if !was {
			app = s.appOf(pod)
		}
		if was || aside[app] {
			findings = append(findings, finding{ledger.Key{AppID: app, TaskID: uid}, was, pod})
		}
	}
	inOrder(findings)
	r.Merge(s.reconcile(findings))
	return r, nil
}

// Begin lets the engine go.
func (s *Standby) Begin(ctx context.Context) error {
	s.mu.Lock()
	s.fed = nil
	s.staff.recount(s.promotion.State)
	s.mu.Unlock()
	if err := s.engine.Engage(ctx); err != nil {
		return err
	}
	s.bequeath()
	s.pulse.start(s.engine.Ping)
	return nil
}

// Do carries out an effect on the engine.
func (s *Standby) Do(effect ledger.Effect) error { return s.engine.Do(effect) }

// appOf returns the application that a pod belongs to which no record knows.
func (s *Standby) appOf(pod *v1.Pod) string {
	if h, ok := s.staff.allocations([]*v1.Pod{pod})[pod.UID]; ok {
		return h.task.ApplicationID
	}
	return workload.AppID(pod)
}

// Replay has the managers report what came while nobody led. It returns early when they
// are stopped.
func (s *Standby) Replay() { s.staff.replay(s.promotion, s.unassigned) }
