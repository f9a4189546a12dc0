package kube

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// job is a piece of work. When it is done it returns the event that tells its
// outcome, nil if nobody is to be told, and zero; else after how long it wants to
// be tried again.
type job func(ctx context.Context) (outcome ledger.Event, again time.Duration)

// pool does jobs on at most limit goroutines, which exist only while there is
// work. Jobs of the same key are done one after another, in order, a job that
// waits for its next try included. It never refuses a job while it is open: what
// it holds is bounded by how many keys and kinds of work there are, because a
// job that is already waiting is not taken twice.
//
// Keys belong to parties, which are applications. Parties take turns, and one has no
// more than a quarter of the goroutines while others that have less are waiting: what
// one of them wants in thousands does not hold up what another wants twice. Those that
// are ahead take turns among themselves, before the others.
type pool struct {
	limit  int
	share  int  // of a party, while others wait
	turn   int  // how many jobs of a party are begun before it is another's turn
	sink   Sink // hears the outcomes; those of a key in order
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	lines   map[string]*line
	parties map[owner]*party // those with lines
	turns   []*party         // those with a line that is ready, whose turn it is first
	workers int
	// attempts counts those that have ended.
	attempts uint64
	running  sync.WaitGroup
	closed   bool
	// busy is closed when the last worker has ended, at idle.
	busy chan struct{}
	idle time.Time
}

// party is one of those who take turns.
type party struct {
	ahead bool
	lines int     // it has
	ready []*line // whose first job can be done now, longest waiting first
	under int     // how many of its jobs are under way
	begun int     // how many in this turn of it
}

// owner names a party.
type owner struct {
	app   string
	ahead bool
}

// line holds the jobs of one key.
type line struct {
	key   string
	owner owner // its party
	under bool  // the first is under way
	jobs  []tagged
	timer *time.Timer // runs while the first job waits for its next try
}

type tagged struct {
	tag  string
	job  job
	over bool // it stands for no other any more
	once bool // it is not tried again
}

func newPool(limit int, sink Sink) *pool {
	ctx, cancel := context.WithCancel(context.Background())
	limit = max(1, limit)
	return &pool{
		limit: limit, share: max(1, limit/4), turn: 1, sink: sink, ctx: ctx, cancel: cancel,
		lines: make(map[string]*line), parties: make(map[owner]*party),
	}
}

// add takes a job; tag says what it does. A job of the same key and tag that
// has been taken and is not done stands for this one too. A key is always the same
// party's.
func (p *pool) add(app, key, tag string, j job) { p.take(owner{app: app}, key, tag, j) }

// addAhead does so for what comes before all that add takes.
func (p *pool) addAhead(app, key, tag string, j job) { p.take(owner{app, true}, key, tag, j) }

// take is add for any party.
func (p *pool) take(of owner, key, tag string, j job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	l := p.lines[key]
	if l == nil {
		l = &line{key: key, owner: of}
		p.lines[key] = l
		p.partyOf(l).lines++
		p.enqueue(l)
	}
	for _, waiting := range l.jobs {
		if waiting.tag == tag && !waiting.over && !waiting.once {
			return
		}
	}
	l.jobs = append(l.jobs, tagged{tag: tag, job: j})
}

// partyOf returns the party of l. The caller holds mu.
func (p *pool) partyOf(l *line) *party {
	of := p.parties[l.owner]
	if of == nil {
		of = &party{ahead: l.owner.ahead}
		p.parties[l.owner] = of
	}
	return of
}

// enqueue makes the first job of l due, and a worker if there is room for one.
// The caller holds mu.
func (p *pool) enqueue(l *line) {
	of := p.partyOf(l)
	if of.ready = append(of.ready, l); len(of.ready) == 1 {
		p.await(of)
	}
	if p.workers < p.limit {
		if p.workers == 0 {
			p.busy = make(chan struct{})
		}
		p.workers++
		p.running.Go(p.work)
	}
}

// work does jobs until none is due.
func (p *pool) work() {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.leave()
	for !p.closed && len(p.turns) > 0 {
		l, of := p.next()
		first := l.jobs[0].job
		l.under = true
		of.under++
		p.mu.Unlock()
		outcome, again := first(p.ctx)
		p.mu.Lock()
		p.attempts++
		if outcome != nil {
			// Whoever hears it may want the same done anew, before it is off the line.
			l.jobs[0].over = again == 0
			p.mu.Unlock()
			p.sink(outcome)
			p.mu.Lock()
		}
		of.under--
		l.under = false
		p.finish(l, again)
	}
}

// next takes the line whose turn it is. The caller holds mu.
func (p *pool) next() (*line, *party) {
	at := slices.IndexFunc(p.turns, func(of *party) bool { return of.under < p.share })
	at = max(0, at) // or nobody waits that has less
	of := p.turns[at]
	l := of.ready[0]
	of.ready[0] = nil
	of.ready = of.ready[1:]
	of.begun++
	if len(of.ready) > 0 && of.begun < p.turn {
		return l, of
	}
	of.begun = 0
	p.turns = slices.Delete(p.turns, at, at+1)
	if len(of.ready) > 0 {
		p.await(of)
	}
	return l, of
}

// await puts a party behind those whose turn is before its own. The caller holds mu.
func (p *pool) await(of *party) {
	at := -1
	if of.ahead {
		at = slices.IndexFunc(p.turns, func(other *party) bool { return !other.ahead })
	}
	if at < 0 {
		at = len(p.turns)
	}
	p.turns = slices.Insert(p.turns, at, of)
}

// drop forgets the jobs of an application that add has taken and that are tagged so. One
// that is under way is not tried again.
func (p *pool) drop(app, tag string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := owner{app: app}
	of := p.parties[name]
	if of == nil {
		return
	}
	for _, l := range p.lines {
		if l.owner != name {
			continue
		}
		if l.under && l.jobs[0].tag == tag {
			l.jobs[0].once = true
		}
		p.dropOf(l, tag)
	}
	if of.ready = slices.DeleteFunc(of.ready, func(l *line) bool { return len(l.jobs) == 0 }); len(of.ready) == 0 {
		p.turns = slices.DeleteFunc(p.turns, func(other *party) bool { return other == of })
	}
}

// dropOf forgets the jobs of a line that are tagged so and not under way. The caller
// holds mu.
func (p *pool) dropOf(l *line, tag string) {
	dropped := !l.under && l.jobs[0].tag == tag
	kept := l.jobs[:0]
	for i, j := range l.jobs {
		if l.under && i == 0 || j.tag != tag {
			kept = append(kept, j)
		}
	}
	clear(l.jobs[len(kept):])
	l.jobs = kept
	waits := dropped && l.timer != nil
	if waits {
		l.timer.Stop()
		l.timer = nil
	}
	switch {
	case len(l.jobs) == 0:
		p.leaveLine(l)
	case waits:
		p.enqueue(l)
	}
}

// leave ends a worker. The caller holds mu.
func (p *pool) leave() {
	if p.workers--; p.workers == 0 {
		p.idle = time.Now()
		close(p.busy)
	}
}

// quiet returns nil once nothing has been due or under way for as long as calm, or
// after patience.
func (p *pool) quiet(ctx context.Context, calm, patience time.Duration) error {
	enough := time.NewTimer(patience)
	defer enough.Stop()
	for {
		p.mu.Lock()
		busy, working, left := p.busy, p.workers > 0, calm-time.Since(p.idle)
		p.mu.Unlock()
		var calmed <-chan time.Time
		switch {
		case working:
		case left <= 0:
			return nil
		default:
			busy, calmed = nil, time.After(left)
		}
		select {
		case <-busy:
		case <-calmed:
		case <-enough.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// finish takes the first job off l, or has it tried again. The caller holds mu.
func (p *pool) finish(l *line, again time.Duration) {
	if p.closed {
		return
	}
	if again > 0 && !l.jobs[0].once {
		var timer *time.Timer
		timer = time.AfterFunc(again, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if l.timer != timer {
				return // dropped
			}
			l.timer = nil
			if !p.closed {
				p.enqueue(l)
			}
		})
		l.timer = timer
		return
	}
	l.jobs[0] = tagged{}
	l.jobs = l.jobs[1:]
	if len(l.jobs) == 0 {
		p.leaveLine(l)
		return
	}
	p.enqueue(l)
}

// leaveLine forgets a line without jobs. The caller holds mu.
func (p *pool) leaveLine(l *line) {
	delete(p.lines, l.key)
	if of := p.partyOf(l); of.lines == 1 {
		delete(p.parties, l.owner)
	} else {
		of.lines--
	}
}

// stop cancels what is under way and waits for it; what waits is dropped.
func (p *pool) stop() {
	p.mu.Lock()
	p.closed = true
	for _, l := range p.lines {
		if l.timer != nil {
			l.timer.Stop()
		}
	}
	p.lines, p.parties, p.turns = nil, nil, nil
	p.mu.Unlock()
	p.cancel()
	p.running.Wait()
}

// retries are the pauses before a job is tried again: from 100 ms to 10 s, of each of
// which up to a half is taken off, so that what failed together is not tried together.
var retries = wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Jitter: 1, Cap: 5 * time.Second, Steps: math.MaxInt}

// progress reports whether jobs wait or are under way, and how many attempts have ended.
func (p *pool) progress() (waits bool, done uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.workers > 0 || len(p.turns) > 0, p.attempts
}
