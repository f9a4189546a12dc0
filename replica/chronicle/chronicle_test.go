package chronicle_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/understudy-ha/understudy/replica/chronicle"
	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
)

const prefix = "/understudy"

var keys = record.Keys{Prefix: prefix}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// core is a source of events, which a test says.
type core struct {
	mu    sync.Mutex
	queue []*si.EventRecord
	lost  uint64
	reads int
}

func (c *core) say(texts ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, text := range texts {
		c.queue = append(c.queue, &si.EventRecord{ObjectID: text, Message: text, TimestampNano: time.Now().UnixNano()})
	}
}

func (c *core) Read(most int) ([]*si.EventRecord, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(most, len(c.queue))
	events, lost := c.queue[:n], c.lost
	c.queue, c.lost = c.queue[n:], 0
	if n > 0 {
		c.reads++
	}
	return events, lost
}

// lead is a lead with a mirror of its own.
type lead struct {
	*chronicle.Log
	core   *core
	mirror *mirror.Mirror
	// finish ends the chronicle, then the mirror; crash the mirror first.
	finish, crash func()
}

func config() chronicle.Config {
	cfg := chronicle.Default()
	cfg.Prefix = prefix
	return cfg
}

// begin has a lead of a new epoch begin.
func begin(t *testing.T, cli *clientv3.Client, epoch uint64, cfg chronicle.Config, wrap func(chronicle.Writer) chronicle.Writer) *lead {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	l := record.Leader{Epoch: epoch, Incarnation: fmt.Sprint("r", epoch), Since: 1}
	claimed, err := mirror.Claim(etcdtest.Within(t), cli, prefix, l, record.Term{Epoch: epoch, Incarnation: l.Incarnation})
	if err != nil {
		t.Fatal(err)
	}
	mirroring := mirror.Default()
	mirroring.Prefix = prefix
	m, err := mirror.New(cli, claimed, mirroring, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	past, err := chronicle.New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	out := &lead{Log: past, core: &core{}, mirror: m}
	writing, stopWriting := context.WithCancel(context.Background())
	keeping, stopKeeping := context.WithCancel(context.Background())
	var writes, keeps sync.WaitGroup
	writes.Go(func() { _ = m.Run(writing) })
	var writer chronicle.Writer = m
	if wrap != nil {
		writer = wrap(m)
	}
	keeps.Go(func() {
		past.Keep(keeping, chronicle.Lead{
			Writer: writer, Events: out.core, Load: chronicle.Load(cli, prefix, etcdtest.Patience, log),
			Count: func() (int, int, bool) { return int(epoch), 10 * int(epoch), true },
		})
	})
	out.finish = sync.OnceFunc(func() { stopKeeping(); keeps.Wait(); stopWriting(); writes.Wait() })
	out.crash = sync.OnceFunc(func() { stopWriting(); writes.Wait(); stopKeeping(); keeps.Wait() })
	t.Cleanup(out.crash)
	for ctx := etcdtest.Within(t); !past.Ready(ctx); {
		if ctx.Err() != nil {
			t.Fatal("the past is not known")
		}
	}
	return out
}

// read returns the messages of count events from an ID on, once there are as many.
func (l *lead) read(t *testing.T, start uint64, count int) (texts []string) {
	t.Helper()
	ctx := etcdtest.Within(t)
	for len(texts) < count {
		events, more, ok := l.After(start+uint64(len(texts)), count-len(texts))
		if !ok {
			t.Fatalf("event %d is not kept", start)
		}
		for _, e := range events {
			texts = append(texts, e.Message)
		}
		if len(events) == 0 {
			select {
			case <-more:
			case <-ctx.Done():
				t.Fatalf("never: event %d", start+uint64(len(texts)))
			}
		}
	}
	return texts
}

func numbers(from, to int) (texts []string) {
	for i := from; i < to; i++ {
		texts = append(texts, fmt.Sprint("event ", i))
	}
	return texts
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if g, w := strings.Join(got, ","), strings.Join(want, ","); g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}
}

// TestOneNumberingOverLeads: a client that goes on by ID where it was, with whoever leads, sees
// each event once, also what a lead was told of in its last moment.
func TestOneNumberingOverLeads(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	var seen []string
	said, id := 0, ""
	for epoch := uint64(1); epoch <= 4; epoch++ {
		l := begin(t, cli, epoch, config(), nil)
		b := l.Batch(0, 1)
		if id == "" {
			id = b.ID
		}
		if b.ID != id || len(id) != 36 {
			t.Errorf("epoch %d: the identity is %q, want %q", epoch, b.ID, id)
		}
		l.core.say(numbers(said, said+50)...)
		said += 50
		seen = append(seen, l.read(t, uint64(len(seen)), said-len(seen))...)
		l.core.say(numbers(said, said+1160)...) // more than one run
		said += 1160
		l.finish()
	}
	same(t, seen, numbers(0, len(seen)))
	if len(seen) != said-1160 {
		t.Errorf("%d events of %d", len(seen), said)
	}
}

// unheard is a writer whose process dies before it hears that a run is durable.
type unheard struct {
	chronicle.Writer
	durable chan struct{}
}

func (u unheard) PutNotes(notes []mirror.Note, landed func()) {
	if landed != nil {
		landed = func() { close(u.durable) }
	}
	u.Writer.PutNotes(notes, landed)
}

// TestDurableAndNeverTold: what a lead has written and never shown is its successor's to show.
func TestDurableAndNeverTold(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	durable := make(chan struct{})
	first := begin(t, cli, 1, config(), func(w chronicle.Writer) chronicle.Writer { return unheard{w, durable} })
	first.core.say("event 0")
	select {
	case <-durable:
	case <-etcdtest.Within(t).Done():
		t.Fatal("it never knew")
	}
	if b := first.Batch(0, 10); len(b.Events) != 0 {
		t.Errorf("seen before it was known to be durable: %v", b)
	}
	first.crash()
	second := begin(t, cli, 2, config(), nil)
	second.core.say("event 1")
	same(t, second.read(t, 0, 2), numbers(0, 2))
}

// TestNeverDurableAndNeverTold: what does not reach etcd is seen by nobody, and takes no ID.
func TestNeverDurableAndNeverTold(t *testing.T) {
	etcd := etcdtest.Start(t)
	cli := etcd.Client()
	first := begin(t, cli, 1, config(), nil)
	etcd.Kill()
	first.core.say("in vain")
	etcdtest.Eventually(t, "it is on its way", func() bool { first.core.mu.Lock(); defer first.core.mu.Unlock(); return first.core.reads > 0 })
	if b := first.Batch(0, 10); len(b.Events) != 0 || b.Highest != 0 {
		t.Errorf("seen: %v", b)
	}
	// However long that lasts, no more than one run is held for etcd.
	first.core.say(numbers(0, 5000)...)
	etcdtest.Eventually(t, "etcd is missed", func() bool { return first.mirror.Status().LastError != "" })
	if n := first.mirror.Status().Pending; n > 3 || first.core.reads > 1 {
		t.Errorf("%d entries wait to be written, after %d reads", n, first.core.reads)
	}
	first.crash()
	etcd.Restart()
	second := begin(t, cli, 2, config(), nil)
	second.core.say("event 0")
	same(t, second.read(t, 0, 1), numbers(0, 1))
}

func count(t *testing.T, cli *clientv3.Client, prefix string) int {
	t.Helper()
	resp, err := cli.Get(etcdtest.Within(t), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	return int(resp.Count)
}

// TestSoManyAreKept: in memory and in etcd, and a reader that is behind is told so.
func TestSoManyAreKept(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	cfg := config()
	cfg.Events = 20
	l := begin(t, cli, 1, cfg, nil)
	for i := range 12 {
		l.core.say(numbers(10*i, 10*i+10)...)
		l.read(t, uint64(10*i), 10)
	}
	b := l.Batch(0, 10)
	if b.Lowest != 100 || b.Highest != 119 || b.Events != nil {
		t.Errorf("%+v", b)
	}
	if _, _, ok := l.After(99, 10); ok {
		t.Error("an event that is not kept was there for a reader")
	}
	if start, _ := l.Newest(1000); start != 100 {
		t.Errorf("the newest thousand begin with %d", start)
	}
	if n := count(t, cli, keys.Events()); n > 4 {
		t.Errorf("etcd has %d runs of 10 events, want what 20 need", n)
	}
	l.finish()
	next := begin(t, cli, 2, cfg, nil)
	same(t, next.read(t, 100, 20), numbers(100, 120))
}

// TestForSoLongTheyAreKept: the numbering goes on all the same when there is none left.
func TestForSoLongTheyAreKept(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	l := begin(t, cli, 1, config(), nil)
	for i := range 3 {
		l.core.say(numbers(i, i+1)...)
		l.read(t, uint64(i), 1)
	}
	l.finish()
	later := config()
	later.Now = func() time.Time { return time.Now().Add(25 * time.Hour) }
	next := begin(t, cli, 2, later, nil)
	if b := next.Batch(0, 10); b.Lowest != 3 || b.Highest != 2 || b.Events != nil {
		t.Errorf("%+v", b)
	}
	etcdtest.Eventually(t, "one run is left, which tells of the numbering", func() bool { return count(t, cli, keys.Events()) == 1 })
	next.finish()
	last := begin(t, cli, 3, config(), nil)
	last.core.say("event 3")
	same(t, last.read(t, 3, 1), numbers(3, 4))
}

// TestWhatCannotBeReadKeepsItsIDs: it is named, and those after it have their IDs.
func TestWhatCannotBeReadKeepsItsIDs(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	l := begin(t, cli, 1, config(), nil)
	for i := range 4 {
		l.core.say(numbers(3*i, 3*i+3)...)
		l.read(t, uint64(3*i), 3)
	}
	l.core.say("the last")
	l.read(t, 12, 1)
	l.finish()
	for key, value := range map[string]string{
		keys.EventRun(3, 5): "garbage", keys.EventRun(12, 12): "", keys.EventRun(6, 8): string(record.EncodeEvents(nil)), // too few
		keys.EventRun(1, 4): string(record.EncodeEvents(empty(4))), keys.Events() + "x": "", keys.EventRun(7, 1<<60): "", keys.Sample(5): "garbage",
	} {
		if _, err := cli.Put(etcdtest.Within(t), key, value); err != nil {
			t.Fatal(err)
		}
	}
	next := begin(t, cli, 2, config(), nil)
	next.core.say("event 13")
	const lost = "this event is lost: it cannot be read any more"
	want := append(numbers(0, 3), lost, lost, lost, lost, lost, lost)
	want = append(append(want, numbers(9, 12)...), lost, "event 13")
	same(t, next.read(t, 0, 14), want)
}

func empty(n int) []*si.EventRecord {
	events := make([]*si.EventRecord, n)
	for i := range events {
		events[i] = &si.EventRecord{}
	}
	return events
}

// TestWhatTheCoreDropped: who reads is told how much is missing.
func TestWhatTheCoreDropped(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	l := begin(t, cli, 1, config(), nil)
	l.core.mu.Lock()
	l.core.lost = 7
	l.core.mu.Unlock()
	l.core.say("later")
	same(t, l.read(t, 0, 2), []string{"7 events are lost: they came faster than they could be kept", "later"})
}

// TestSamplesOverLeads: one a minute, whoever leads, and no more keys than there are slots.
func TestSamplesOverLeads(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	start := time.Now()
	for epoch := uint64(1); epoch <= 3; epoch++ {
		cfg := config()
		cfg.Now = func() time.Time { return start.Add(time.Duration(epoch) * time.Minute) }
		l := begin(t, cli, epoch, cfg, nil)
		etcdtest.Eventually(t, "a sample is taken", func() bool { return len(l.Samples()) == int(epoch) })
		for i := range uint64(2) { // it has looked for news twice since
			l.core.say("news")
			l.read(t, 2*(epoch-1)+i, 1)
		}
		l.finish()
		taken, err := cli.Get(etcdtest.Within(t), keys.Samples(), clientv3.WithPrefix())
		if err != nil || len(taken.Kvs) != int(epoch) {
			t.Errorf("epoch %d: %v, %v", epoch, taken, err)
		}
		for _, kv := range taken.Kvs {
			if kv.Version != 1 {
				t.Errorf("epoch %d: %s was written %d times", epoch, kv.Key, kv.Version)
			}
		}
	}
	// A day later the slots are used again, and what is there is not told any more.
	cfg := config()
	cfg.Now = func() time.Time { return start.Add(time.Minute + 24*time.Hour) }
	l := begin(t, cli, 4, cfg, nil)
	etcdtest.Eventually(t, "a sample is taken", func() bool {
		s := l.Samples()
		return len(s) == 3 && s[0].Applications == 2 && s[0].At == ledger.At(start.Add(2*time.Minute)) && s[2].Containers == 40
	})
	l.finish()
	if n := count(t, cli, keys.Samples()); n != 3 {
		t.Errorf("%d keys, want those of before", n)
	}
}
