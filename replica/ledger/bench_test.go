package ledger

import (
	"fmt"
	"testing"
)

const benchTasks = 50_000

// benchLedger holds benchTasks tasks in so many applications, all asked for.
func benchLedger(b *testing.B, apps int) (*Ledger, []Key) {
	b.Helper()
	l := New()
	keys := make([]Key, 0, benchTasks)
	for i := range apps {
		id := fmt.Sprintf("app-%05d", i)
		l.Step(AddApp{Stamp: at(1), ID: id, Queue: "root.default", Submitted: Time(i)})
		l.Step(AppAccepted{Stamp: at(2), AppID: id, PlacedQueue: "root.default"})
	}
	for i := range benchTasks {
		app := fmt.Sprintf("app-%05d", i%apps)
		key := Key{app, fmt.Sprintf("%08x-0000-4000-8000-%012x", i, i)}
		l.Step(AddTask{
			Stamp: at(3), AppID: key.AppID, ID: key.TaskID, Namespace: "default", Name: fmt.Sprintf("pod-%d", i),
			Resources: map[string]int64{"vcore": 1000, "memory": 1 << 30}, Submitted: Time(i),
		})
		keys = append(keys, key)
	}
	return l, keys
}

// BenchmarkStep takes pods through their lives among many: one operation is the
// allocation, bind, end and removal of a pod and the arrival of the next, five steps.
func BenchmarkStep(b *testing.B) {
	for _, apps := range []int{1, 1000} {
		b.Run(fmt.Sprintf("%d apps", apps), func(b *testing.B) {
			l, keys := benchLedger(b, apps)
			resources := map[string]int64{"vcore": 1000}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				k := keys[i%len(keys)]
				i++
				l.Step(Allocated{Stamp: at(4), AppID: k.AppID, TaskID: k.TaskID, Node: "node-1"})
				l.Step(BindDone{Stamp: at(5), AppID: k.AppID, TaskID: k.TaskID, Node: "node-1"})
				l.Step(CompleteTask{Stamp: at(6), AppID: k.AppID, TaskID: k.TaskID})
				l.Step(RemoveTask{Stamp: at(7), AppID: k.AppID, TaskID: k.TaskID})
				d := l.Step(AddTask{Stamp: at(8), AppID: k.AppID, ID: k.TaskID, Name: "pod", Resources: resources, Submitted: Time(i)})
				if _, asks := d.Effects[0].(Ask); !asks {
					b.Fatalf("%+v", d)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/5, "ns/step")
		})
	}
}

// BenchmarkTakeOver is what a successor does with the ledger of a large cluster.
func BenchmarkTakeOver(b *testing.B) {
	l, _ := benchLedger(b, 1000)
	b.Run("Due", func(b *testing.B) {
		for b.Loop() {
			if due := l.Due(9); len(due) != benchTasks {
				b.Fatalf("due: %d", len(due))
			}
		}
	})
	b.Run("Clone", func(b *testing.B) {
		for b.Loop() {
			l.Clone()
		}
	})
	b.Run("Feed", func(b *testing.B) {
		for b.Loop() {
			l.Feed()
		}
	})
}
