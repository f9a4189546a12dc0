package election_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/utils/ptr"

	"github.com/understudy-ha/understudy/election"
)

// span is a stretch of work as lead, of ours (with an epoch) or of client-go.
type span struct {
	who      string
	epoch    uint64
	from, to time.Time
}

// soak is a cluster under random faults.
type soak struct {
	*world
	rng    *rand.Rand
	mixed  bool // client-go contends; see faults
	mu     sync.Mutex
	spans  []span
	fenced int
	born   int
	procs  []*process
	ruined time.Time // last wipe or deletion
	reason map[election.Reason]int
	longer int // terms that have ended with a longer duration than the configured
}

// process is one incarnation of a replica. Its work begins with a term and ends
// when it notices the end and stops, when the watchdog acts, or when it crashes.
type process struct {
	*replica
	stop  context.CancelFunc
	order chan string // hand over, to a preferred successor
	slack time.Duration

	mu     sync.Mutex
	term   *election.Term
	ended  bool
	endsAt time.Time
}

func (p *process) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.ended, p.endsAt = true, time.Now()
	}
}

func (p *process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.ended
}

// leading returns the process that leads, nil if none does.
func (s *soak) leading() *process {
	for _, p := range s.procs {
		p.mu.Lock()
		term, ended := p.term, p.ended
		p.mu.Unlock()
		if term != nil && !ended && term.Valid() {
			return p
		}
	}
	return nil
}

// spawn starts a new incarnation.
func (s *soak) spawn() *process {
	s.born++
	ctx, stop := context.WithCancel(s.ctx)
	w := &world{t: s.t, store: s.store, ctx: ctx, log: s.log}
	p := &process{stop: stop, order: make(chan string, 1)}
	// Most stop in the time they have; some are caught by the watchdog.
	p.slack = time.Duration(s.rng.Int64N(int64(600 * time.Millisecond)))
	p.replica = w.replica(fmt.Sprintf("p%d", s.born), func(c *election.Config) {
		c.Expired = func(error) { p.end() }
	})
	e, err := election.New(p.cfg, p.line, s.knownEpoch, s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	p.Elector = e
	go func() { _ = e.Run(ctx) }()
	go s.live(ctx, p)
	return p
}

// live is the process's role loop: one term at most.
func (s *soak) live(ctx context.Context, p *process) {
	term, err := p.Campaign(ctx)
	if err != nil {
		return
	}
	if !p.alive() { // the dead neither claim an epoch nor work
		term.Finished()
		return
	}
	if !s.won(term) {
		s.mu.Lock()
		s.fenced++
		s.mu.Unlock()
		p.end()
		_ = term.Release(ctx, "")
		return
	}
	p.mu.Lock()
	p.term = term
	p.mu.Unlock()
	handover, preferred := false, ""
	select {
	case <-term.Context().Done():
		<-time.After(p.slack + 1)
	case preferred = <-p.order:
		handover = true
	case <-ctx.Done():
	}
	p.end()
	p.mu.Lock()
	to := p.endsAt
	p.mu.Unlock()
	s.mu.Lock()
	s.spans = append(s.spans, span{p.name, term.Epoch(), term.AcquiredAt(), to})
	s.reason[term.Why()]++
	if term.LeaseDuration() > p.cfg.LeaseDuration {
		s.longer++
	}
	s.mu.Unlock()
	if handover {
		_ = term.Release(ctx, preferred)
	} else {
		term.Finished()
	}
}

// reap replaces the processes that have ended.
func (s *soak) reap() {
	for i, p := range s.procs {
		if !p.alive() {
			go func() { <-time.After(10 * time.Second); p.stop() }()
			s.procs[i] = s.spawn()
		}
	}
}

func (s *soak) between(a, b time.Duration) time.Duration {
	return a + time.Duration(s.rng.Int64N(int64(b-a)))
}

// crash ends a process as SIGKILL does. What it has sent may still land.
func (s *soak) crash(p *process) {
	p.end()
	p.line.Hang()
	dead := p.name
	switch s.rng.IntN(3) {
	case 0: // its parent has waited for it
		go func() {
			<-time.After(3 * time.Millisecond)
			_, _, _ = election.Depose(s.ctx, s.store.Client("supervisor"), nil, time.Now(), func(h string) bool { return h == dead })
		}()
	case 1: // the kubelet says so
		for _, q := range s.procs {
			delay := s.between(time.Millisecond, 100*time.Millisecond)
			go func() { <-time.After(delay); q.ProvenDead(dead) }()
		}
	}
}

// fault does something to the lead or, less often, to another process.
func (s *soak) fault() {
	p := s.leading()
	if p == nil || s.rng.IntN(4) == 0 {
		p = s.procs[s.rng.IntN(len(s.procs))]
	}
	heal := func(d time.Duration) {
		go func() { <-time.After(d); p.line.Slow(0, 0); p.line.Heal() }()
	}
	switch s.rng.IntN(12) {
	case 0, 1:
		s.crash(p)
	case 2, 3:
		preferred := ""
		if s.rng.IntN(2) == 0 {
			preferred = s.procs[s.rng.IntN(len(s.procs))].name
		}
		select {
		case p.order <- preferred:
		default:
		}
	case 4, 5:
		p.line.Hang()
		heal(s.between(100*time.Millisecond, 8*time.Second))
	case 6:
		p.line.Refuse()
		heal(s.between(100*time.Millisecond, 8*time.Second))
	case 7, 8:
		p.line.Slow(s.between(0, 1500*time.Millisecond), s.between(0, 1500*time.Millisecond))
		heal(s.between(time.Second, 20*time.Second))
	case 9:
		p.line.Deafen()
		heal(s.between(time.Second, 6*time.Second))
	case 10:
		s.store.Compact()
		p.line.BreakWatches()
		p.Look()
	case 11:
		s.ruin()
	}
}

// ruin wipes, deletes or edits the Lease. A client-go elector takes a ruined Lease at
// once, and an elector that was cut off across two deletions cannot know about
// the lead in between; neither is promised.
func (s *soak) ruin() {
	if s.mixed || time.Since(s.ruined) < 20*time.Second {
		return
	}
	s.ruined = time.Now()
	switch s.rng.IntN(4) {
	case 0:
		s.store.Wipe()
	case 1:
		s.store.WipeAll()
	case 2:
		s.store.Delete()
	case 3:
		s.store.Edit(func(lease *coordinationv1.Lease) {
			lease.Spec.LeaseTransitions = ptr.To(math.MaxInt32 - s.rng.Int32N(3))
			if s.rng.IntN(2) == 0 { // it looks as if it had been released
				lease.Spec.HolderIdentity, lease.Annotations = nil, nil
			}
		})
	}
}

// rivals keeps one client-go elector contending, with faults of its own.
func (s *soak) rivals(seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	for i := 0; s.ctx.Err() == nil; i++ {
		name := fmt.Sprintf("rival%d", i)
		r := s.rival(name, rivalConfig{
			lease: 4 * time.Second, deadline: 1600 * time.Millisecond, retry: 300 * time.Millisecond,
		})
		select {
		case from := <-r.started:
			select {
			case <-time.After(time.Duration(rng.Int64N(int64(5 * time.Second)))):
				if rng.IntN(2) == 0 {
					r.line.Hang()
				} else {
					r.line.Slow(200*time.Millisecond, 200*time.Millisecond)
					<-time.After(2 * time.Second)
					r.cancel()
				}
				to := <-r.stopped
				s.note(span{name, 0, from, to})
			case to := <-r.stopped:
				s.note(span{name, 0, from, to})
			}
		case <-time.After(time.Duration(rng.Int64N(int64(30 * time.Second)))):
			r.line.Hang()
		case <-s.ctx.Done():
		}
		r.cancel()
	}
}

func (s *soak) note(sp span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spans = append(s.spans, sp)
}

func (s *soak) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.spans)
}

// check tests the two invariants over all the work that was done.
func (s *soak) check() {
	s.mu.Lock()
	defer s.mu.Unlock()
	// In virtual time several terms may begin and end in one instant; they have
	// been noted in the order of their ends.
	slices.SortStableFunc(s.spans, func(a, b span) int { return a.from.Compare(b.from) })
	var epoch uint64
	for i, sp := range s.spans {
		if i > 0 && s.spans[i-1].to.After(sp.from) {
			s.t.Errorf("two leads at once for %v: %+v and %+v",
				s.spans[i-1].to.Sub(sp.from), s.spans[i-1], sp)
		}
		if sp.epoch == 0 {
			continue
		}
		if sp.epoch <= epoch {
			s.t.Errorf("epoch %d came after %d", sp.epoch, epoch)
		}
		epoch = sp.epoch
	}
}

func runSoak(t *testing.T, seed uint64, mixed bool, failovers int) {
	inWorld(t, func(w *world) {
		s := &soak{
			world: w, mixed: mixed, reason: map[election.Reason]int{},
			rng: rand.New(rand.NewPCG(seed, 1)),
		}
		for range 4 {
			s.procs = append(s.procs, s.spawn())
		}
		if mixed {
			go s.rivals(seed)
		}
		began := time.Now()
		for s.count() < failovers {
			<-time.After(s.between(50*time.Millisecond, 4*time.Second))
			synctest.Wait()
			s.reap()
			s.fault()
			if time.Since(began) > 24*time.Hour {
				t.Fatalf("only %d failovers in a day", s.count())
			}
		}
		s.check()
		s.mu.Lock()
		defer s.mu.Unlock()
		t.Logf("seed %d: %d terms in %v, %d fenced, %d of a longer duration, by reason %v",
			seed, len(s.spans), time.Since(began).Round(time.Second), s.fenced, s.longer, s.reason)
		if s.longer == 0 {
			t.Error("no term had a longer duration")
		}
	})
}

func TestSoak(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runSoak(t, seed, false, 150) })
	}
}

func TestSoakBesideClientGo(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runSoak(t, seed, true, 150) })
	}
}
