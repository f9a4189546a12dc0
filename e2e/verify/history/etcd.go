package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	etcdPage    = 1000
	etcdTimeout = 5 * time.Second
	// etcdPoll is how often the leader key is read, for a watch that waits for
	// a revision of wiped data would wait silently.
	etcdPoll = 250 * time.Millisecond
)

// EtcdEvent is one put or delete below the prefix.
type EtcdEvent struct {
	At time.Time
	// Generation counts the data sets: it rises when etcd was found to have
	// lost its data, after which revisions start over.
	Generation int
	Revision   int64
	// Base marks what was there when the recording of the generation began.
	Base    bool
	Deleted bool
	// Key is relative to the prefix, without a leading slash: "leader",
	// "apps/…", "tasks/…/…", "terms/…".
	Key   string
	Value []byte
}

// Etcd is the history of all keys below a prefix since it was started.
type Etcd struct {
	cli    *clientv3.Client
	root   string
	log    *slog.Logger
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu         sync.Mutex
	events     []EtcdEvent
	gaps       []Gap
	subs       map[int]func(EtcdEvent)
	nextSub    int
	generation int
	// last was read most recently; data that differs from it is another
	// generation's.
	last mark
	// progress is the revision of the current generation up to which the
	// history is complete.
	progress int64
}

// WatchEtcd reads what is below prefix and returns once it follows the
// changes. It stops when ctx ends or with Close; the client stays open.
func WatchEtcd(ctx context.Context, cli *clientv3.Client, prefix string, log *slog.Logger) (*Etcd, error) {
	e := &Etcd{
		cli:  cli,
		root: strings.TrimRight(prefix, "/") + "/",
		log:  log,
		subs: map[int]func(EtcdEvent){},
	}
	var err error
	if e.last, err = e.read(ctx); err != nil {
		return nil, err
	}
	rev, err := e.base(ctx)
	if err != nil {
		return nil, err
	}
	ctx, e.cancel = context.WithCancel(ctx)
	e.wg.Go(func() { e.run(ctx, rev) })
	return e, nil
}

// Close stops the recording; what was recorded stays readable.
func (e *Etcd) Close() {
	e.cancel()
	e.wg.Wait()
}

// Events returns the events so far in the order of their revisions; those of
// one transaction share a revision.
func (e *Etcd) Events() []EtcdEvent {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.events[:len(e.events):len(e.events)]
}

// Gaps returns the ranges of revisions that could not be observed.
func (e *Etcd) Gaps() []Gap {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.gaps[:len(e.gaps):len(e.gaps)]
}

// Subscribe calls fn for every later event, in order, from the goroutine that
// receives them. fn must be quick and must not call e.
func (e *Etcd) Subscribe(fn func(EtcdEvent)) (cancel func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := e.nextSub
	e.nextSub++
	e.subs[id] = fn
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.subs, id)
	}
}

// Settle returns when the history holds everything committed before the call.
func (e *Etcd) Settle(ctx context.Context) error {
	now, err := e.read(ctx)
	if err != nil {
		return err
	}
	generation := e.generationOf(now)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		e.mu.Lock()
		done := e.generation > generation || e.generation == generation && e.progress >= now.revision
		have := e.progress
		e.mu.Unlock()
		if done {
			return nil
		}
		// The answer comes on the watch, after all events before it.
		if err := e.cli.RequestProgress(clientv3.WithRequireLeader(ctx)); err != nil && ctx.Err() == nil {
			e.log.Debug("progress request", "err", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the etcd history is at revision %d of %d: %w", have, now.revision, ctx.Err())
		case <-tick.C:
		}
	}
}

// generationOf returns the generation of the data that now was read from, which
// may be one that is still to be noticed.
func (e *Etcd) generationOf(now mark) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last.other(now) {
		return e.generation + 1
	}
	return e.generation
}

// base records the present keys at one pinned revision, which it returns.
func (e *Etcd) base(ctx context.Context) (int64, error) {
	var rev int64
	from, end := e.root, clientv3.GetPrefixRangeEnd(e.root)
	for {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(etcdPage)}
		if rev != 0 {
			opts = append(opts, clientv3.WithRev(rev))
		}
		tctx, cancel := context.WithTimeout(ctx, etcdTimeout)
		resp, err := e.cli.Get(tctx, from, opts...)
		cancel()
		if err != nil {
			return 0, fmt.Errorf("list %s: %w", e.root, err)
		}
		if rev == 0 {
			rev = resp.Header.Revision
		}
		e.mu.Lock()
		for _, kv := range resp.Kvs {
			e.emit(kv, e.generation, true, false)
		}
		e.progress = rev
		e.mu.Unlock()
		if !resp.More {
			return rev, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// run follows the changes after rev, and starts a new generation whenever the
// data is found to have been replaced.
func (e *Etcd) run(ctx context.Context, rev int64) {
	for ctx.Err() == nil {
		next, err := e.follow(ctx, rev)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errWiped):
			// Revision 1 is the empty store: there is nothing to list.
			rev = 1
		case errors.Is(err, rpctypes.ErrCompacted):
			rev = e.relist(ctx, next, err.Error())
		default:
			e.log.Debug("etcd watch broke; resuming", "revision", next, "err", err)
			rev = next
			sleep(ctx, etcdPoll)
		}
	}
}

var errWiped = errors.New("etcd has lost its data")

// follow watches from the revision after rev and returns the last one seen.
func (e *Etcd) follow(ctx context.Context, rev int64) (int64, error) {
	e.mu.Lock()
	generation := e.generation
	e.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	wiped := make(chan struct{})
	var wg sync.WaitGroup
	defer func() { cancel(); wg.Wait() }()
	wg.Go(func() {
		if e.awaitWipe(ctx) {
			close(wiped)
		}
	})

	// The context's metadata selects the stream: Settle uses the same.
	ch := e.cli.Watch(clientv3.WithRequireLeader(ctx), e.root,
		clientv3.WithPrefix(), clientv3.WithRev(rev+1))
	for {
		select {
		case <-ctx.Done():
			return rev, ctx.Err()
		case <-wiped:
			return rev, errWiped
		case resp, ok := <-ch:
			if !ok {
				return rev, errors.New("watch channel closed")
			}
			if err := resp.Err(); err != nil {
				return rev, err
			}
			rev = e.take(resp, rev, generation)
		}
	}
}

// take records one response and returns the revision it reaches.
func (e *Etcd) take(resp clientv3.WatchResponse, rev int64, generation int) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range resp.Events {
		e.emit(ev.Kv, generation, false, ev.Type == clientv3.EventTypeDelete)
		rev = max(rev, ev.Kv.ModRevision)
	}
	if resp.IsProgressNotify() {
		rev = max(rev, resp.Header.Revision)
	}
	if generation == e.generation {
		e.progress = rev
	}
	return rev
}

// emit appends one event and hands it on. The caller holds e.mu.
func (e *Etcd) emit(kv *mvccpb.KeyValue, generation int, base, deleted bool) {
	ev := EtcdEvent{
		At:         time.Now(),
		Generation: generation,
		Revision:   kv.ModRevision,
		Base:       base,
		Deleted:    deleted,
		Key:        strings.TrimPrefix(string(kv.Key), e.root),
		Value:      kv.Value,
	}
	e.events = append(e.events, ev)
	for _, fn := range e.subs {
		fn(ev)
	}
}

// relist lists anew after a compaction, trying until ctx ends, and notes the
// gap that it leaves.
func (e *Etcd) relist(ctx context.Context, after int64, reason string) int64 {
	for ctx.Err() == nil {
		rev, err := e.base(ctx)
		if err == nil {
			e.mu.Lock()
			e.gaps = append(e.gaps, Gap{
				At: time.Now(), What: "etcd", After: uint64(after), Until: uint64(rev), Reason: reason,
			})
			e.mu.Unlock()
			return rev
		}
		sleep(ctx, etcdPoll)
	}
	return after
}

// mark is what never goes backwards within one data set.
type mark struct {
	cluster  uint64
	term     uint64
	revision int64
	// leader is the revision of the leader key, and value what it held then.
	leader int64
	value  string
}

// other reports whether next was read from other data than m.
func (m mark) other(next mark) bool {
	return next.cluster != m.cluster || next.term < m.term || next.revision < m.revision ||
		next.leader != 0 && (next.leader < m.leader || next.leader == m.leader && next.value != m.value)
}

// awaitWipe returns true when etcd is found to serve other data than before.
// The key's deletion is an event of the watch, and no wipe.
func (e *Etcd) awaitWipe(ctx context.Context) bool {
	tick := time.NewTicker(etcdPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		now, err := e.read(ctx)
		if err == nil && e.notice(now) {
			return true
		}
	}
}

// notice takes over what was read; true if it is of another data set.
func (e *Etcd) notice(now mark) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	other := e.last.other(now)
	if other {
		e.generation++
		e.progress = 0
	} else if now.leader == 0 {
		now.leader, now.value = e.last.leader, e.last.value
	}
	e.last = now
	return other
}

// read reads the leader key and what comes with every answer.
func (e *Etcd) read(ctx context.Context) (mark, error) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	resp, err := e.cli.Get(ctx, e.root+"leader")
	if err != nil {
		return mark{}, fmt.Errorf("read the leader key: %w", err)
	}
	m := mark{cluster: resp.Header.ClusterId, term: resp.Header.RaftTerm, revision: resp.Header.Revision}
	if len(resp.Kvs) == 1 {
		m.leader, m.value = resp.Kvs[0].ModRevision, string(resp.Kvs[0].Value)
	}
	return m, nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
