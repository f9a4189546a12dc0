package view_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// Random changes go through a mirror and a view whose connections, and whose
// etcd, fail at random. In the end the view's ledger, and that of a view that
// starts only then, equal the writer's. UNDERSTUDY_SEED repeats a run,
// UNDERSTUDY_ROUNDS makes it longer.
func TestWhateverHappensTheViewEndsUpEqual(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("UNDERSTUDY_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	rounds := 60
	if s := os.Getenv("UNDERSTUDY_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	t.Logf("UNDERSTUDY_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	server := etcdtest.Start(t)
	direct := server.Client()
	toLead, toView := etcdtest.NewProxy(t, server.Addr), etcdtest.NewProxy(t, server.Addr)
	l := leading(t, etcdtest.Client(t, toLead.Addr), 1)
	cfg := config()
	cfg.PageSize = 7
	standby := ledger.New() // what OnChange makes of it; Take orders the access
	cfg.OnChange = func(_ *ledger.Ledger, c ledger.Change) { standby.Apply(c) }
	f := follow(t, etcdtest.Client(t, toView.Addr), cfg)

	events := []struct {
		weight int
		do     func()
	}{
		{6, func() { toLead.Restore(); toView.Restore() }},
		{1, toLead.Cut}, {1, toLead.Blink}, {1, toLead.Stall}, {1, toLead.Deafen},
		{1, toView.Cut}, {1, toView.Blink}, {1, toView.Stall}, {1, toView.Deafen},
		{1, server.Restart},
		{2, func() {
			if rev := f.Status().Revision + rng.Int64N(20); rev > 0 {
				_, _ = direct.Compact(etcdtest.Within(t), rev) // may be in the future, or compacted
			}
		}},
	}
	total := 0
	for _, e := range events {
		total += e.weight
	}
	for n := range rounds {
		for range rng.IntN(40) {
			l.change(randomChanges(rng, n)...)
		}
		pick := rng.IntN(total)
		for _, e := range events {
			if pick -= e.weight; pick < 0 {
				e.do()
				break
			}
		}
		<-time.After(time.Duration(rng.Int64N(int64(30 * time.Millisecond))))
	}
	toLead.Restore()
	toView.Restore()
	rev := l.flush(t)
	f.wait(t, rev)
	if !stateOf(f).Equal(l.ledger) {
		t.Errorf("the view differs: %+v", f.Status())
	}
	cold := follow(t, direct, config())
	cold.wait(t, rev)
	if !stateOf(cold).Equal(l.ledger) {
		t.Error("etcd differs from the writer's ledger")
	}
	taken, held := f.Take()
	if !standby.Equal(taken) {
		t.Error("OnChange was not told of everything")
	}
	if _, loaded := cold.Take(); held != digestOf(l.ledger) || loaded != held {
		t.Errorf("digest %+v by changes, %+v loaded, want %+v", held, loaded, digestOf(l.ledger))
	}
	t.Logf("%v reloads, mirror %+v", f.metric(t, "understudy_view_reloads_total"), l.Status())
}

func randomChanges(rng *rand.Rand, n int) []ledger.Change {
	changes := make([]ledger.Change, 0, 3)
	seen := make(map[ledger.Key]bool)
	for range 1 + rng.IntN(3) {
		ch := task(rng.IntN(40), n)
		if rng.IntN(4) == 0 {
			ch = app(rng.IntN(10), n)
		}
		if rng.IntN(4) == 0 {
			ch = gone(ch)
		}
		if !seen[ch.Key] { // a step changes each record once
			seen[ch.Key] = true
			changes = append(changes, ch)
		}
	}
	return changes
}
