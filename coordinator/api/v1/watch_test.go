package v1

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/understudy-ha/understudy/coordinator/changes"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// has is what a list shows, as a watch tells it.
func (r *replica) has(t *testing.T, list, query string) copyOf {
	t.Helper()
	all := make(copyOf)
	ids, _ := r.listed(t, list, "id")
	for _, id := range ids {
		_, all[id] = r.get(Prefix + list + "/" + id + query)
	}
	return all
}

// TestWatch: all that there is, then what changes, with what is no more.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := populated()
		c := r.watch(t, "applications?watch=true&fields=id,state")
		got := fmt.Sprint(c.read(t, EventMark))
		if want := `[{put  {"id":"a","state":"Running"}} {put  {"id":"b","state":"Running"}} {put  {"id":"c","state":"Accepted"}} ` +
			`{put  {"id":"d","state":"Completed"}} {mark 101 {"revision":101,"epoch":7}}]`; got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
		r.change(102, app("c", "root.x", "bob", ledger.AppStateRunning), gone("d", ""), task("a", "t2", "n1", ledger.TaskStateBound))
		got = fmt.Sprint(c.read(t, EventPut))
		if want := `[{put  {"id":"c","state":"Running"}} {delete  {"id":"d"}} {put 102 {"id":"a","state":"Running"}}]`; got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
		// Nothing for a while, but how far it is.
		begun := time.Now()
		if got := fmt.Sprint(c.read(t, EventMark)); got != `[{mark 102 {"revision":102,"epoch":7}}]` || time.Since(begun) != markEvery {
			t.Errorf("%s after %s", got, time.Since(begun))
		}
		if c.header.Get("Content-Type") != eventStream {
			t.Errorf("%v", c.header)
		}
		r.leads.Store(false) // it is another's turn to tell
		r.change(103, gone("a", ""))
		select {
		case piece := <-c.events:
			t.Errorf("told by who leads no more: %s", piece)
		case <-c.done:
		}
	})
}

// TestWatchOfSome: the filters hold for changes as well.
func TestWatchOfSome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := populated()
		c := r.watch(t, "tasks?application=a,b&state=Bound&fields=id", "Accept", "text/event-stream")
		if got := fmt.Sprint(c.read(t, EventMark)); got != `[{put  {"id":"t1"}} {put  {"id":"t3"}} {mark 101 {"revision":101,"epoch":7}}]` {
			t.Error(got)
		}
		r.change(102, task("c", "t9", "n1", ledger.TaskStateBound)) // of no concern
		r.change(103, gone("orphaned", "t4"))                       // nor this
		r.change(104, task("a", "t1", "n1", ledger.TaskStateCompleted), task("a", "t2", "n1", ledger.TaskStateBound), gone("b", "t3"))
		got := fmt.Sprint(c.read(t, EventDelete))
		if want := `[{delete  {"id":"t1","application":"a"}} {put  {"id":"t2"}} {delete 104 {"id":"t3","application":"b"}}]`; got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
		c.close()
		<-c.done
	})
}

// TestWatchGoesOnElsewhere: a client that has followed up to a revision goes on at the next lead
// without a gap, and one that it cannot serve begins anew.
func TestWatchGoesOnElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, other := populated(), populated()
		both := func(revision int64, list ...ledger.Change) {
			one.change(revision, list...)
			other.change(revision, list...)
		}
		c := one.watch(t, "applications?watch=true")
		mine := make(copyOf)
		mine.take(c.read(t, EventMark)...)
		both(102, app("e", "root.x", "eve", ledger.AppStateAccepted))
		events := c.read(t, EventPut)
		mine.take(events...)
		c.close()
		<-c.done
		both(103, gone("a", ""), app("e", "root.x", "eve", ledger.AppStateRunning))
		for _, how := range [][]string{{"applications?watch=true&revision=102"}, {"applications?watch=true", "Last-Event-ID", events[len(events)-1].id}} {
			c = other.watch(t, how[0], how[1:]...)
			events := c.read(t, EventPut)
			if len(events) != 2 || events[1].id != "103" {
				t.Errorf("%v: %v", how, events)
			}
			mine.take(events...)
			c.close()
			<-c.done
		}
		if want := other.has(t, "applications", ""); !mine.equal(want) {
			t.Errorf("%v\nwant\n%v", mine, want)
		}
		for _, revision := range []int64{99, 104} { // before it knows, and of another history
			c = other.watch(t, fmt.Sprintf("applications?watch=true&revision=%d", revision))
			events = c.read(t, EventMark)
			if events[0].name != EventResync || len(events) != 2+len(other.has(t, "applications", "")) {
				t.Errorf("from %d: %v", revision, events)
			}
			c.close()
			<-c.done
		}
	})
}

// follower is a client that keeps what it is told.
type follower struct {
	*client
	has     copyOf
	resyncs int
}

// keep reads until the watch ends, with a pause before each piece.
func (f *follower) keep(pause time.Duration) {
	for {
		time.Sleep(pause)
		select {
		case piece := <-f.events:
			for _, e := range parsed(piece) {
				if e.name == EventResync {
					f.resyncs++
				}
				f.has.take(e)
			}
		case <-f.done:
			return
		}
	}
}

// TestManyWatch: a hundred clients, some of which do not read, and some slowly. Those that read have
// everything soon, those that fall behind begin anew, and those that do not read are left.
func TestManyWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := populated()
		r.log = changes.New(256)
		r.log.Begin(101)
		r.serve()
		const path = "tasks?watch=true&fields=id,state"
		var prompt, slow, stalled []*follower
		for i := range 100 {
			f := &follower{client: r.watch(t, path), has: make(copyOf)}
			switch {
			case i%10 < 3:
				stalled = append(stalled, f)
			case i%10 < 5:
				slow = append(slow, f)
				go f.keep(2 * time.Second)
			default:
				prompt = append(prompt, f)
				go f.keep(0)
			}
		}
		synctest.Wait()
		before := memory()
		revision := int64(101)
		for round := range 40 {
			for range 100 {
				id := fmt.Sprint("t", rand.IntN(500))
				revision++
				if rand.IntN(3) == 0 {
					r.change(revision, gone("a", id))
				} else {
					r.change(revision, task("a", id, "n1", ledger.TaskStateBound))
				}
			}
			revision++
			last := fmt.Sprint("last", round)
			r.change(revision, task("b", last, "", ledger.TaskStateNew))
			time.Sleep(2 * pace)
			synctest.Wait()
			for i, f := range prompt {
				if f.has[last] == "" {
					t.Fatalf("round %d: client %d does not know of the last change", round, i)
				}
			}
		}
		if grown := memory() - before; grown > 16<<20 {
			t.Errorf("%d bytes more", grown)
		}
		for i, f := range stalled {
			select {
			case <-f.done:
			default:
				t.Errorf("client %d has read nothing, and is waited for", i)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		want := r.has(t, "tasks", "?fields=id,state")
		for i, f := range append(prompt, slow...) {
			if !f.has.equal(want) {
				t.Errorf("client %d has %d, want %d", i, len(f.has), len(want))
			}
			if behind := i >= len(prompt); behind != (f.resyncs > 0) {
				t.Errorf("client %d began anew %d times", i, f.resyncs)
			}
		}
		close(r.over) // the server stops
		for _, f := range append(prompt, slow...) {
			<-f.done
		}
	})
}

func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestSoManyWatches: one more is asked to come again.
func TestSoManyWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := populated()
		var all []*client
		for range maxWatches {
			c := r.watch(t, "applications?watch=true")
			c.read(t, EventMark)
			all = append(all, c)
		}
		if status, body := r.get(Prefix + "applications?watch=true"); status != 503 {
			t.Errorf("%d %s", status, body)
		}
		for _, c := range all {
			c.close()
			<-c.done
		}
		c := r.watch(t, "applications?watch=true")
		c.read(t, EventMark)
		c.close()
		<-c.done
	})
}
