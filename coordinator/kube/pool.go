package kube

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

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
type pool struct {
	limit  int
	sink   Sink // hears the outcomes; those of a key in order
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	lines   map[string]*line
	ready   []*line // whose first job can be done now, longest waiting first
	workers int
	// attempts counts those that have ended.
	attempts uint64
	running  sync.WaitGroup
	closed   bool
	// busy is closed when the last worker has ended, at idle.
	busy chan struct{}
	idle time.Time
}

// line holds the jobs of one key. The first may be under way.
type line struct {
	key   string
	jobs  []tagged
	timer *time.Timer // runs while the first job waits for its next try
}

type tagged struct {
	tag  string
	job  job
	over bool // it stands for no other any more
}

func newPool(limit int, sink Sink) *pool {
	ctx, cancel := context.WithCancel(context.Background())
	return &pool{limit: max(1, limit), sink: sink, ctx: ctx, cancel: cancel, lines: make(map[string]*line)}
}

// add takes a job; tag says what it does. A job of the same key and tag that
// has been taken and is not done stands for this one too.
func (p *pool) add(key, tag string, j job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	l := p.lines[key]
	if l == nil {
		l = &line{key: key}
		p.lines[key] = l
		p.enqueue(l)
	}
	for _, waiting := range l.jobs {
		if waiting.tag == tag && !waiting.over {
			return
		}
	}
	l.jobs = append(l.jobs, tagged{tag: tag, job: j})
}

// enqueue makes the first job of l due, and a worker if there is room for one.
// The caller holds mu.
func (p *pool) enqueue(l *line) {
	p.ready = append(p.ready, l)
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
	for !p.closed && len(p.ready) > 0 {
		l := p.ready[0]
		p.ready[0] = nil
		p.ready = p.ready[1:]
		first := l.jobs[0].job
		p.mu.Unlock()
		outcome, again := first(p.ctx)
		p.mu.Lock()
		p.attempts++
		if outcome != nil {
			// Whoever hears it may want the same done anew, before it is off the line.
			l.jobs[0].over = true
			p.mu.Unlock()
			p.sink(outcome)
			p.mu.Lock()
		}
		p.finish(l, again)
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
	if again > 0 {
		l.timer = time.AfterFunc(again, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			l.timer = nil
			if !p.closed {
				p.enqueue(l)
			}
		})
		return
	}
	l.jobs[0] = tagged{}
	l.jobs = l.jobs[1:]
	if len(l.jobs) == 0 {
		delete(p.lines, l.key)
		return
	}
	p.enqueue(l)
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
	p.lines, p.ready = nil, nil
	p.mu.Unlock()
	p.cancel()
	p.running.Wait()
}

// backoff counts tries and says how long to wait before the next.
type backoff struct{ tries uint }

const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 10 * time.Second
)

// next returns a wait that doubles with every try, with jitter, so that what
// failed together is not tried together.
func (b *backoff) next() time.Duration {
	wait := maxBackoff
	if b.tries < 7 {
		wait = min(wait, firstBackoff<<b.tries)
	}
	b.tries++
	return wait/2 + rand.N(wait/2)
}

// progress reports whether jobs wait or are under way, and how many attempts have ended.
func (p *pool) progress() (waits bool, done uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.workers > 0 || len(p.ready) > 0, p.attempts
}
