package engine_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// Whatever contradicting records one application was fed from: the mismatch is
// of that application, which a held engine drops, takes anew and runs, and all
// others are as they were.
func TestDropAndFeedAnew(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	f.node("n2")
	good, bad := newApp("good", "root.a"), newApp("bad", "root.a")
	f.do(ledger.SubmitApp{App: good, Recovery: true})
	fine := newTask(good, f.pod("fine", "1", on("n1")))
	f.do(ledger.Restore{App: good, Task: fine})
	wrong := func(id string, change func(*ledger.Task)) *ledger.Task {
		task := newTask(bad, f.pod(id, "1", on("n1")))
		task.Resources = maps.Clone(task.Resources)
		change(task)
		return task
	}
	for i, task := range []*ledger.Task{
		wrong("negative", func(t *ledger.Task) { t.Resources["vcore"] = -1000 }),
		wrong("huge", func(t *ledger.Task) { t.Resources["memory"] = 1<<63 - 1 }),
		wrong("nothing", func(t *ledger.Task) { t.Resources = nil }),
		wrong("nowhere", func(t *ledger.Task) { t.Node = "no such node" }),
		wrong("fine", func(*ledger.Task) {}), // which is another application's
		wrong("elsewhere", func(t *ledger.Task) { t.Node = "n2" }),
	} {
		// What bad really has, which it is fed first, and has again at the end.
		truly := newTask(bad, f.pod(fmt.Sprint("real", i), "1", on("n2")))
		f.do(ledger.SubmitApp{App: bad, Recovery: true}, ledger.Restore{App: bad, Task: truly}, ledger.Restore{App: bad, Task: task})
		f.ok(ignore(f.engine.Compare(t.Context(), usage(fine, truly))))
		f.ok(f.engine.Drop(t.Context(), bad.ID))
		f.do(ledger.Restore{App: good, Task: fine}) // that of one task in both is given back
		if err := f.differ(fine); err != nil {
			t.Fatalf("%s: after the drop: %v", task.ID, err)
		}
		f.do(ledger.SubmitApp{App: bad, Recovery: true}, ledger.Restore{App: bad, Task: truly})
		if err := f.differ(fine, truly); err != nil {
			t.Fatalf("%s: fed anew: %v", task.ID, err)
		}
		f.ok(f.engine.Drop(t.Context(), bad.ID))
		f.preds.RemovePod(truly.ID)
		if task.ID != fine.ID {
			f.preds.RemovePod(task.ID)
		}
	}
	f.ok(f.engine.Drop(t.Context(), "never heard of"))
	f.do(ledger.SubmitApp{App: bad, Recovery: true})
	if n := f.total(); n != 0 {
		t.Errorf("a held engine said something: %s", show(f.events))
	}
	f.engage()
	more := newTask(bad, f.pod("more", "1"))
	f.do(ledger.Ask{App: bad, Task: more})
	more.Node = f.allocated("more")
	f.ok(f.differ(fine, more))
	if n := count(f, func(ledger.AppEnded) bool { return true }); n != 0 {
		t.Errorf("the drop was told as an end: %s", show(f.events))
	}
}

func ignore(_ []engine.Mismatch, err error) error { return err }

// A pod that two applications claim is in the core once, for the one that was
// fed last; what the other takes back of it is not taken from that one.
func TestTaskOfTwoApplications(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	a, b := newApp("a", "root.a"), newApp("b", "root.small")
	pod := f.pod("both", "1", on("n1"))
	ofA, ofB := newTask(a, pod), newTask(b, pod)
	f.do(ledger.SubmitApp{App: a, Recovery: true}, ledger.SubmitApp{App: b, Recovery: true},
		ledger.Restore{App: a, Task: ofA}, ledger.Restore{App: b, Task: ofB})
	f.ok(f.differ(ofB))
	if err := f.differ(ofA, ofB); err == nil {
		t.Error("in both")
	}
	f.do(ledger.Release{Task: ofA, Termination: ledger.StoppedByRM})
	f.ok(f.differ(ofB))
	f.ok(f.engine.Drop(t.Context(), a.ID))
	f.ok(f.differ(ofB))
}
