package v1

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// core is what no record tells of: nodes, that a test changes. Who uses them holds the replica's
// turn.
type core struct {
	*replica
	nodes map[string]Node
	// looks counts how often all were looked at, which takes so long.
	looks   int
	takes   time.Duration
	lookout *lookout[Node]
}

// ofCore serves a list of nodes.
func ofCore() *core {
	c := &core{replica: populated(), nodes: make(map[string]Node)}
	for _, name := range []string{"n1", "n2", "n3"} {
		c.has(name, 1)
	}
	k := nodes()
	k.name = "looked"
	k.walk = func(_ context.Context, a *API, after string, yield func([]Node) error) error {
		if !c.leads.Load() {
			return errNoCore
		}
		var all []Node
		c.alone(func() {
			c.looks++
			time.Sleep(c.takes)
			for _, name := range slices.Sorted(maps.Keys(c.nodes)) {
				if name > after {
					all = append(all, c.nodes[name])
				}
			}
		})
		return yield(all)
	}
	c.lookout, _ = k.followed.(*lookout[Node])
	c.handle(k.endpoints(c.api))
	return c
}

func (c *core) alone(do func()) {
	c.turn <- struct{}{}
	do()
	<-c.turn
}

func (c *core) has(name string, tasks int) {
	c.alone(func() {
		c.nodes[name] = Node{Name: name, Schedulable: true, Tasks: tasks, Capacity: Resources{"cpu": "4"}}
	})
}

// ends closes a watch and waits until it has ended.
func (c *client) ends() {
	c.close()
	<-c.done
}

// first is the first number of the epoch of the tests.
const first = 7 * lookEpoch

// TestWatchOfWhatNoRecordTells: all that there is, and then what has changed, each once a second.
func TestWatchOfWhatNoRecordTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ofCore()
		c := r.watch(t, "looked?watch=true&fields=name,tasks")
		got := fmt.Sprint(c.read(t, EventMark))
		if want := fmt.Sprintf(`[{put  {"name":"n1","tasks":1}} {put  {"name":"n2","tasks":1}} {put  {"name":"n3","tasks":1}} `+
			`{mark %d {"revision":%[1]d,"epoch":7}}]`, first); got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
		some := r.watch(t, "looked?watch=true&fields=name&name=n1,n4")
		some.read(t, EventMark)
		for tasks := range 5 { // of which the last counts
			time.Sleep(lookEvery / 10)
			r.has("n1", tasks)
		}
		r.alone(func() { delete(r.nodes, "n2") })
		r.has("n4", 0)
		begun := time.Now()
		mine := []received{}
		for len(mine) < 3 {
			mine = append(mine, parsed(<-c.events)...)
		}
		if took := time.Since(begun); took > lookEvery+pace {
			t.Errorf("told after %s", took)
		}
		// In which order is nobody's concern.
		if mine[len(mine)-1].id != strconv.Itoa(first+1) {
			t.Errorf("%v", mine)
		}
		slices.SortFunc(mine, func(a, b received) int { return slices.Compare([]string{a.name, a.data}, []string{b.name, b.data}) })
		for i := range mine {
			mine[i].id = ""
		}
		if got, want := fmt.Sprint(mine), `[{delete  {"id":"n2"}} {put  {"name":"n1","tasks":4}} {put  {"name":"n4","tasks":0}}]`; got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
		var others []received
		for len(others) < 2 {
			others = append(others, parsed(<-some.events)...)
		}
		for _, e := range others {
			if e.name != EventPut {
				t.Errorf("told of another: %v", others)
			}
		}
		if got := fmt.Sprint(c.read(t, EventMark)); got != fmt.Sprintf(`[{mark %d {"revision":%[1]d,"epoch":7}}]`, first+1) {
			t.Error(got)
		}
		some.ends()
		r.leads.Store(false)
		select {
		case piece := <-c.events:
			t.Errorf("told by who leads no more: %s", piece)
		case <-c.done:
		}
		if status, body := r.get(Prefix + "looked?watch=true"); status != 503 {
			t.Errorf("%d %s", status, body)
		}
	})
}

// TestWhatWasNeverSeenIsNotTold: a client that begins between two looks has what the last one saw. Else
// it would keep for ever what was over by the next.
func TestWhatWasNeverSeenIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ofCore()
		first := r.watch(t, "looked?watch=true&fields=name,tasks&name=n1")
		first.read(t, EventMark)
		r.has("n1", 99)
		second := r.watch(t, "looked?watch=true&fields=name,tasks&name=n1")
		told := second.read(t, EventMark)
		r.has("n1", 1)
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		if got := fmt.Sprint(told[0]); got != `{put  {"name":"n1","tasks":1}}` {
			t.Errorf("%s, and it is 1 again", got)
		}
		first.ends()
		second.ends()
	})
}

// TestLooksAreForAll: however many watch, and none while nobody does; and what takes long is done
// less often.
func TestLooksAreForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ofCore()
		looks := func(d time.Duration) int {
			counted := func() (n int) {
				synctest.Wait()
				r.alone(func() { n = r.looks })
				return n
			}
			before := counted()
			time.Sleep(d)
			return counted() - before
		}
		remembers := func() bool {
			r.lookout.turn <- struct{}{}
			defer r.lookout.give()
			return r.lookout.items != nil
		}
		var all []*client
		for range 50 {
			c := r.watch(t, "looked?watch=true")
			c.read(t, EventMark)
			go func() {
				for {
					select {
					case <-c.events:
					case <-c.done:
						return
					}
				}
			}()
			all = append(all, c)
		}
		if n := looks(10 * time.Second); n < 9 || n > 11 {
			t.Errorf("%d looks in 10 s", n)
		}
		r.alone(func() { r.takes = time.Second })
		time.Sleep(lookEvery)
		if n := looks(100 * time.Second); n < 9 || n > 11 {
			t.Errorf("%d looks in 100 s, of a second each", n)
		}
		for _, c := range all {
			c.ends()
		}
		if n := looks(lookMemory - time.Second); n != 0 || !remembers() {
			t.Errorf("%d looks while nobody watched, and what was seen is remembered: %t", n, remembers())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if remembers() {
			t.Error("what was seen is remembered for ever")
		}
	})
}

// TestLookoutGoesOn: a client goes on where it was if this lead has seen all since, and begins anew
// otherwise.
func TestLookoutGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ofCore()
		// told are the names of the events that a client is told which has come to a number, and
		// where it is then.
		told := func(from string) (names []string, at string) {
			c := r.watch(t, "looked?watch=true", "Last-Event-ID", from)
			defer c.ends()
			events := c.read(t, EventMark)
			for _, e := range events {
				names = append(names, e.name)
			}
			return names, events[len(events)-1].id
		}
		same := func(what string, got []string, want ...string) {
			t.Helper()
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		anew := []string{EventResync, EventPut, EventPut, EventPut, EventMark}
		names, at := told("")
		same("the first time", names, anew[1:]...)
		r.has("n1", 2)
		time.Sleep(lookMemory - time.Second)
		names, at = told(at)
		same("before it is forgotten", names, EventPut, EventMark)
		if at != strconv.Itoa(first+1) {
			t.Errorf("at %s", at)
		}
		before := at
		time.Sleep(lookMemory - time.Second) // since it was watched again
		names, at = told(at)
		same("when nothing has changed", names, EventMark)
		r.has("n1", 3)
		time.Sleep(lookMemory + lookEvery)
		names, at = told(at)
		same("when it is forgotten", names, anew...)
		if at <= before {
			t.Errorf("%s comes after %s", at, before)
		}
		for what, from := range map[string]string{
			"of a lead before": strconv.Itoa(6*lookEpoch + 5), "of etcd": "101", "of a lead to come": strconv.Itoa(8 * lookEpoch),
			"before it was forgotten": before,
		} {
			names, _ = told(from)
			same(what, names, anew...)
		}
	})
}
