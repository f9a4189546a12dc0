package coordinator_test

import (
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/understudy-ha/understudy/replica/etcdtest"
)

// How many histories there are. `make histories` has more.
var (
	histories = flag.Int("histories.n", 12, "how many histories of a cluster are played")
	lanes     = flag.Int("histories.lanes", 3, "how many of them at a time")
	patience  = flag.Duration("histories.patience", time.Minute, "for how long what is wrong may stay so while nothing happens")
)

// TestHistories has anything happen at any time to a cluster with two replicas, while they
// are killed. The oracle looks at what has become of the cluster.
func TestHistories(t *testing.T) {
	checks := *histories
	if withRaceDetector {
		checks = min(checks, *lanes)
	}
	// Rapid draws and shrinks; a lane has its part of the histories.
	if err := flag.Set("rapid.checks", strconv.Itoa((checks+*lanes-1) / *lanes)); err != nil {
		t.Fatal(err)
	}
	etcd := etcdtest.Start(t)
	var played atomic.Int64
	for lane := range *lanes {
		t.Run(fmt.Sprint(lane), func(t *testing.T) {
			t.Parallel()
			failed := 1
			rapid.Check(t, func(rt *rapid.T) {
				history := historyOf(rt)
				// One that has failed is played again: what goes wrong depends on who is first.
				for range failed {
					if wrong := play(t, etcd.Addr, fmt.Sprint("/", played.Add(1)), history); wrong != "" {
						failed = 3
						rt.Fatal(wrong)
					}
				}
			})
		})
	}
}

// play plays a history and returns what is wrong, in a few words.
func play(t *testing.T, etcd, prefix string, history []step) string {
	c := newCluster(t, etcd, prefix)
	defer c.close()
	began := time.Now()
	c.begin()
	wrong := c.settle()
	for i, s := range history {
		if wrong != "" {
			break
		}
		c.note(fact{said: fmt.Sprintf("step %d: %+v", i, s)})
		happenings[s.Do](c, s)
		time.Sleep(time.Duration(s.Pause) * time.Millisecond)
	}
	if wrong == "" {
		wrong = c.settle()
	}
	if p := c.leads(); p != nil && wrong == "" {
		c.note(fact{said: "the last failover"})
		p.kill()
		<-p.over
		wrong = c.settle()
	}
	c.mu.Lock()
	facts, started, replicas := slices.Clone(c.facts), c.started, slices.Clone(c.replicas)
	c.mu.Unlock()
	if faults := judge(facts).faults; len(faults) > 0 {
		wrong = strings.Join(faults, "\n")
	}
	t.Logf("history %s: %d steps, %d facts, %d replicas, %.1f s", prefix, len(history), len(facts), started, time.Since(began).Seconds())
	if wrong == "" {
		return ""
	}
	var told strings.Builder
	for _, f := range facts {
		fmt.Fprintf(&told, "%7.3f %s\n", f.at.Sub(began).Seconds(), f)
	}
	for _, p := range replicas {
		fmt.Fprintf(&told, "replica %s said:\n%s\n", p.name, p.said())
	}
	t.Logf("%s\nhistory %s\n%s", wrong, stepsOf(history), told.String())
	what, _, _ := strings.Cut(wrong, ":")
	return what
}

// settle waits until everything is as it should be, and returns what stays wrong.
func (c *cluster) settle() string {
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		wrong := c.wrong()
		if wrong == "" {
			return ""
		}
		c.mu.Lock()
		noted, crashed := c.noted, strings.Join(c.crashed, "\n")
		c.mu.Unlock()
		if crashed != "" {
			return "a replica ends by itself: " + crashed
		}
		if lasts := time.Since(began); min(lasts, time.Since(noted)) > *patience || lasts > 3**patience {
			return wrong
		}
	}
}

// wrong returns what is not yet as it should be in the end.
func (c *cluster) wrong() string {
	p := c.leading()
	if p == nil {
		return "nobody leads: "
	}
	c.mu.Lock()
	o := judge(c.facts)
	c.mu.Unlock()
	if len(o.faults) > 0 {
		return "" // it is told in the end
	}
	if left := o.unfinished(); len(left) > 0 {
		return strings.Join(left, "\n")
	}
	counted, err := p.usage()
	if err != nil {
		return "the lead does not answer: " + err.Error()
	}
	for path := range o.queues {
		if counted[path] != o.usedBy(path) {
			return fmt.Sprintf("the engine counts otherwise: %s has %d, and %d are counted", path, o.usedBy(path), counted[path])
		}
	}
	return ""
}

// TestTheOracleKnowsNothingOfTheCoordinator: it may import nothing of it.
func TestTheOracleKnowsNothingOfTheCoordinator(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "history_oracle_test.go", nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range file.Imports {
		if path, err := strconv.Unquote(spec.Path.Value); err != nil || strings.Contains(path, "understudy") || strings.Contains(path, "yunikorn") {
			t.Errorf("it imports %s (%v)", path, err)
		}
	}
}
