package kube

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/understudy-ha/understudy/replica/ledger"
)

func TestPoolKeepsTheOrderOfAKeyAndTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(3, nil)
		defer p.stop()
		var mu sync.Mutex
		done := map[string][]int{}
		var at, most atomic.Int32
		for n := range 20 {
			for _, key := range []string{"a", "b", "c", "d", "e"} {
				p.add("", key, fmt.Sprint(n), func(context.Context) (ledger.Event, time.Duration) {
					most.Store(max(most.Load(), at.Add(1)))
					time.Sleep(time.Millisecond) // of the bubble
					at.Add(-1)
					mu.Lock()
					defer mu.Unlock()
					done[key] = append(done[key], n)
					return nil, 0
				})
			}
		}
		pass(time.Minute)
		for key, order := range done {
			if len(order) != 20 || !slices.IsSorted(order) {
				t.Errorf("%s was done as %v", key, order)
			}
		}
		if len(done) != 5 || most.Load() != 3 {
			t.Errorf("%d keys done by up to %d workers, want 5 by 3", len(done), most.Load())
		}
	})
}

// What one party wants in thousands does not hold up what another wants once.
func TestPoolIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(8, nil)
		defer p.stop()
		var under, most, done, small atomic.Int32
		big := func(context.Context) (ledger.Event, time.Duration) {
			most.Store(max(most.Load(), under.Add(1)))
			time.Sleep(time.Second)
			under.Add(-1)
			done.Add(1)
			return nil, 0
		}
		for n := range 5000 {
			p.add("big", fmt.Sprint("big/", n), "", big)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		if most.Load() != 8 {
			t.Errorf("alone it has %d workers, want all", most.Load())
		}
		for n := range 30 {
			p.add(fmt.Sprint("small", n%2), fmt.Sprint("small/", n), "", func(context.Context) (ledger.Event, time.Duration) {
				time.Sleep(time.Second)
				most.Store(0) // of what is seen from here on
				small.Add(1)
				return nil, 0
			})
		}
		time.Sleep(5 * time.Second)
		if most.Load() > 4 {
			t.Errorf("beside two others it has %d workers", most.Load())
		}
		time.Sleep(3 * time.Second)
		if small.Load() != 30 {
			t.Errorf("8 s later %d of 30 are done", small.Load())
		}
		before := done.Load()
		time.Sleep(10 * time.Second)
		if done.Load()-before < 70 {
			t.Errorf("alone again it does %d in 10 s", done.Load()-before)
		}
	})
}

// With turns of several jobs, the parties that came first are done before the last ones begin, and one
// with many jobs takes many turns.
func TestPoolTakesTurnsOfSeveralJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(4, nil)
		p.turn = 8
		defer p.stop()
		done := make(map[string]time.Duration)
		start := time.Now()
		var mu sync.Mutex
		add := func(party string, jobs int) {
			for n := range jobs {
				p.add(party, fmt.Sprint(party, "/", n), "", func(context.Context) (ledger.Event, time.Duration) {
					time.Sleep(time.Second)
					mu.Lock()
					defer mu.Unlock()
					done[party] = time.Since(start)
					return nil, 0
				})
			}
		}
		add("large", 800)
		for n := range 100 {
			add(fmt.Sprint("small", n), 8)
		}
		pass(20 * time.Second)
		mu.Lock()
		first := len(done)
		mu.Unlock()
		if first > 12 {
			t.Errorf("after 20 s, in which 80 jobs are done, %d of 101 parties have had a turn", first)
		}
		pass(400 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(done) != 101 {
			t.Fatalf("%d of 101 parties are done", len(done))
		}
		if last := done["small99"]; last < 150*time.Second || last > 300*time.Second {
			t.Errorf("the last small one is done after %v; all jobs take 400 s, those of the small ones 200 s", last)
		}
		if done["small3"] > 30*time.Second {
			t.Errorf("the fourth small one is done after %v", done["small3"])
		}
		if done["large"] < 390*time.Second {
			t.Errorf("the large one is done after %v, before its turns", done["large"])
		}
	})
}

// A party whose jobs take long does not come to have all workers by and by: it has a
// quarter for as long as others wait, and all before and after.
func TestPoolKeepsAPartyToItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(8, nil)
		defer p.stop()
		var under, small atomic.Int32
		expect := func(want int32, when string) {
			t.Helper()
			if got := under.Load(); got != want {
				t.Errorf("%s a party with jobs that take long has %d workers, want %d", when, got, want)
			}
		}
		for n := range 100 {
			p.add("long", fmt.Sprint("long/", n), "", func(context.Context) (ledger.Event, time.Duration) {
				under.Add(1)
				defer under.Add(-1)
				time.Sleep(10 * time.Second)
				return nil, 0
			})
		}
		pass(time.Second)
		expect(8, "alone")
		const jobs = 1800
		for n := range jobs {
			p.add(fmt.Sprint("short", n%3), fmt.Sprint("short/", n), "", func(context.Context) (ledger.Event, time.Duration) {
				time.Sleep(100 * time.Millisecond)
				small.Add(1)
				return nil, 0
			})
		}
		pass(10 * time.Second) // what it has begun goes on
		for small.Load() < jobs*9/10 {
			expect(2, "beside three others")
			pass(time.Second)
		}
		pass(20 * time.Second)
		expect(8, "alone again")
	})
}

// Jobs that are taken back are not begun, nor tried again; others of the party are.
func TestPoolDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, nil)
		defer p.stop()
		var mu sync.Mutex
		var done []string
		job := func(name string, again time.Duration) job {
			return func(context.Context) (ledger.Event, time.Duration) {
				time.Sleep(time.Second)
				mu.Lock()
				defer mu.Unlock()
				done = append(done, name)
				return nil, again
			}
		}
		p.add("a", "under way", "create", job("under way", time.Minute))
		time.Sleep(time.Millisecond)
		p.add("a", "ready", "create", job("ready", 0))
		p.add("a", "both", "create", job("both", 0))
		p.add("a", "both", "delete", job("delete", 0))
		p.add("b", "other", "create", job("other", 0))
		p.drop("a", "create")
		p.drop("nobody", "create")
		p.add("a", "ready", "create", job("anew", time.Hour))
		time.Sleep(10 * time.Second) // "anew" waits
		p.drop("a", "create")
		time.Sleep(2 * time.Hour)
		p.add("a", "ready", "create", job("last", 0))
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(done)
		if want := []string{"anew", "delete", "last", "other", "under way"}; !slices.Equal(done, want) {
			t.Errorf("done %q, want %q", done, want)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.lines)+len(p.parties)+len(p.turns) > 0 {
			t.Errorf("left are %v %v %v", p.lines, p.parties, p.turns)
		}
	})
}

// What a drop leaves is done: what comes after it on its line, what is asked for anew
// while it is under way, and what others want.
func TestPoolGoesOnAfterADrop(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(p *pool, add func(owner, key, tag, name string, again time.Duration))
		want []string
	}{
		"under way": {func(p *pool, add func(owner, key, tag, name string, again time.Duration)) {
			add("a", "k", "create", "first", time.Minute)
			pass(time.Millisecond)
			p.drop("a", "create")
		}, []string{"first"}},
		"under way, and asked for anew": {func(p *pool, add func(owner, key, tag, name string, again time.Duration)) {
			add("a", "k", "create", "first", time.Minute)
			pass(time.Millisecond)
			p.drop("a", "create")
			add("a", "k", "create", "anew", 0)
		}, []string{"first", "anew"}},
		"waits for its next try, and is followed": {func(p *pool, add func(owner, key, tag, name string, again time.Duration)) {
			add("a", "k", "create", "first", 24*time.Hour)
			add("a", "k", "delete", "delete", 0)
			pass(time.Minute)
			p.drop("a", "create")
		}, []string{"first", "delete"}},
		"all of a party": {func(p *pool, add func(owner, key, tag, name string, again time.Duration)) {
			add("b", "b1", "create", "b1", 0)
			pass(time.Millisecond)
			add("a", "a1", "create", "a1", 0)
			add("b", "b2", "create", "b2", 0)
			add("a", "a2", "create", "a2", 0)
			p.drop("a", "create")
		}, []string{"b1", "b2"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(1, nil)
				defer p.stop()
				var done []string
				tt.do(p, func(owner, key, tag, name string, again time.Duration) {
					p.add(owner, key, tag, func(context.Context) (ledger.Event, time.Duration) {
						time.Sleep(time.Second)
						done = append(done, name)
						return nil, again
					})
				})
				pass(time.Hour)
				if !slices.Equal(done, tt.want) {
					t.Errorf("done %q, want %q", done, tt.want)
				}
			})
		})
	}
}

func TestPoolTakesTheSameWorkOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(2, nil)
		defer p.stop()
		var runs int
		work := func(context.Context) (ledger.Event, time.Duration) { time.Sleep(time.Second); runs++; return nil, 0 }
		for range 100 {
			p.add("", "k", "same", work)
		}
		pass(time.Minute)
		p.add("", "k", "same", work) // after it has been done it is new
		pass(time.Minute)
		if runs != 2 {
			t.Errorf("done %d times, want 2", runs)
		}
	})
}

// Whoever hears of a failed attempt may ask for the next one before the first has
// been taken off its line.
func TestPoolTakesTheSameWorkAnewOnceItsOutcomeIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *pool
		var told []ledger.Event
		runs := 0
		work := func(context.Context) (ledger.Event, time.Duration) {
			runs++
			return ledger.BindFailed{TaskID: fmt.Sprint(runs)}, 0
		}
		p = newPool(2, func(e ledger.Event) {
			if told = append(told, e); len(told) < 3 {
				p.add("", "k", "same", work)
				p.add("", "k", "same", work) // which is one and the same
			}
		})
		defer p.stop()
		p.add("", "k", "same", work)
		pass(time.Minute)
		want := []ledger.Event{ledger.BindFailed{TaskID: "1"}, ledger.BindFailed{TaskID: "2"}, ledger.BindFailed{TaskID: "3"}}
		if runs != 3 || !slices.Equal(told, want) {
			t.Errorf("done %d times, told %v", runs, told)
		}
	})
}

func TestPoolTriesAgainBeforeWhatComesAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(2, nil)
		defer p.stop()
		var order []string
		tries := 0
		p.add("", "k", "first", func(context.Context) (ledger.Event, time.Duration) {
			tries++
			order = append(order, fmt.Sprint("first ", tries))
			if tries < 3 {
				return nil, time.Second
			}
			return nil, 0
		})
		p.add("", "k", "second", func(context.Context) (ledger.Event, time.Duration) { order = append(order, "second"); return nil, 0 })
		pass(time.Minute)
		if want := []string{"first 1", "first 2", "first 3", "second"}; !slices.Equal(order, want) {
			t.Errorf("done as %q, want %q", order, want)
		}
	})
}

func TestPoolStopWaitsAndDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, nil)
		ended, dropped := false, true
		p.add("", "a", "", func(ctx context.Context) (ledger.Event, time.Duration) {
			<-ctx.Done()
			time.Sleep(time.Second)
			ended = true
			return nil, time.Second
		})
		p.add("", "b", "", func(context.Context) (ledger.Event, time.Duration) { dropped = false; return nil, 0 })
		synctest.Wait()
		p.stop()
		if !ended || !dropped {
			t.Errorf("work under way ended: %v; waiting work dropped: %v", ended, dropped)
		}
		p.add("", "c", "", func(context.Context) (ledger.Event, time.Duration) { t.Error("done after stop"); return nil, 0 })
		pass(time.Minute)
	})
}

func TestPausesGrowToALimit(t *testing.T) {
	pause := retries
	for _, longest := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
		if wait := pause.Step(); wait < longest/2 || wait > longest {
			t.Errorf("waits %v, want %v to %v", wait, longest/2, longest)
		}
	}
	for range 1000 {
		pause.Step()
	}
	if wait := pause.Step(); wait < 5*time.Second || wait > 10*time.Second {
		t.Errorf("waits %v in the end", wait)
	}
}

// pass lets time go by in a bubble, and all that it sets off come to rest.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// What is for people waits for a pause of what pods need to run: not for one between
// two pods of a burst, and not for ever.
func TestPoolIsQuiet(t *testing.T) {
	const work, gap = 10 * time.Millisecond, 5 * time.Millisecond
	for name, tt := range map[string]struct{ jobs, atLeast, atMost time.Duration }{
		"idle":          {0, 0, 0},
		"a burst":       {20, 20*(work+gap) - gap + calm, 20*(work+gap) + calm},
		"without pause": {10_000, yieldPatience, yieldPatience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(1, nil)
				defer p.stop()
				var feeding sync.WaitGroup
				defer feeding.Wait()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				feeding.Go(func() {
					for i := range tt.jobs {
						if ctx.Err() != nil {
							return
						}
						p.add("", fmt.Sprint(i), "", func(context.Context) (ledger.Event, time.Duration) {
							time.Sleep(work)
							return nil, 0
						})
						time.Sleep(work + gap)
					}
				})
				synctest.Wait()
				began := time.Now()
				if err := p.quiet(ctx, calm, yieldPatience); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < tt.atLeast || took > tt.atMost {
					t.Errorf("quiet after %v, want %v to %v", took, tt.atLeast, tt.atMost)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, nil)
		defer p.stop()
		p.add("", "k", "", func(ctx context.Context) (ledger.Event, time.Duration) { <-ctx.Done(); return nil, 0 })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.quiet(ctx, calm, yieldPatience); err == nil {
			t.Error("quiet although it is busy and nobody waits")
		}
	})
}
