package view_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/record"
)

func queues(name string) record.Configuration {
	return record.Configuration{Data: map[string]string{"queues.yaml": name}, Accepted: 1}
}

// TestTheConfigurationIsFollowed: loaded and watched; a repetition is not told, and one
// that cannot be read leaves that which was known.
func TestTheConfigurationIsFollowed(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	l := leading(t, cli, 1)
	cfg := config()
	var mu sync.Mutex
	var told []string
	cfg.OnConfiguration = func(c record.Configuration) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf("%s of %d", c.Data["queues.yaml"], c.Epoch))
	}
	f := follow(t, cli, cfg)
	f.wait(t, l.flush(t))
	if c, ok := f.Configuration(); ok {
		t.Fatalf("there is none, and it is %+v", c)
	}
	check := func(rev int64, want string, epoch uint64, all ...string) {
		t.Helper()
		f.wait(t, rev)
		c, ok := f.Configuration()
		if ok != (want != "") || c.Data["queues.yaml"] != want || c.Epoch != epoch {
			t.Errorf("got %+v, %v; want %q of epoch %d", c, ok, want, epoch)
		}
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(told, all) {
			t.Errorf("told %q, want %q", told, all)
		}
	}
	l.PutConfiguration(queues("a"))
	check(l.flush(t), "a", 1, "a of 1")
	l.PutConfiguration(queues("b"))
	check(l.flush(t), "b", 1, "a of 1", "b of 1")

	successor := leading(t, cli, 2)
	successor.PutConfiguration(queues("b"))
	check(successor.flush(t), "b", 2, "a of 1", "b of 1")

	rev := put(t, cli, keys.Configuration(), "garbage")
	check(rev, "b", 2, "a of 1", "b of 1")
	refused := f.Status().Refused
	if len(refused) != 1 || refused[0].Key != keys.Configuration() || !errors.Is(refused[0].Err, record.ErrCorrupt) {
		t.Errorf("refused %+v", refused)
	}
	cold := follow(t, cli, config())
	cold.wait(t, rev)
	if c, ok := cold.Configuration(); ok || len(cold.Status().Refused) != 1 {
		t.Errorf("who loads what cannot be read has %+v", c)
	}

	successor.PutConfiguration(queues("c"))
	check(successor.flush(t), "c", 2, "a of 1", "b of 1", "c of 2")
	late := follow(t, cli, config())
	late.wait(t, successor.Status().Revision)
	if c, ok := late.Configuration(); !ok || c.Data["queues.yaml"] != "c" {
		t.Errorf("loaded %+v, %v", c, ok)
	}
	if d := f.Status().Digest; d != digestOf(l.ledger) {
		t.Errorf("the digest counts more than applications and tasks: %+v", d)
	}

	gone, err := cli.Delete(etcdtest.Within(t), keys.Configuration())
	if err != nil {
		t.Fatal(err)
	}
	check(gone.Header.Revision, "", 0, "a of 1", "b of 1", "c of 2")
	// What was known before does not come back by itself, nor keeps a new one from being told.
	successor.PutConfiguration(queues("c"))
	check(successor.flush(t), "c", 2, "a of 1", "b of 1", "c of 2", "c of 2")
	f.Take()
	if c, ok := f.Configuration(); !ok || c.Data["queues.yaml"] != "c" {
		t.Errorf("after Take: %+v, %v", c, ok)
	}
}

// TestQueuesThatAreGoneAreTold though the configuration is the same.
func TestQueuesThatAreGoneAreTold(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	l := leading(t, cli, 1)
	cfg := config()
	told := make(chan record.Configuration, 3)
	cfg.OnConfiguration = func(c record.Configuration) { told <- c }
	f := follow(t, cli, cfg)
	c := queues("a")
	for _, c.Former = range []string{"", "x", "x"} {
		l.PutConfiguration(c)
		f.wait(t, l.flush(t))
	}
	if first, second := <-told, <-told; first.Former != "" || second.Former != "x" || len(told) != 0 {
		t.Errorf("told %+v, %+v, and %d more", first, second, len(told))
	}
}

// TestAReloadKeepsAConfigurationThatCannotBeReadAnyMore, as a watch does.
func TestAReloadKeepsAConfigurationThatCannotBeReadAnyMore(t *testing.T) {
	server := etcdtest.Start(t)
	proxy := etcdtest.NewProxy(t, server.Addr)
	direct := server.Client()
	l := leading(t, direct, 1)
	f := follow(t, etcdtest.Client(t, proxy.Addr), config())
	l.PutConfiguration(queues("a"))
	f.wait(t, l.flush(t))
	// What was written while the view was cut off is compacted, so that it has to load.
	reload := func() {
		t.Helper()
		rev := put(t, direct, keys.Root()+"from/a/newer/version", "x")
		if _, err := direct.Compact(etcdtest.Within(t), rev); err != nil {
			t.Fatal(err)
		}
		proxy.Restore()
		f.wait(t, rev)
	}
	proxy.Cut()
	put(t, direct, keys.Configuration(), "garbage")
	reload()
	if c, ok := f.Configuration(); !ok || c.Data["queues.yaml"] != "a" {
		t.Errorf("after a reload: %+v, %v", c, ok)
	}
	proxy.Cut()
	if _, err := direct.Delete(etcdtest.Within(t), keys.Configuration()); err != nil {
		t.Fatal(err)
	}
	reload()
	if c, ok := f.Configuration(); ok {
		t.Errorf("one that is gone came through a reload: %+v", c)
	}
	if n := f.metric(t, "understudy_view_reloads_total"); n != 2 {
		t.Errorf("%v reloads", n)
	}
}
