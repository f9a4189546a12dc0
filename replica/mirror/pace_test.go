package mirror

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// paced is a mirror without etcd, of which the test plays Run.
func paced(t *testing.T) *Mirror {
	t.Helper()
	m := &Mirror{
		cfg: Default(), keys: record.Keys{Prefix: "/understudy"}, log: slog.New(slog.DiscardHandler),
		wake: make(chan struct{}, 1), queue: newQueue(), changed: make(chan struct{}), writer: &writer{},
	}
	var err error
	if m.metrics, err = newMetrics(nil, func() float64 { return 0 }); err != nil {
		t.Fatal(err)
	}
	return m
}

// offer hands so many records over, and takes a batch.
func (m *Mirror) offer(records int) (written int, rest time.Duration) {
	for range records {
		id := fmt.Sprint(m.last)
		m.Append([]ledger.Change{{Key: ledger.Key{AppID: id}, App: &ledger.App{ID: id}}}, nil)
	}
	batch, rest := m.take(false)
	if len(batch) > 0 {
		m.landed(outcome{revision: m.revision + 1})
	}
	return len(batch), rest
}

func TestBatchesRestWhenRecordsComeQuickly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := paced(t)
		for i, records := range []int{1, 1, 50} { // also what a new lead has to say at once
			if n, rest := m.offer(records); n != records || rest != 0 {
				t.Fatalf("batch %d: %d written, and rests %s", i, n, rest)
			}
		}
		if n, _ := m.offer(6); n != 6 {
			t.Fatalf("a single large batch has the next one rest")
		}
		if n, rest := m.offer(1); n != 0 || rest != 5*restPerEntry {
			t.Fatalf("after batches of 50 and 6, %d are written, and rest %s", n, rest)
		}
		time.Sleep(5*restPerEntry - time.Nanosecond)
		if n, rest := m.offer(1); n != 0 || rest != time.Nanosecond {
			t.Fatalf("too early, %d are written, and rest %s", n, rest)
		}
		time.Sleep(time.Nanosecond)
		if n, _ := m.offer(0); n != 2 {
			t.Fatalf("what has rested is not written, but %d", n)
		}
		time.Sleep(restPerEntry)
		if n, _ := m.offer(1); n != 1 {
			t.Fatal("after a small batch one rests long")
		}
		if n, _ := m.offer(1); n != 1 {
			t.Fatal("single records rest")
		}
	})
}

func TestNoBatchRestsForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := paced(t)
		m.offer(enough)
		m.offer(enough)
		if n, rest := m.offer(enough - 1); n != 0 || rest != longestRest {
			t.Errorf("%d are written, and rest %s", n, rest)
		}
		if n, _ := m.offer(1); n != enough {
			t.Errorf("of so many that waiting brings little %d are written", n)
		}
		if n, rest := m.offer(1); n != 0 || rest != longestRest {
			t.Errorf("%d are written, and rest %s", n, rest)
		}
		m.end()
		if n, _ := m.offer(0); n != 1 {
			t.Error("what is pending in the end rests")
		}
	})
}

// TestThePaceFollowsTheLoad has records come evenly, and a transaction take 3 ms.
func TestThePaceFollowsTheLoad(t *testing.T) {
	for _, c := range []struct {
		perSecond    int
		least, most  int // records of a batch, on average
		longestDelay time.Duration
	}{
		{50, 1, 1, 0},
		{300, 1, 1, 0},
		{1000, 20, 40, longestRest + 3*time.Millisecond},
	} {
		t.Run(fmt.Sprint(c.perSecond), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := paced(t)
				every := time.Second / time.Duration(c.perSecond)
				begun := time.Now()
				next := begun // when the next record comes
				batches, records := 0, 0
				var delay time.Duration
				for oldest := next; records < 2000; {
					due := 0
					for ; !next.After(time.Now()); next = next.Add(every) {
						due++
					}
					n, rest := m.offer(due)
					switch {
					case n > 0:
						delay = max(delay, time.Since(oldest))
						oldest = next
						batches, records = batches+1, records+n
						time.Sleep(3 * time.Millisecond)
						m.pace.at = time.Now()
					case rest > 0:
						time.Sleep(min(rest, max(1, time.Until(next))))
					default:
						time.Sleep(time.Until(next))
					}
				}
				if got := records / batches; got < c.least || got > c.most {
					t.Errorf("batches have %d records", got)
				}
				if delay > c.longestDelay {
					t.Errorf("a record waited for %s", delay)
				}
			})
		})
	}
}
