package standby

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// teller tells a manager what becomes of its applications, on a goroutine of its own: a
// manager that takes its time holds up nobody. Of an application about which there is
// more to tell than the manager has taken, the last state is told.
type teller struct {
	to     managers.Follower      // nil for a manager that hears of groups only
	groups managers.GroupFollower // nil for one that does not

	mu      sync.Mutex
	pending map[string]news
	known   map[string]bool
	wake    chan struct{}
}

// news is what there is to tell of one application.
type news struct {
	app    managers.AppStatus
	groups []managers.GroupStatus
}

func newTeller(to managers.Follower) *teller {
	return &teller{
		to: to, pending: make(map[string]news), known: make(map[string]bool), wake: make(chan struct{}, 1),
	}
}

// note takes down how an application of manager is; app is nil for one that is gone.
func (t *teller) note(manager, id string, app *ledger.App) {
	if app != nil && app.Manager != manager {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	status, groups := managers.AppStatus{ApplicationID: id}, []managers.GroupStatus(nil)
	if app == nil {
		if !t.known[id] {
			return
		}
		delete(t.known, id)
	} else {
		t.known[id] = true
		status.State, status.Message, status.Queue = string(app.State), app.Message, app.PlacedQueue
		if n := len(app.StateLog); n > 0 {
			status.Since = app.StateLog[n-1].At.Time()
		}
		for i := range app.Crews {
			c := &app.Crews[i]
			groups = append(groups, managers.GroupStatus{Name: c.Name, UID: c.UID, Whole: c.Whole, Reason: c.Reason, Message: c.Message})
		}
	}
	t.pending[id] = news{status, groups}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// run tells until ctx ends.
func (t *teller) run(ctx context.Context, m *member) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		}
		t.mu.Lock()
		pending := t.pending
		t.pending = make(map[string]news)
		t.mu.Unlock()
		for id, news := range pending {
			if ctx.Err() != nil {
				return
			}
			// One that it fails over is no reason to keep the others from it. What comes while it
			// blocks is told when it does no more.
			if t.to != nil && m.free(ctx, "AppChanged") {
				m.do("AppChanged", func() error { t.to.AppChanged(news.app); return nil })
			}
			if t.groups != nil && m.free(ctx, "GroupsChanged") {
				m.do("GroupsChanged", func() error { t.groups.GroupsChanged(id, news.groups); return nil })
			}
		}
	}
}

// recount notes how all applications are, for those that want to hear.
func (st staff) recount(l *ledger.Ledger) {
	for _, m := range st {
		if m.tells == nil {
			continue
		}
		for app := range l.Apps() {
			m.tells.note(m.Name(), app.ID, app)
		}
	}
}

// unsaid is what a manager had to tell a user, and when.
type unsaid struct {
	at   time.Time
	tell func(Voice)
}

const (
	// unsaidLimit is how much of what managers have to tell is kept, unsaidAge for how
	// long: until another replica leads.
	unsaidLimit = 1000
	unsaidAge   = time.Minute
)

// say has users told what a manager says, by the lead alone. All managers say the same, so
// that what a replica says which follows the lead has said as a rule. But it may have died
// of what it had just seen, or before: the next lead says again what is new.
func (s *Standby) say(tell func(Voice)) {
	s.saying.Lock()
	defer s.saying.Unlock()
	if voice := s.voice.Load(); voice != nil {
		tell(*voice)
		return
	}
	s.unsaid = append(s.unsaid, unsaid{s.cfg.Now(), tell})
	if len(s.unsaid) > 2*unsaidLimit {
		s.unsaid = slices.Delete(s.unsaid, 0, len(s.unsaid)-unsaidLimit)
	}
}

// sayAgain says what managers have said lately, while this replica followed.
func (s *Standby) sayAgain() {
	s.saying.Lock()
	defer s.saying.Unlock()
	kept, voice := s.unsaid, s.voice.Load()
	s.unsaid = nil
	if voice == nil {
		return
	}
	for _, one := range kept[max(len(kept)-unsaidLimit, 0):] {
		if s.cfg.Now().Sub(one.at) < unsaidAge {
			one.tell(*voice)
		}
	}
}

// Announce has managers told of their applications, as they were when the engine was
// let go and as they change from then on, and users what managers have said. Nothing is
// told before: a manager may write to the cluster what it hears. It does not wait.
func (s *Standby) Announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over.Err() != nil {
		return
	}
	s.sayAgain()
	for _, m := range s.staff {
		if m.tells != nil {
			s.telling.Go(func() {
				// What it says to that has to be heard, and answered.
				select {
				case <-m.gate.Opened():
					m.tells.run(s.over, m)
				case <-s.over.Done():
				}
			})
		}
	}
}

// Durable is told, by the lead, of changes that are durable. It does not wait.
func (s *Standby) Durable(changes []ledger.Change) {
	for _, m := range s.staff {
		if m.tells == nil {
			continue
		}
		for _, c := range changes {
			if c.Key.TaskID == "" {
				m.tells.note(m.Name(), c.Key.AppID, c.App)
			}
		}
	}
}
