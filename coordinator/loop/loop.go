package loop

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// Journal makes changes durable; the mirror is the one in use. It calls done
// once the changes are durable, in the order of the Append calls.
type Journal interface {
	Append(changes []ledger.Change, done func())
}

// Config says what a loop works with. Ledger, Mailbox, Journal, Inside, Outside and
// Now are required.
type Config struct {
	// Ledger belongs to the loop from New on.
	Ledger  *ledger.Ledger
	Mailbox *Mailbox
	Journal Journal
	// Inside carries out effects on the engine, Outside those on the cluster.
	// Neither may wait: Outside runs on the journal's goroutine.
	Inside, Outside func(ledger.Effect)
	// Step steps an event, nil for the ledger's own Step. Observe, if set, sees it
	// afterwards.
	Step    func(*ledger.Ledger, ledger.Event) ledger.Delta
	Observe func(ledger.Event, ledger.Delta)
	// Durable, if set, is told of changes once they are durable, and the reader has them. It
	// must not wait.
	Durable func([]ledger.Change)
	// Reader, if set, follows the ledger.
	Reader *Reader
	// Counts, if set, is where readers on other goroutines find a snapshot.
	Counts *atomic.Pointer[ledger.Counts]
	Now    func() time.Time
}

// Loop steps events in batches: all that have arrived are stepped, their changes go
// to the journal together, effects on the engine are carried out at once (the engine
// dies with the process, so it cannot get ahead of what survives) and effects on the
// cluster when the journal says that the batch is durable. The next batch does
// not wait for that.
type Loop struct {
	Config
	working atomic.Bool
	stepped atomic.Uint64 // entries of the mailbox
}

// New makes a loop that Run runs.
func New(cfg Config) *Loop {
	if cfg.Step == nil {
		cfg.Step = (*ledger.Ledger).Step
	}
	if cfg.Observe == nil {
		cfg.Observe = func(ledger.Event, ledger.Delta) {}
	}
	return &Loop{Config: cfg}
}

// Run steps events until ctx ends. What is in the mailbox then is not stepped:
// whatever it announced is found again by the next lead's recovery.
func (l *Loop) Run(ctx context.Context) {
	var buf []item
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		l.setTimer(timer)
		select {
		case <-ctx.Done():
			return
		case <-l.Mailbox.ready:
			l.working.Store(true)
			buf = l.Mailbox.take(buf)
			l.batch(buf)
			l.working.Store(false)
		case <-timer.C:
			l.batch([]item{{event: ledger.Tick{Stamp: ledger.Stamp{At: ledger.At(l.Now())}}}})
		}
	}
}

// Progress reports whether entries wait to be stepped, or are being stepped, and how
// many have been. It may be called from any goroutine.
func (l *Loop) Progress() (waits bool, done uint64) {
	done = l.stepped.Load()
	return l.working.Load() || l.Mailbox.waiting() > 0, done
}

// setTimer arms timer for the ledger's next deadline.
func (l *Loop) setTimer(timer *time.Timer) {
	wait := time.Hour
	if due, ok := l.Ledger.NextDeadline(); ok {
		wait = min(wait, max(0, due.Time().Sub(l.Now())))
	}
	timer.Reset(wait)
}

// batch steps items and hands their changes and effects on.
func (l *Loop) batch(items []item) {
	failpoint.Hit(failpoint.LoopStep)
	var changes ledger.ChangeSet
	var outside []ledger.Effect
	for _, it := range items {
		if it.ask != nil {
			it.ask(l.Ledger)
			l.stepped.Add(1)
			continue
		}
		delta := l.Step(l.Ledger, it.event)
		l.Observe(it.event, delta)
		changes.Add(delta.Changes)
		for _, effect := range delta.Effects {
			if effect.External() {
				outside = append(outside, effect)
			} else {
				l.Inside(effect)
			}
		}
		l.stepped.Add(1)
	}
	if changes.Len() > 0 && l.Counts != nil {
		counts := l.Ledger.Counts()
		l.Counts.Store(&counts)
	}
	l.Commit(changes.All(), outside)
}

// Commit makes changes durable and then lets the effects out.
func (l *Loop) Commit(changes []ledger.Change, outside []ledger.Effect) {
	if len(changes) == 0 && len(outside) == 0 {
		return
	}
	act := func() {
		if l.Reader != nil {
			l.Reader.note(changes)
		}
		if l.Durable != nil {
			l.Durable(changes)
		}
		for _, effect := range outside {
			l.Outside(effect)
		}
	}
	if failpoint.Off(failpoint.CommitGuard) {
		act()
		act = nil
	}
	l.Journal.Append(changes, act)
}
