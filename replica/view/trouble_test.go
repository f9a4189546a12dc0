package view_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
)

func TestKeepsWhatItHasWhileEtcdIsAway(t *testing.T) {
	server := etcdtest.Start(t)
	cli := server.Client()
	l := leading(t, cli, 1)
	l.change(task(1, 1))
	rev := l.flush(t)
	f := follow(t, cli, config())
	f.wait(t, rev)
	server.Kill()
	etcdtest.Eventually(t, "the view notices", func() bool { return !f.Status().Connected })
	s := f.Status()
	if !s.Synced || s.LastError == "" || s.Since.IsZero() || !stateOf(f).Equal(l.ledger) {
		t.Errorf("with etcd away: %+v", s)
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := f.WaitRevision(short, rev); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the barrier vouches for an etcd that does not answer: %v", err)
	}
	server.Restart()
	l.change(task(1, 2))
	f.wait(t, l.flush(t))
	if !stateOf(f).Equal(l.ledger) {
		t.Errorf("with etcd back: %+v", f.Status())
	}
	etcdtest.Eventually(t, "the view is connected again", func() bool { s := f.Status(); return s.Connected && s.LastError == "" })
	if n := f.metric(t, "understudy_view_reloads_total"); n != 0 {
		t.Errorf("%v reloads: a restart is no reason for one", n)
	}
}

func TestWaitsForAnEtcdThatIsNotThereYet(t *testing.T) {
	server := etcdtest.Start(t)
	cli := server.Client()
	server.Kill()
	f := follow(t, cli, config())
	etcdtest.Eventually(t, "the view has tried", func() bool { return f.Status().LastError != "" && !f.Synced() })
	server.Restart()
	f.wait(t, claim(t, cli, 1).Revision)
}

// recorder collects what OnChange is told.
type recorder struct {
	mu      sync.Mutex
	changes []ledger.Change
}

func (r *recorder) note(_ *ledger.Ledger, ch ledger.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, ch)
}

// drain returns the keys that were told since the last call, sorted.
func (r *recorder) drain() []ledger.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []ledger.Key
	for _, ch := range r.changes {
		out = append(out, ch.Key)
	}
	r.changes = nil
	slices.SortFunc(out, func(a, b ledger.Key) int {
		return slices.Compare([]string{a.AppID, a.TaskID}, []string{b.AppID, b.TaskID})
	})
	return out
}

func TestCompactionUnderASlowWatcherLeavesNoGap(t *testing.T) {
	server := etcdtest.Start(t)
	proxy := etcdtest.NewProxy(t, server.Addr)
	direct := server.Client()
	l := leading(t, direct, 1)
	for i := range 20 {
		l.change(task(i, 1))
	}
	var told recorder
	cfg := config()
	cfg.OnChange = told.note
	f := follow(t, etcdtest.Client(t, proxy.Addr), cfg)
	f.wait(t, l.flush(t))
	if n := len(told.drain()); n != 20 {
		t.Errorf("the load told %d changes", n)
	}

	proxy.Cut()
	l.change(gone(task(3, 0)), task(4, 2), task(30, 1), gone(task(5, 0)))
	l.change(task(5, 2), task(31, 1))
	l.flush(t)
	l.change(gone(task(31, 0)))
	l.flush(t)
	rev := put(t, direct, keys.Record(task(6, 0).Key), "garbage")
	if _, err := direct.Compact(etcdtest.Within(t), rev); err != nil {
		t.Fatal(err)
	}
	proxy.Restore()
	f.wait(t, rev)
	if !stateOf(f).Equal(l.ledger) {
		t.Error("the view differs from the lead's ledger")
	}
	readable := l.ledger.Clone()
	readable.Apply(gone(task(6, 0)))
	if s := f.Status(); len(s.Refused) != 1 || s.Digest != digestOf(readable) {
		t.Errorf("refused %v, digest %+v", s.Refused, s.Digest)
	}
	want := []ledger.Key{task(30, 0).Key, task(3, 0).Key, task(4, 0).Key, task(5, 0).Key}
	got := told.drain()
	for _, key := range want {
		if !slices.Contains(got, key) {
			t.Errorf("the reload did not tell of %v", key)
		}
	}
	if len(got) != len(want) {
		t.Errorf("the reload told %v, want only %v", got, want)
	}
	if n := f.metric(t, "understudy_view_reloads_total"); n != 1 {
		t.Errorf("%v reloads", n)
	}
	l.change(task(4, 3))
	f.wait(t, l.flush(t))
}

// The same address, another history: an etcd that lost its data, with the same
// cluster ID (same flags) or another, at a lower or at a higher revision than
// the view has seen.
func TestAnotherEtcdAtTheSameAddress(t *testing.T) {
	for name, c := range map[string]struct {
		flags    []string
		overtake bool
	}{
		"data wiped":             {},
		"data wiped, overtaken":  {overtake: true},
		"new cluster":            {flags: []string{"--initial-cluster-token=another"}},
		"new cluster, overtaken": {flags: []string{"--initial-cluster-token=another"}, overtake: true},
	} {
		t.Run(name, func(t *testing.T) {
			server := etcdtest.Start(t)
			proxy := etcdtest.NewProxy(t, server.Addr)
			direct := server.Client()
			old := leading(t, direct, 1)
			for i := range 10 {
				old.change(task(i, 1), app(i, 1))
				old.flush(t)
			}
			var told recorder
			cfg := config()
			cfg.OnChange = told.note
			f := follow(t, etcdtest.Client(t, proxy.Addr), cfg)
			before := old.flush(t)
			f.wait(t, before)
			told.drain()

			proxy.Cut()
			server.Wipe(c.flags...)
			fresh := server.Client()
			l := leading(t, fresh, 2)
			// At the revision at which the old history had another task 0.
			l.change(task(0, 2), task(50, 1))
			rev := l.flush(t)
			for c.overtake && rev <= before+5 {
				l.change(task(51, int(rev)))
				rev = l.flush(t)
			}
			waiting := make(chan error, 1)
			ctx := etcdtest.Within(t)
			// Of the claim: a revision that the view has long passed.
			go func() { waiting <- f.WaitRevision(ctx, l.claimed.Revision) }()
			proxy.Restore()
			if err := <-waiting; err != nil {
				t.Fatal(err)
			}
			if !stateOf(f).Equal(l.ledger) {
				t.Error("the barrier let through a state of another history")
			}
			f.wait(t, rev)
			if !stateOf(f).Equal(l.ledger) || f.Status().Leader.Epoch != 2 {
				t.Errorf("the view differs: %+v", f.Status())
			}
			if keys := told.drain(); !slices.Contains(keys, task(9, 0).Key) || !slices.Contains(keys, app(9, 0).Key) {
				t.Errorf("OnChange was not told of what is gone, but of %v", keys)
			}
			l.change(task(1, 3))
			f.wait(t, l.flush(t))
		})
	}
}

// Nobody waits for a revision; the view finds out by itself.
func TestAWipedEtcdIsNoticed(t *testing.T) {
	server := etcdtest.Start(t)
	cli := server.Client()
	l := leading(t, cli, 1)
	l.change(task(1, 1))
	f := follow(t, cli, config())
	f.wait(t, l.flush(t))
	server.Wipe()
	etcdtest.Eventually(t, "the view is empty", func() bool { return f.Synced() && stateOf(f).Equal(ledger.New()) })
}

func TestTroubleOnTheNetwork(t *testing.T) {
	server := etcdtest.Start(t)
	direct := server.Client()
	l := leading(t, direct, 1)
	proxy := etcdtest.NewProxy(t, server.Addr)
	f := follow(t, etcdtest.Client(t, proxy.Addr), config())
	f.wait(t, l.flush(t))
	n := 0
	for name, trouble := range map[string]func(){
		"cut": proxy.Cut, "blink": proxy.Blink, "stall": proxy.Stall, "deafen": proxy.Deafen,
	} {
		n++
		trouble()
		if name != "blink" {
			etcdtest.Eventually(t, name+" is noticed", func() bool { return !f.Status().Connected })
		}
		l.change(task(1, n), task(n+10, n))
		rev := l.flush(t)
		proxy.Restore()
		f.wait(t, rev)
		if !stateOf(f).Equal(l.ledger) {
			t.Errorf("%s: the view differs", name)
		}
	}
}
