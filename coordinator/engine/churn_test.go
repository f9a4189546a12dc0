package engine_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// TestChurn does to the core what a ledger could, gangs left aside, in any order
// and without waiting. The core must survive it, and account for every resource at the end.
func TestChurn(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, func(c *engine.Config) {
		withQueues(strings.Replace(quotaQueues, "name: a", "name: a\n          - name: anchor", 1))(c)
		c.CompleteAfter = 5 * time.Millisecond
	})
	seed, _ := strconv.ParseUint(os.Getenv("CHURN_SEED"), 10, 64) // to try others
	c := &churn{fixture: f, rnd: rand.New(rand.NewPCG(seed, 11)), tasks: map[string]*ledger.Task{}}
	for i := range 4 {
		f.node(fmt.Sprint("n", i))
	}
	// The core forgets a user whose last application ends, while its scheduling
	// loop may be looking the user up. That is not ours to prevent: one
	// application of the user stays.
	f.node("anchor", func(n *v1.Node) { n.Spec.Taints = []v1.Taint{{Key: "anchor", Effect: v1.TaintEffectNoSchedule}} })
	f.engage()
	anchor := newApp("anchor", "root.anchor")
	f.submit(anchor)
	f.do(ledger.Ask{App: anchor, Task: newTask(anchor, f.pod("anchor-pod", "1", func(p *v1.Pod) {
		p.Spec.Tolerations = []v1.Toleration{{Operator: v1.TolerationOpExists}}
		p.Spec.NodeSelector = map[string]string{v1.LabelHostname: "anchor"}
	}))})
	f.allocated("anchor-pod")
	for range 4000 {
		c.step()
	}
	for id := range c.tasks {
		c.release(id)
	}
	for i := range churnNodes {
		f.node(fmt.Sprint("n", i))
	}
	f.sync()
	f.until("everything is given back", func() bool {
		return len(f.engine.QueueUsage()["root.a"]) == 0
	})
	last := newApp("last", "root.a")
	f.submit(last)
	f.do(ledger.Ask{App: last, Task: newTask(last, f.pod("last-pod", "1"))})
	f.allocated("last-pod")
}

const (
	churnApps  = 5
	churnNodes = 6
)

type churn struct {
	*fixture
	rnd   *rand.Rand
	n     int
	tasks map[string]*ledger.Task
}

func (c *churn) app() *ledger.App {
	return newApp(fmt.Sprint("app-", c.rnd.IntN(churnApps)), "root.a")
}

func (c *churn) task(app *ledger.App, node string) *ledger.Task {
	c.n++
	id := fmt.Sprintf("t-%d", c.n)
	p := newPod(id, "500m")
	p.Spec.NodeName = node
	c.preds.SetPod(p)
	task := newTask(app, p)
	c.tasks[id] = task
	return task
}

func (c *churn) release(id string) {
	task := c.tasks[id]
	delete(c.tasks, id)
	c.preds.RemovePod(id)
	c.do(ledger.Release{Task: task, Termination: ledger.StoppedByRM})
}

func (c *churn) step() {
	app := c.app()
	node := fmt.Sprint("n", c.rnd.IntN(churnNodes))
	switch c.rnd.IntN(20) {
	case 0:
		c.do(ledger.SubmitApp{App: app, Recovery: c.rnd.IntN(2) == 0})
	case 1:
		for id, task := range c.tasks {
			if task.AppID == app.ID {
				c.release(id)
			}
		}
		c.do(ledger.ForgetApp{AppID: app.ID})
	case 2, 3, 4, 5, 6, 7, 8:
		c.do(ledger.Ask{App: app, Task: c.task(app, "")})
	case 9, 10:
		c.do(ledger.Restore{App: app, Task: c.task(app, node)})
	case 11:
		c.ok(c.engine.RemoveNode(node))
		c.preds.RemoveNode(node)
	case 12, 13:
		c.node(node)
	case 14:
		time.Sleep(time.Duration(c.rnd.IntN(8)) * time.Millisecond)
	default:
		for id := range c.tasks {
			c.release(id)
			break
		}
	}
}
