package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// yunikornLeaves is what YuniKorn leaves when it is stopped.
const yunikornLeaves = "../../coordinator/migrate/testdata/"

// migration is a cluster that is switched over. It has no garbage collector and no YuniKorn:
// what that left is loaded, and what it would find is judged.
type migration struct {
	*lab.Lab
	t       *testing.T
	ctx     context.Context
	state   *lab.State
	cluster *history.Cluster
	// made are the pods as they were created, by name.
	made map[string]*v1.Pod
}

// TestMigration switches over from YuniKorn while gangs run, reserve and wait, then back,
// then over again. No running pod is touched, none is bound twice, queues have what their
// pods take, placeholders are taken over, and what is left YuniKorn reads as its own.
func TestMigration(t *testing.T) {
	m := beginMigration(t)
	m.load()
	m.settle()
	before := m.cluster.Running()
	usage := m.used()

	m.startReplicas()
	m.await("what runs counts", func() error { return m.queuesSay(usage, "root.batch.etl") })
	m.await("the gangs", func() error {
		return anyOf(
			m.bound("train-reserve", 3), m.placeholders("train-reserve", 0),
			m.bound("train-wait", 2), m.placeholders("train-wait", 0),
			m.bound("train-run", 2), m.placeholders("train-run", 1),
			m.placeholders("train-gone", 0), m.bound("etl", 2),
		)
	})
	m.await("queues that have what their pods take", func() error { return m.queuesSay(m.used(), "root.batch.etl", "root.batch.train") })
	if made := m.placeholderNames("train-reserve"); len(made) != 3 {
		t.Errorf("train-reserve had 3 placeholders, and has had %q", made)
	}

	// A gang of which one member fits and the other does not, and a member of one that runs: it
	// may be in the middle of its swap when the replicas end.
	m.gang("later", "root.batch.train", 2, "3")
	m.await("a gang that reserves", func() error {
		return anyOf(m.bound("later", 0), m.placeholders("later", 2), m.placeholdersBound("later", 1))
	})
	m.member("train-run", 2)
	m.stopReplicas()
	m.settle()
	m.judge("back", before)
	usage = m.used()
	m.do(m.WipeEtcd(m.ctx)) // as after YuniKorn has scheduled again, records are worth nothing
	again := m.cluster.Running()

	m.startReplicas()
	m.await("queues that have what their pods take, again", func() error { return m.queuesSay(m.used(), "root.batch.etl", "root.batch.train") })
	m.await("the member that came last", func() error { return anyOf(m.bound("train-run", 3), m.placeholders("train-run", 0)) })
	m.await("the gang that reserves", func() error {
		return anyOf(m.bound("later", 0), m.placeholders("later", 2), m.placeholdersBound("later", 1))
	})
	if made := m.placeholderNames("later"); len(made) != 2 {
		t.Errorf("later has 2 placeholders, and has had %q", made)
	}
	m.judge("over again", again)
	if usage["root.batch.etl"][v1.ResourceCPU] != m.used()["root.batch.etl"][v1.ResourceCPU] {
		t.Errorf("root.batch.etl had %v and has %v", usage["root.batch.etl"], m.used()["root.batch.etl"])
	}
}

func beginMigration(t *testing.T) *migration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	objects, err := lab.ReadManifests(yunikornLeaves + "system.yaml")
	if err != nil {
		t.Fatal(err)
	}
	queues := ""
	for _, o := range objects {
		if data, ok := o.Object["data"].(map[string]any); ok && data["queues.yaml"] != nil {
			queues = data["queues.yaml"].(string)
		}
	}
	m := &migration{t: t, ctx: ctx, made: make(map[string]*v1.Pod)}
	m.Lab = up(t, func(o *lab.Options) {
		o.Replicas, o.Nodes, o.Node, o.Queues = 2, 2, lab.NodeSize{CPU: "8", Memory: "16Gi", Pods: "100"}, queues
		o.Managers = []any{map[string]any{"name": "application"}, map[string]any{"name": "general"}}
	})
	m.state, err = m.State()
	m.do(err)
	// Nobody schedules, and nobody has: YuniKorn is about to have been there.
	m.stopReplicas()
	m.do(m.WipeEtcd(ctx))
	m.cluster, err = history.WatchCluster(ctx, m.Client(), history.NewStore(m.KubernetesEtcd()), logger(t))
	m.do(err)
	t.Cleanup(m.cluster.Close)
	return m
}

func (m *migration) do(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *migration) stopReplicas() {
	m.t.Helper()
	var all errgroup.Group
	for _, name := range m.state.Replicas() {
		all.Go(func() error { return m.Stop(name) })
	}
	m.do(all.Wait())
}

func (m *migration) startReplicas() {
	m.t.Helper()
	for _, name := range m.state.Replicas() {
		m.do(m.Start(name))
	}
	_, err := m.WaitLeader(m.ctx)
	m.do(err)
	m.do(m.WaitReady(m.ctx))
}

// load makes what YuniKorn has left: objects, pods, and the nodes that it gave them.
func (m *migration) load() {
	m.t.Helper()
	list, err := lab.ReadManifests(yunikornLeaves + "workloads.yaml")
	m.do(err)
	objects, err := m.Objects()
	m.do(err)
	uids := make(map[types.UID]types.UID)
	for _, o := range list {
		if o.GetKind() != "Pod" {
			m.do(objects.Apply(m.ctx, o))
			continue
		}
		pod := &v1.Pod{}
		m.do(runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, pod))
		recorded := pod.UID
		for i, owner := range pod.OwnerReferences {
			if uid, known := uids[owner.UID]; known {
				pod.OwnerReferences[i].UID = uid
			}
		}
		uids[recorded] = m.create(pod).UID
	}
}

// create creates a pod with the status and the node that it has.
func (m *migration) create(pod *v1.Pod) *v1.Pod {
	m.t.Helper()
	node, status := pod.Spec.NodeName, pod.Status
	pod.UID, pod.Spec.NodeName, pod.Status = "", "", v1.PodStatus{}
	pods := m.Client().CoreV1().Pods(pod.Namespace)
	made, err := pods.Create(m.ctx, pod, metav1.CreateOptions{})
	m.do(err)
	m.made[made.Name] = made.DeepCopy()
	if node != "" {
		m.do(pods.Bind(m.ctx, &v1.Binding{ObjectMeta: metav1.ObjectMeta{Name: made.Name, UID: made.UID}, Target: v1.ObjectReference{Kind: "Node", Name: node}}, metav1.CreateOptions{}))
	} else if len(status.Conditions) > 0 {
		made.Status.Conditions = status.Conditions
		_, err := pods.UpdateStatus(m.ctx, made, metav1.UpdateOptions{})
		m.do(err)
	}
	return made
}

// gang creates the pods of a gang whose members take so many CPUs.
func (m *migration) gang(app, queue string, members int, cpu string) {
	m.t.Helper()
	like := m.made["train-wait-0"]
	for i := range members {
		pod := like.DeepCopy()
		pod.ObjectMeta = metav1.ObjectMeta{
			Namespace: like.Namespace, Name: fmt.Sprintf("%s-%d", app, i), Labels: maps.Clone(like.Labels), Annotations: maps.Clone(like.Annotations),
		}
		pod.Labels[appLabel], pod.Labels[oldAppLabel] = app, app
		pod.Annotations[taskGroups] = fmt.Sprintf(`[{"name":"workers","minMember":%d,"minResource":{"cpu":%q,"memory":"64Mi"}}]`, members, cpu)
		pod.Spec.Containers[0].Resources.Requests[v1.ResourceCPU] = mustParse(cpu)
		m.create(pod)
	}
}

// member creates one more pod of a recorded gang.
func (m *migration) member(app string, i int) {
	m.t.Helper()
	like := m.made[app+"-0"].DeepCopy()
	like.ObjectMeta = metav1.ObjectMeta{Namespace: like.Namespace, Name: fmt.Sprintf("%s-%d", app, i), Labels: like.Labels, Annotations: like.Annotations}
	m.create(like)
}

// pods are those that exist, by application.
func (m *migration) pods() map[string][]*v1.Pod {
	list, err := m.Client().CoreV1().Pods("batch").List(m.ctx, metav1.ListOptions{})
	m.do(err)
	apps := make(map[string][]*v1.Pod)
	for i := range list.Items {
		pod := &list.Items[i]
		apps[pod.Labels[appLabel]] = append(apps[pod.Labels[appLabel]], pod)
	}
	return apps
}

// settle waits until kubelets have done their part.
func (m *migration) settle() {
	m.t.Helper()
	m.await("kubelets", func() error {
		for _, pods := range m.pods() {
			for _, p := range pods {
				if p.DeletionTimestamp != nil || p.Spec.NodeName != "" && p.Status.Phase != v1.PodRunning {
					return fmt.Errorf("pod %s is %s", p.Name, p.Status.Phase)
				}
			}
		}
		return nil
	})
	m.do(m.cluster.Settle(m.ctx))
}

// await waits until nothing is wrong, and says what stays so.
func (m *migration) await(what string, wrong func() error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.ctx, 2*time.Minute)
	defer cancel()
	for {
		err := wrong()
		if err == nil {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			m.t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

// anyOf is the first one, if there is any.
func anyOf(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

// count counts pods of an application.
func (m *migration) count(app, what string, want int, counts func(*v1.Pod) bool) error {
	n := 0
	for _, p := range m.pods()[app] {
		if counts(p) {
			n++
		}
	}
	if n != want {
		return fmt.Errorf("%s has %d %s, want %d", app, n, what, want)
	}
	return nil
}

func (m *migration) bound(app string, want int) error {
	return m.count(app, "pods with a node", want, func(p *v1.Pod) bool { return !holds(p) && p.Spec.NodeName != "" })
}

func (m *migration) placeholders(app string, want int) error {
	return m.count(app, "placeholders", want, holds)
}

func (m *migration) placeholdersBound(app string, want int) error {
	return m.count(app, "placeholders with a node", want, func(p *v1.Pod) bool { return holds(p) && p.Spec.NodeName != "" })
}

// placeholderNames are those of all that there have ever been of an application.
func (m *migration) placeholderNames(app string) []string {
	m.do(m.cluster.Settle(m.ctx))
	names := make(map[string]bool)
	for _, ev := range m.cluster.Pods() {
		if ev.Pod.AppID == app && strings.HasPrefix(ev.Pod.Name, "tg-") {
			names[ev.Pod.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// used sums up what pods with a node request, by queue.
func (m *migration) used() map[string]v1.ResourceList {
	out := make(map[string]v1.ResourceList)
	for _, pods := range m.pods() {
		for _, p := range pods {
			if p.Spec.NodeName == "" {
				continue
			}
			queue := p.Labels[queueLabel]
			if out[queue] == nil {
				out[queue] = v1.ResourceList{}
			}
			for name, q := range p.Spec.Containers[0].Resources.Requests {
				sum := out[queue][name]
				sum.Add(q)
				out[queue][name] = sum
			}
		}
	}
	return out
}

// queuesSay compares what REST says of queues with what their pods take.
func (m *migration) queuesSay(used map[string]v1.ResourceList, queues ...string) error {
	lead, err := m.Leader(m.ctx)
	if err != nil {
		return err
	}
	for _, queue := range queues {
		resp, err := m.Replica(lead).REST(m.ctx, "/ws/v1/partition/default/queue/"+queue)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s %s %w", queue, resp.Status, body, err)
		}
		var says struct{ AllocatedResource map[string]int64 }
		if err := json.Unmarshal(body, &says); err != nil {
			return err
		}
		cpu, memory := used[queue][v1.ResourceCPU], used[queue][v1.ResourceMemory]
		if says.AllocatedResource["vcore"] != cpu.MilliValue() || says.AllocatedResource["memory"] != memory.Value() {
			return fmt.Errorf("%s has %v, and its pods take %s and %s", queue, says.AllocatedResource, cpu.String(), memory.String())
		}
	}
	return nil
}

// judge judges the history, what YuniKorn would find, and what became of the pods of users.
func (m *migration) judge(what string, ran history.Running) {
	m.t.Helper()
	m.do(m.cluster.Settle(m.ctx))
	audit, err := verify.ReadAuditFile(m.state.AuditLog)
	m.do(err)
	events, gaps := m.cluster.Pods(), m.cluster.Gaps()
	var expected []verify.Expected
	var left []*v1.Pod
	for _, pods := range m.pods() {
		for _, p := range pods {
			left = append(left, p)
			if p.Spec.NodeName != "" {
				expected = append(expected, verify.Expected{Namespace: p.Namespace, Name: p.Name, UID: string(p.UID)})
			}
		}
	}
	gone := make(map[string]bool)
	for _, p := range ran.Pods {
		// A placeholder goes when its pod has come, or its time is up.
		gone[p.UID] = strings.HasPrefix(p.Name, "tg-")
	}
	v := verify.NewVerdict(verify.BoundOnce(expected, events, gaps, audit), verify.Capacity(m.cluster.Nodes(), events, gaps), verify.Untouched(ran, events, gaps, gone))
	report(m.t, v, nil)
	for _, wrong := range unlikeYuniKorn(left) {
		m.t.Errorf("%s: %s", what, wrong)
	}
	for _, p := range left {
		if made := m.made[p.Name]; made != nil {
			if wrong := changed(made, p); wrong != "" {
				m.t.Errorf("%s: pod %s: %s", what, p.Name, wrong)
			}
		}
	}
}

// changed says what is not as its user made it.
func changed(made, now *v1.Pod) string {
	// Who has bound the pod says so on it, where nobody else looks.
	labels, annotations := maps.Clone(now.Labels), maps.Clone(now.Annotations)
	for _, all := range []map[string]string{labels, annotations} {
		maps.DeleteFunc(all, func(key, _ string) bool { return strings.HasPrefix(key, "understudy.dev/") })
	}
	spec := now.Spec.DeepCopy()
	spec.NodeName = made.Spec.NodeName
	switch {
	case made.UID != now.UID:
		return "is another one"
	case !maps.Equal(made.Labels, labels):
		return fmt.Sprintf("labels were %v and are %v", made.Labels, labels)
	case !maps.Equal(made.Annotations, annotations):
		return fmt.Sprintf("annotations were %v and are %v", made.Annotations, annotations)
	case !equality.Semantic.DeepEqual(made.OwnerReferences, now.OwnerReferences) || !slices.Equal(made.Finalizers, now.Finalizers):
		return "has other owners or finalizers"
	case !equality.Semantic.DeepEqual(made.Spec, *spec):
		return "has another spec"
	}
	return ""
}
