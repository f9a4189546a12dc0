package verify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/timeline"
	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/e2e/verify/history"
)

const prefix = "/drill"

// drill is a real control plane with everything that observes it, and a
// stand-in for the coordinator, which binds pods in turn and keeps records.
type drill struct {
	t       *testing.T
	lab     *lab.Lab
	kube    kubernetes.Interface
	etcd    *clientv3.Client
	cluster *history.Cluster
	mirror  *history.Etcd
	watcher *timeline.Observer

	mu   sync.Mutex
	next int
}

func startDrill(t *testing.T) *drill {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	opts := lab.Default()
	opts.Dir, opts.Replicas, opts.Nodes, opts.Audit = filepath.Join(t.TempDir(), "lab"), 0, 4, true
	opts.Node.CPU = "10"
	var out bytes.Buffer
	opts.Out = &out
	l, err := lab.Up(t.Context(), opts)
	t.Log("\n" + out.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(false); err != nil {
			t.Error(err)
		}
	})
	log := slog.New(slog.DiscardHandler)
	d := &drill{t: t, lab: l, etcd: l.Etcd()}
	if d.kube, err = load.Client(l.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	if d.cluster, err = history.WatchCluster(t.Context(), d.kube, nil, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.cluster.Close)
	if d.mirror, err = history.WatchEtcd(t.Context(), d.etcd, prefix, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.mirror.Close)
	if d.watcher, err = timeline.Observe(t.Context(), d.kube, d.cluster, d.mirror, "default", "drill", log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.watcher.Close)
	return d
}

func (d *drill) put(records ...verify.KV) {
	d.t.Helper()
	var ops []clientv3.Op
	for _, r := range records {
		ops = append(ops, clientv3.OpPut(prefix+"/"+r.Key, string(r.Value)))
	}
	if _, err := d.etcd.Txn(context.Background()).Then(ops...).Commit(); err != nil {
		d.t.Fatal(err)
	}
}

// takeLease makes holder the holder, with epoch as the count of transitions.
func (d *drill) takeLease(holder string, epoch int32) {
	d.t.Helper()
	leases := d.kube.CoordinationV1().Leases("default")
	lease, err := leases.Get(context.Background(), "drill", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		lease = &coordinationv1.Lease{}
		lease.Name = "drill"
		lease, err = leases.Create(context.Background(), lease, metav1.CreateOptions{})
	}
	if err != nil {
		d.t.Fatal(err)
	}
	lease.Spec.HolderIdentity, lease.Spec.LeaseTransitions = &holder, &epoch
	if _, err := leases.Update(context.Background(), lease, metav1.UpdateOptions{}); err != nil {
		d.t.Fatal(err)
	}
}

func (d *drill) bind(p *history.Pod, node string, epoch uint64) error {
	b := &v1.Binding{Target: v1.ObjectReference{Kind: "Node", Name: node}}
	b.Name, b.UID = p.Name, types.UID(p.UID)
	b.Annotations = map[string]string{history.EpochAnnotation: fmt.Sprint(epoch)}
	return d.kube.CoreV1().Pods(p.Namespace).Bind(context.Background(), b, metav1.CreateOptions{})
}

// lead binds every pod that waits or comes, until the returned function is
// called; that one kills it and waits.
func (d *drill) lead(epoch uint64) (kill func()) {
	d.t.Helper()
	d.takeLease(fmt.Sprint("replica-", epoch), int32(epoch))
	d.put(verify.ClaimRecord(epoch))
	work := make(chan *history.Pod, 10_000)
	stop := d.cluster.Subscribe(func(ev history.PodEvent) {
		if ev.Kind == history.Added && ev.Pod.Scheduler == verify.Scheduler {
			work <- ev.Pod
		}
	})
	bound, waiting := map[string]bool{}, map[string]*history.Pod{}
	for _, ev := range d.cluster.Pods() {
		bound[ev.Pod.UID] = bound[ev.Pod.UID] || ev.Pod.Node != ""
		waiting[ev.Pod.UID] = ev.Pod
	}
	for uid, p := range waiting {
		if !bound[uid] && p.Scheduler == verify.Scheduler {
			work <- p
		}
	}
	dead, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for {
			select {
			case <-dead:
				return
			case p := <-work:
				d.schedule(p, epoch)
			}
		}
	}()
	return func() { close(dead); stop(); <-gone }
}

func (d *drill) schedule(p *history.Pod, epoch uint64) {
	d.mu.Lock()
	d.next++
	node := fmt.Sprintf("node-%04d", d.next%4)
	d.mu.Unlock()
	pod := p.Namespace + "/" + p.Name
	d.put(verify.AppRecord(p.AppID, "Running", epoch),
		verify.TaskRecord(p.AppID, p.UID, pod, "TaskAllocated", node, epoch))
	// A pod may come both from the listing and from the watch.
	if err := d.bind(p, node, epoch); err != nil && !apierrors.IsConflict(err) {
		d.t.Errorf("bind %s: %v", pod, err)
	} else if err == nil {
		d.put(verify.TaskRecord(p.AppID, p.UID, pod, "Bound", node, epoch))
	}
}

// verdict settles the histories and runs all checks.
func (d *drill) verdict(g *load.Generator, before history.Running) verify.Verdict {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
	defer cancel()
	if err := d.cluster.Settle(ctx); err != nil {
		d.t.Fatal(err)
	}
	if err := d.mirror.Settle(ctx); err != nil {
		d.t.Fatal(err)
	}
	audit, err := verify.ReadAuditFile(filepath.Join(d.lab.Dir(), "audit.log"))
	if err != nil {
		d.t.Fatal(err)
	}
	patience, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	agree, err := verify.AwaitRecordsAgree(patience, d.kube, d.etcd, prefix, verify.AgreeOptions{})
	if err != nil {
		d.t.Fatal(err)
	}
	pods, gaps := d.cluster.Pods(), d.cluster.Gaps()
	return verify.NewVerdict(
		verify.BoundOnce(g.Created(), pods, gaps, audit),
		verify.OneEpochBinds(pods, gaps, audit, ""),
		verify.Capacity(d.cluster.Nodes(), pods, gaps),
		verify.Fence(d.mirror.Events(), d.mirror.Gaps(), verify.FenceOptions{}),
		verify.IntentBeforeBind(pods, gaps, d.mirror.Events(), d.mirror.Gaps(), verify.IntentOptions{}),
		agree,
		verify.Untouched(before, pods, gaps, g.Deleted()),
	)
}

// failed names the checks of the verdict that failed.
func failed(v verify.Verdict) string {
	var names []string
	for _, c := range v.Checks {
		if !c.OK {
			names = append(names, c.Name)
		}
	}
	return strings.Join(names, ", ")
}

// The whole way on a real API server and etcd: a failover in the middle of a
// burst is timed and found to be clean; then one violation after the other is
// committed for real, and each is found by the check that is about it.
func TestDrill(t *testing.T) {
	d := startDrill(t)
	cfg := load.Default()
	cfg.Pods, cfg.Apps, cfg.Rate, cfg.CPU, cfg.Timeout = 120, 3, 100, "100m", time.Minute
	cfg.Held = 20
	g, err := load.New(d.kube, d.cluster, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	kill := d.lead(1)
	var result load.Result
	var wg sync.WaitGroup
	wg.Go(func() {
		var err error
		if result, err = g.Run(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if err := g.WaitBound(t.Context(), 40); err != nil {
		t.Fatal(err)
	}
	kill()
	g.Release()
	killed, before := time.Now(), d.cluster.Running()
	if len(before.Pods) == 0 {
		t.Error("no pod runs yet; the check would be empty")
	}
	kill = d.lead(2)
	line, err := d.watcher.Failover(t.Context(), killed, 1)
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	kill()
	brief, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := d.watcher.Failover(brief, killed, 2); !errors.Is(err, timeline.ErrNoSuccessor) {
		t.Errorf("a failover that did not happen: %v", err)
	}
	d.report(line, result)
	d.checkTimeline(line)
	if result.Bound != 120 || result.Latency.N != 120 || result.Gap.Length <= 0 {
		t.Errorf("measured: %+v", result)
	}
	v := d.verdict(g, before)
	var out strings.Builder
	if err := v.Print(&out); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + out.String())
	if !v.OK {
		t.Fatalf("a clean drill was not found to be clean")
	}
	d.violate(g, before)
}

func (d *drill) report(line timeline.Timeline, result load.Result) {
	var out strings.Builder
	if err := line.Print(&out); err != nil {
		d.t.Error(err)
	}
	if err := result.Print(&out); err != nil {
		d.t.Error(err)
	}
	d.t.Log("\n" + out.String())
}

func (d *drill) checkTimeline(line timeline.Timeline) {
	d.t.Helper()
	taken, claimed, first := line.Step(timeline.LeaseTaken), line.Step(timeline.Claimed), line.Step(timeline.FirstBind)
	if taken == nil || claimed == nil || first == nil {
		d.t.Fatalf("the timeline lacks steps: %+v", line.Steps)
	}
	if taken.Epoch != 2 || claimed.Epoch != 2 || first.Epoch != 2 {
		d.t.Errorf("epochs %d, %d, %d; want 2", taken.Epoch, claimed.Epoch, first.Epoch)
	}
	// Each is seen by a watch of its own, so that their order is no one's to keep.
	if taken.Offset <= 0 || claimed.Offset <= 0 || first.Offset <= 0 {
		d.t.Errorf("offsets %v, %v, %v are before the kill", taken.Offset, claimed.Offset, first.Offset)
	}
}

// violate breaks one guarantee after the other. Histories remember, so what
// failed once fails on; each step adds one check to those that fail.
func (d *drill) violate(g *load.Generator, before history.Running) {
	t := d.t
	t.Helper()
	ctx := t.Context()
	step := func(what, want string, commit func() error) {
		t.Helper()
		if err := commit(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := failed(d.verdict(g, before)); got != want {
			t.Errorf("%s: failed checks are %q, want %q", what, got, want)
		}
	}
	victim := before.Pods[0]
	step("a second binding is refused, and nothing is wrong", "", func() error {
		if err := d.bind(victim, "node-0000", 2); !apierrors.IsConflict(err) {
			return fmt.Errorf("answer: %w", err)
		}
		return nil
	})
	record := verify.TaskRecord(victim.AppID, victim.UID, victim.Namespace+"/"+victim.Name, "Bound", "elsewhere", 2)
	step("a record that is wrong", "records agree", func() error { d.put(record); return nil })
	step("a write of the older epoch", "fenced writes, records agree", func() error {
		d.put(verify.AppRecord("zombie", "Completed", 1))
		return nil
	})
	step("a running pod is deleted", "fenced writes, records agree, running pods untouched", func() error {
		return d.kube.CoreV1().Pods(victim.Namespace).Delete(ctx, victim.Name, metav1.DeleteOptions{})
	})
	// The API server assigns any pod to any node: only schedulers count.
	step("a node is overcommitted, by an older epoch",
		"one epoch binds, node capacity, fenced writes, intent before bind, records agree, running pods untouched", func() error {
			big := &v1.Pod{}
			big.Name = "big"
			big.Spec.SchedulerName = verify.Scheduler
			big.Spec.Containers = []v1.Container{{Name: "main", Image: "none"}}
			big.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: *quantity("9500m")}
			made, err := d.kube.CoreV1().Pods("default").Create(ctx, big, metav1.CreateOptions{})
			if err != nil {
				return err
			}
			return d.bind(history.FromPod(made, nil), "node-0000", 1)
		})
}

func quantity(s string) *resource.Quantity {
	q := resource.MustParse(s)
	return &q
}
