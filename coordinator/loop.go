package coordinator

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// journal makes changes durable; the mirror is the one in use. It calls done
// once the changes are durable, in the order of the Append calls.
type journal interface {
	Append(changes []ledger.Change, done func())
}

// loop is the goroutine that owns the ledger of a lead. It steps events in
// batches: all that have arrived are stepped, their changes go to the journal
// together, effects on the engine are carried out at once (the engine dies with
// the process, so it cannot get ahead of what survives) and effects on the
// cluster when the journal says that the batch is durable. The next batch does
// not wait for that.
type loop struct {
	ledger  *ledger.Ledger
	box     *mailbox
	journal journal
	// inside carries out effects on the engine, outside those on the cluster.
	// Neither may wait: outside runs on the journal's goroutine.
	inside  func(ledger.Effect)
	outside func(ledger.Effect)
	// step steps an event, observe sees it afterwards. Both may be nil: the ledger
	// then steps by itself.
	step    func(*ledger.Ledger, ledger.Event) ledger.Delta
	observe func(ledger.Event, ledger.Delta)
	now     func() time.Time
	log     *slog.Logger

	// counts, if set, is where readers on other goroutines find a snapshot.
	counts *atomic.Pointer[ledger.Counts]
}

// run steps events until ctx ends. What is in the mailbox then is not stepped:
// whatever it announced is found again by the next lead's recovery.
func (l *loop) run(ctx context.Context) {
	var buf []item
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		l.setTimer(timer)
		select {
		case <-ctx.Done():
			return
		case <-l.box.ready:
			buf = l.box.take(buf)
			l.batch(buf)
		case <-timer.C:
			l.batch([]item{{event: ledger.Tick{Stamp: ledger.Stamp{At: ledger.At(l.now())}}}})
		}
	}
}

// setTimer arms timer for the ledger's next deadline.
func (l *loop) setTimer(timer *time.Timer) {
	wait := time.Hour
	if due, ok := l.ledger.NextDeadline(); ok {
		wait = min(wait, max(0, due.Time().Sub(l.now())))
	}
	timer.Reset(wait)
}

// batch steps items and hands their changes and effects on.
func (l *loop) batch(items []item) {
	var changes changeSet
	var outside []ledger.Effect
	for _, it := range items {
		if it.query != nil {
			it.query(l.ledger)
			continue
		}
		var delta ledger.Delta
		if l.step != nil {
			delta = l.step(l.ledger, it.event)
		} else {
			delta = l.ledger.Step(it.event)
		}
		if l.observe != nil {
			l.observe(it.event, delta)
		}
		changes.add(delta.Changes)
		for _, effect := range delta.Effects {
			if effect.External() {
				outside = append(outside, effect)
			} else {
				l.inside(effect)
			}
		}
	}
	if len(changes.list) > 0 && l.counts != nil {
		counts := l.ledger.Counts()
		l.counts.Store(&counts)
	}
	l.commit(changes.list, outside)
}

// commit makes changes durable and then lets the effects out.
func (l *loop) commit(changes []ledger.Change, outside []ledger.Effect) {
	if len(changes) == 0 && len(outside) == 0 {
		return
	}
	act := func() {
		for _, effect := range outside {
			l.outside(effect)
		}
	}
	if failpoint.Off(failpoint.CommitGuard) {
		act()
		act = nil
	}
	l.journal.Append(changes, act)
}

// changeSet collects changes, keeping the newest of each key.
type changeSet struct {
	list  []ledger.Change
	index map[ledger.Key]int
}

func (s *changeSet) add(changes []ledger.Change) {
	for _, c := range changes {
		if i, ok := s.index[c.Key]; ok {
			s.list[i] = c
			continue
		}
		if s.index == nil {
			s.index = make(map[ledger.Key]int)
		}
		s.index[c.Key] = len(s.list)
		s.list = append(s.list, c)
	}
}
