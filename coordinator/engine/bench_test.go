package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
	"github.com/understudy-ha/understudy/coordinator/explain"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// bench is one engine for all benchmarks: there can be no second one.
type bench struct {
	engine *engine.Engine
	preds  *predicates.Cache
	apps   []*ledger.App

	mu    sync.Mutex
	left  int
	done  chan struct{}
	times map[string]time.Time
	took  []time.Duration
	round int
}

// benchApps is over how many applications the larger benchmarks spread pods.
const benchApps = 50

var benchOnce = sync.OnceValues(newBench)

func newBench() (*bench, error) {
	log := slog.New(slog.DiscardHandler)
	preds, err := predicates.New(log)
	if err != nil {
		return nil, err
	}
	b := &bench{preds: preds, times: map[string]time.Time{}}
	cfg := engine.Default()
	cfg.ConfigYAML = map[string]string{"queues.yaml": quotaQueues}
	accepted := make(chan struct{}, benchApps)
	b.engine, err = engine.Start(cfg, preds, func(e ledger.Event) {
		switch x := e.(type) {
		case ledger.AppAccepted:
			accepted <- struct{}{}
		case ledger.Allocated:
			b.allocated(x.TaskID)
		}
	}, log)
	if err != nil {
		return nil, err
	}
	for i := range 200 {
		n := newNode(fmt.Sprintf("node-%03d", i), "64", "256Gi")
		n.Status.Allocatable[v1.ResourcePods] = resource.MustParse("250")
		preds.SetNode(n)
		if err := b.engine.SetNode(n); err != nil {
			return nil, err
		}
	}
	if err := b.engine.Engage(context.Background()); err != nil {
		return nil, err
	}
	for i := range benchApps {
		app := newApp(fmt.Sprint("bench-", i), "root.a")
		b.apps = append(b.apps, app)
		if err := b.engine.Do(ledger.SubmitApp{App: app}); err != nil {
			return nil, err
		}
		<-accepted
	}
	return b, nil
}

func (b *bench) allocated(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at, ok := b.times[id]; ok {
		b.took = append(b.took, time.Since(at))
	}
	if b.left--; b.left == 0 {
		close(b.done)
	}
}

type benchTask struct {
	app  *ledger.App
	task *ledger.Task
}

func (b *bench) pods(n, apps int, edit func(*v1.Pod)) []benchTask {
	b.round++
	tasks := make([]benchTask, n)
	for i := range tasks {
		p := newPod(fmt.Sprintf("p-%d-%d", b.round, i), "10m")
		if edit != nil {
			edit(p)
		}
		b.preds.SetPod(p)
		app := b.apps[i%apps]
		tasks[i] = benchTask{app, newTask(app, p)}
	}
	b.mu.Lock()
	b.left, b.done, b.took = n, make(chan struct{}), nil
	b.mu.Unlock()
	return tasks
}

func (b *bench) clear(tb testing.TB, tasks []benchTask) {
	for _, t := range tasks {
		b.preds.RemovePod(t.task.ID)
		if err := b.engine.Do(ledger.Release{Task: t.task, Termination: ledger.StoppedByRM}); err != nil {
			tb.Fatal(err)
		}
	}
	if err := b.engine.Sync(context.Background()); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkBurst asks for b.N pods at once, on 200 nodes. Run it with
// -benchtime=10000x.
func BenchmarkBurst(b *testing.B) {
	for _, kind := range []struct {
		name string
		apps int
		edit func(*v1.Pod)
	}{{"oneApp", 1, nil}, {"manyApps", benchApps, nil}, {"spread", benchApps, spreadOut}} {
		b.Run(kind.name, func(b *testing.B) {
			x, err := benchOnce()
			if err != nil {
				b.Fatal(err)
			}
			tasks := x.pods(b.N, kind.apps, kind.edit)
			b.ReportAllocs()
			b.ResetTimer()
			cpu := cpuTime()
			for _, t := range tasks {
				if err := x.engine.Do(ledger.Ask{App: t.app, Task: t.task}); err != nil {
					b.Fatal(err)
				}
			}
			<-x.done
			b.StopTimer()
			b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/pod")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
			x.clear(b, tasks)
		})
	}
}

// spreadOut spreads pods over hostnames, which makes every pod count.
func spreadOut(p *v1.Pod) {
	p.Labels["spread"] = "yes"
	p.Spec.TopologySpreadConstraints = []v1.TopologySpreadConstraint{{
		MaxSkew: 5, TopologyKey: v1.LabelHostname, WhenUnsatisfiable: v1.DoNotSchedule,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"spread": "yes"}},
	}}
}

// BenchmarkLatency asks for one pod at a time and reports how long the answer
// takes.
func BenchmarkLatency(b *testing.B) {
	x, err := benchOnce()
	if err != nil {
		b.Fatal(err)
	}
	tasks := x.pods(b.N, benchApps, nil)
	for _, t := range tasks {
		x.mu.Lock()
		x.left, x.done = 1, make(chan struct{})
		x.times[t.task.ID] = time.Now()
		done := x.done
		x.mu.Unlock()
		if err := x.engine.Do(ledger.Ask{App: t.app, Task: t.task}); err != nil {
			b.Fatal(err)
		}
		<-done
	}
	x.mu.Lock()
	took := slices.Clone(x.took)
	x.mu.Unlock()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	x.clear(b, tasks)
}

// cpuTime is what the process has used: the figure that other processes on the
// machine do not disturb.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkExplainWaiting explains 10,000 pods of 50 applications that wait, of 100 shapes, on 500
// nodes: what one question about the queue root takes, but for its JSON. They are beyond a quota,
// so that the core does not try them on the nodes all the time; what nodes have against them is
// found out all the same.
func BenchmarkExplainWaiting(b *testing.B) {
	f, err := benchOnce()
	if err != nil {
		b.Fatal(err)
	}
	for i := range 300 {
		n := newNode(fmt.Sprintf("more-%03d", i), "64", "256Gi")
		f.preds.SetNode(n)
		if err := f.engine.SetNode(n); err != nil {
			b.Fatal(err)
		}
	}
	apps := make([]*ledger.App, benchApps)
	for i := range apps {
		apps[i] = newApp(fmt.Sprint("waits-", i), "root.small")
		if err := f.engine.Do(ledger.SubmitApp{App: apps[i]}); err != nil {
			b.Fatal(err)
		}
	}
	i := 0
	tasks := f.pods(10_000, benchApps, func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Requests[v1.ResourceCPU] = resource.MustParse(fmt.Sprint(100 + i%100))
		i++
	})
	for i := range tasks {
		app, pod := apps[i%benchApps], f.preds.Pod(tasks[i].task.ID)
		tasks[i] = benchTask{app, newTask(app, pod)}
		if err := f.engine.Do(ledger.Ask{App: app, Task: tasks[i].task}); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.engine.Sync(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for b.Loop() {
		core := f.engine.Explaining()
		for _, t := range tasks {
			x := explain.Explain(explain.Facts{
				Now: time.Now(), SchedulerName: "yunikorn", Pod: f.preds.Pod(t.task.ID), Task: t.task, App: t.app, Core: core(t.app.ID, t.task.ID),
			})
			if x.Nodes == nil || x.Nodes.Total != 500 {
				b.Fatalf("%+v", x)
			}
		}
	}
	b.StopTimer()
	f.clear(b, tasks)
}
