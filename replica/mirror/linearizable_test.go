package mirror_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
)

// Several replicas claim the prefix and write to it, all at once, over connections
// that break, stall and lose answers, and deliver requests that were given up. To whoever looks at what they and some readers
// were told, each claim, write and read has happened at one moment, and no write of
// an epoch after the claim of a newer one. UNDERSTUDY_SEED repeats the troubles.
func TestClaimsAndWritesAreLinearizable(t *testing.T) {
	c := contend(t, func(*clientv3.Client, uint64) {})
	if got := c.linearizable(); got != porcupine.Ok {
		t.Errorf("the history of %d acts is %s", len(c.ops), got)
	}
	var seen [opRead + 1]int
	for _, op := range c.ops {
		seen[op.Input.(act).kind]++
	}
	t.Logf("claims %d, unknown %d, told of a newer one %d; writes %d, unknown %d; reads of a key %d",
		seen[opClaim], seen[opMaybeClaim], seen[opSuperseded], seen[opWrite], seen[opMaybeWrite], seen[opRead])
	if seen[opClaim] < rounds || seen[opSuperseded] == 0 || seen[opWrite] < rounds*keyCount*writesPerRound || seen[opRead] == 0 {
		t.Error("too little has happened to prove anything")
	}
}

// The same, with an etcd that takes what a replica writes whoever has claimed the
// prefix meanwhile.
func TestWithoutTheFenceWritesAreNot(t *testing.T) {
	c := contend(t, func(cli *clientv3.Client, epoch uint64) {
		cli.KV = unfencedKV{cli.KV, string(record.EncodeLeader(leader(epoch)))}
	})
	if got := c.linearizable(); got != porcupine.Illegal {
		t.Errorf("writes of older epochs went unnoticed: the history of %d acts is %s", len(c.ops), got)
	}
}

// unfencedKV compares nothing, and says of every lead that it still is the lead.
type unfencedKV struct {
	clientv3.KV
	leader string // what its own claim wrote
}

func (u unfencedKV) Txn(ctx context.Context) clientv3.Txn { return unfencedTxn{u.KV.Txn(ctx)} }

func (u unfencedKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	resp, err := u.KV.Get(ctx, key, opts...)
	if err == nil && key == keys.Leader() {
		for _, kv := range resp.Kvs {
			kv.Value = []byte(u.leader)
		}
	}
	return resp, err
}

type unfencedTxn struct{ clientv3.Txn }

func (u unfencedTxn) If(...clientv3.Cmp) clientv3.Txn { return u }

const (
	// rounds is how often the prefix changes hands; each time two replicas claim it.
	rounds = 4
	// writesPerRound is how many writes of each key are acknowledged in a round.
	writesPerRound = 10
	// troubleLasts is at most how long a connection is in trouble; some requests are
	// given up meanwhile, and arrive later.
	troubleLasts = 250 * time.Millisecond
	givenUp      = 100 * time.Millisecond
	// One transaction of so many comes late, and by this much at most.
	oneIsLate = 8
	latest    = 50 * time.Millisecond

	betweenReads  = 2 * time.Millisecond
	betweenWrites = time.Millisecond
)

// contention is one etcd that replicas contend for.
type contention struct {
	chronicle

	t      *testing.T
	server *etcdtest.Server
	weaken func(cli *clientv3.Client, epoch uint64)
	values atomic.Uint32 // the last one written; none is written twice
	stop   chan struct{} // closed when the troubles are over, and everybody may end
	wg     sync.WaitGroup
}

// contend has replicas contend for a prefix, and returns what they were told. weaken
// may change what a replica writes with.
func contend(t *testing.T, weaken func(*clientv3.Client, uint64)) *contention {
	t.Helper()
	c := &contention{
		chronicle: chronicle{began: time.Now()}, t: t, server: etcdtest.Start(t), weaken: weaken, stop: make(chan struct{}),
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("UNDERSTUDY_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("UNDERSTUDY_SEED=%d", seed)
	end := sync.OnceFunc(func() { close(c.stop); c.wg.Wait() })
	t.Cleanup(end) // should something fail on the way
	for _, cli := range []*clientv3.Client{c.server.Client(), c.client(seed)} {
		c.wg.Go(func() { c.read(cli) })
	}
	for round := range rounds {
		contenders := make(chan *contender, 2)
		for i := range uint64(2) {
			epoch := uint64(2*round) + i + 1
			toClaim, toWrite := c.client(seed+10*epoch), c.late(c.client(seed+10*epoch+1), seed+10*epoch+2)
			c.wg.Go(func() { contenders <- c.claim(toClaim, toWrite, epoch) })
		}
		for range 2 {
			if r := <-contenders; r != nil {
				c.wg.Go(func() { c.lead(r) })
				c.awaitWrites(r)
			}
		}
	}
	end()
	// Whatever was late has arrived: nobody's effects are unseen.
	c.readOnce(c.server.Client(), etcdtest.Patience)
	return c
}

// client returns a client whose connections are in trouble now and then, until the
// end of the contention.
func (c *contention) client(seed uint64) *clientv3.Client {
	proxy, rng := etcdtest.NewProxy(c.t, c.server.Addr), rand.New(rand.NewPCG(seed, 0))
	troubles := []func(){proxy.Cut, proxy.Blink, proxy.Stall, proxy.Deafen}
	c.wg.Go(func() {
		defer proxy.Restore()
		for c.pause(time.Duration(rng.Int64N(int64(troubleLasts)))) {
			troubles[rng.IntN(len(troubles))]()
			c.pause(time.Duration(rng.Int64N(int64(troubleLasts))))
			proxy.Restore()
		}
	})
	return etcdtest.Client(c.t, proxy.Addr)
}

// late makes some transactions reach etcd when they have long been given up. They
// come one at a time, as a mirror sends them.
func (c *contention) late(cli *clientv3.Client, seed uint64) *clientv3.Client {
	rng := rand.New(rand.NewPCG(seed, 0))
	intercept(cli, func(_ []clientv3.Op, send commit) (*clientv3.TxnResponse, error) {
		if rng.IntN(oneIsLate) > 0 {
			return send()
		}
		by := time.Duration(rng.Int64N(int64(latest)))
		c.wg.Go(func() {
			c.pause(by)
			_, _ = send()
		})
		return nil, context.DeadlineExceeded
	})
	return cli
}

// pause waits, and reports whether the contention goes on.
func (c *contention) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.stop:
		return false
	}
}

// contender is a replica that has claimed the prefix.
type contender struct {
	*mirror.Mirror
	epoch   uint64
	claimed int64
	ended   chan struct{}
	acked   [keyCount]atomic.Int32
}

// claim returns nil if a newer epoch was there before.
func (c *contention) claim(toClaim, toWrite *clientv3.Client, epoch uint64) *contender {
	ctx, cancel := context.WithTimeout(context.Background(), etcdtest.Patience)
	defer cancel()
	began := c.now()
	claimed, err := claimAs(ctx, toClaim, leader(epoch))
	switch {
	case errors.Is(err, mirror.ErrFenced):
		// An attempt whose answer was lost may have been the first.
		c.note(act{kind: opMaybeClaim, epoch: epoch}, began)
		c.note(act{kind: opSuperseded, epoch: epoch}, began)
		return nil
	case err != nil:
		c.note(act{kind: opMaybeClaim, epoch: epoch}, began)
		c.t.Errorf("epoch %d: %v", epoch, err)
		return nil
	}
	c.note(act{kind: opClaim, epoch: epoch}, began)
	c.weaken(toWrite, epoch)
	cfg := config()
	cfg.Policy, cfg.RequestTimeout = mirror.Strict, givenUp
	m, err := mirror.New(toWrite, claimed, cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		c.t.Error(err)
		return nil
	}
	return &contender{Mirror: m, epoch: epoch, claimed: c.now(), ended: make(chan struct{})}
}

// lead writes all keys until a newer epoch has been claimed, or the contention is
// over.
func (c *contention) lead(r *contender) {
	ctx, cancel := context.WithCancel(context.Background())
	var running, writers sync.WaitGroup
	running.Go(func() {
		defer close(r.ended)
		err := r.Run(ctx)
		switch {
		case errors.Is(err, mirror.ErrFenced):
			c.note(act{kind: opSuperseded, epoch: r.epoch}, r.claimed)
		case err != nil:
			c.t.Errorf("epoch %d: %v", r.epoch, err)
		}
	})
	for key := range keyCount {
		writers.Go(func() { c.write(r, key) })
	}
	writers.Wait()
	cancel()
	running.Wait()
}

// write writes one key over and over. The last write begins when the troubles are
// over.
func (c *contention) write(r *contender, key int) {
	for more := true; more; {
		more = c.pause(betweenWrites)
		a := act{kind: opWrite, key: key, epoch: r.epoch, value: c.values.Add(1)}
		began, done := c.now(), make(chan struct{})
		r.Append([]ledger.Change{task(key, int(a.value))}, func() { close(done) })
		select {
		case <-done:
		case <-r.ended:
			a.kind, more = opMaybeWrite, false
		case <-time.After(etcdtest.Patience):
			c.t.Errorf("epoch %d: key %d is not written: %+v", r.epoch, key, r.Status())
			a.kind, more = opMaybeWrite, false
		}
		c.note(a, began)
		r.acked[key].Add(1)
	}
}

// awaitWrites waits until a contender has had enough of each key written, or has
// been superseded.
func (c *contention) awaitWrites(r *contender) {
	for key := range keyCount {
		for r.acked[key].Load() < writesPerRound {
			select {
			case <-r.ended:
				return
			case <-time.After(betweenWrites):
			}
		}
	}
}

// read reads all keys over and over.
func (c *contention) read(cli *clientv3.Client) {
	for c.pause(betweenReads) {
		c.readOnce(cli, givenUp)
	}
}

// readOnce reads all keys at one revision. A read that fails has told nothing.
func (c *contention) readOnce(cli *clientv3.Client, limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	began := c.now()
	resp, err := cli.Get(ctx, keys.Root(), clientv3.WithPrefix())
	if err != nil {
		return
	}
	var epoch uint64
	var values [keyCount]uint32
	for _, kv := range resp.Kvs {
		e, err := keys.Decode(string(kv.Key), kv.Value)
		switch {
		case err != nil:
			c.t.Error(err)
		case e.Kind == record.KindLeader:
			epoch = e.Leader.Epoch
		case e.Kind == record.KindTask:
			for key := range keyCount {
				if e.Key == task(key, 0).Key {
					values[key] = e.Task.Retries
				}
			}
		}
	}
	for key, value := range values {
		c.note(act{kind: opRead, key: key, epoch: epoch, value: value}, began)
	}
}
