package drill

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/replica/ledger"
)

const (
	examplesDir = "../../deploy/examples"

	taskGroup  = workload.AnnotationTaskGroupName
	taskGroups = workload.AnnotationTaskGroups

	// sparkID is how Spark calls its application.
	sparkID = "spark-0fd2d5fbe6cf4b6d"
	// reserved is the only node that a gang may use for which it is too small.
	reserved = "node-0000"
)

// example is an object of deploy/examples, and what has to come of it.
type example struct {
	file, kind, name string
	manager, queue   string
	// id is that of the application; empty for one of kind, namespace, name and UID.
	id string
	// groups are its task groups with the members of each.
	groups map[string]int32
	style  ledger.GangStyle
	// plan says which pods its operator makes of it, early of them before the lead is
	// killed. Of those, so many wait for room.
	plan  func(*examples, *unstructured.Unstructured) []member
	early int
	wait  int
	// crew says that they are bound all or none, without placeholders: of the early ones,
	// none is.
	crew bool
	// steps says that no pod is made before those before it have ended.
	steps bool
	// running and done are the statuses that its operator writes; nil for none.
	running, done map[string]any
	// edit makes another example of it. bare says that only the pods are created.
	edit func(*unstructured.Unstructured)
	bare bool
}

// complete is the condition of something that has ended well.
func complete(kind, message string) map[string]any {
	return map[string]any{"type": kind, "status": "True", "reason": "Finished", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}
}

// jobRuns and jobDone are statuses of a Job, as its controller writes them.
func jobRuns(active int64) map[string]any {
	return map[string]any{"startTime": "2026-01-01T00:00:00Z", "active": active, "ready": active}
}

func jobDone(succeeded int64) map[string]any {
	return map[string]any{
		"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:00Z", "succeeded": succeeded, "ready": int64(0),
		"uncountedTerminatedPods": map[string]any{},
		"conditions":              []any{complete("SuccessCriteriaMet", "all pods have ended"), complete("Complete", "all pods have ended")},
	}
}

func sparkStatus(state string) map[string]any {
	return map[string]any{
		"sparkApplicationId": sparkID, "submissionID": "5e0b0a55", "applicationState": map[string]any{"state": state},
		"driverInfo": map[string]any{"podName": "spark-pi-driver"},
	}
}

func replicated(name string, active int64) map[string]any {
	return map[string]any{
		"name": name, "ready": int64(0), "succeeded": int64(0), "failed": int64(0), "active": active, "suspended": int64(0),
	}
}

// tooLarge makes a gang of which a part finds room, on a node that is there for it.
func tooLarge(job *unstructured.Unstructured) {
	job.SetName("too-large")
	annotations := job.GetAnnotations()
	annotations[workload.AnnotationPolicy] = strings.Replace(annotations[workload.AnnotationPolicy], "=60", "=8", 1)
	job.SetAnnotations(annotations)
	spec := at[map[string]any](job.Object, "spec", "template", "spec")
	spec["nodeSelector"] = map[string]any{v1.LabelHostname: reserved}
	spec["tolerations"] = []any{map[string]any{"key": reserved, "operator": "Exists"}}
	container := at[[]any](spec, "containers")[0].(map[string]any)
	at[map[string]any](container, "resources", "requests")["cpu"] = "3"
}

// allExamples are those that run to their end.
func allExamples() []example {
	ray := map[string]int32{"headgroup": 1, "workers": 2}
	return []example{
		{
			file: "batch-job.yaml", kind: "Job", name: "pi", manager: "job", queue: "root.batch.jobs",
			plan: jobPods, early: 2, running: jobRuns(2), done: jobDone(4),
		}, {
			file: "gang-soft.yaml", kind: "Job", name: "gang-soft", manager: "job", queue: "root.batch.jobs", id: "gang-soft",
			groups: map[string]int32{"workers": 4}, style: ledger.Soft, plan: jobPods, early: 2, running: jobRuns(2), done: jobDone(4),
		}, {
			file: "gang-soft.yaml", kind: "Job", name: "bare", manager: "general", queue: "root.batch.jobs", id: "bare", bare: true,
			groups: map[string]int32{"workers": 4}, style: ledger.Soft, plan: barePods, early: 2,
			edit: func(job *unstructured.Unstructured) { job.SetName("bare") },
		}, {
			file: "gang-hard.yaml", kind: "Job", name: "gang-hard", manager: "job", queue: "root.batch.jobs",
			groups: map[string]int32{"job": 4}, style: ledger.Hard, plan: jobPods, early: 2, running: jobRuns(2), done: jobDone(4),
		}, {
			file: "application.yaml", kind: "Application", name: "report", manager: "application", queue: "root.batch.jobs",
			id: "default-report", groups: map[string]int32{"readers": 2}, style: ledger.Soft, plan: ownPods, early: 1,
		}, {
			file: "spark.yaml", kind: "SparkApplication", name: "spark-pi", manager: "spark-operator", queue: "root.batch.jobs", id: sparkID,
			groups: map[string]int32{"spark-driver": 1, "spark-executor": 2}, style: ledger.Soft, plan: sparkPods, early: 2,
			running: sparkStatus("RUNNING"), done: sparkStatus("COMPLETED"),
		}, {
			file: "raycluster.yaml", kind: "RayCluster", name: "notebook", manager: "raycluster", queue: "root.ml",
			groups: ray, style: ledger.Soft, plan: rayPods, early: 2, running: map[string]any{"state": "ready"},
		}, {
			file: "rayjob.yaml", kind: "RayJob", name: "fit", manager: "rayjob", queue: "root.ml",
			groups: ray, style: ledger.Soft, plan: rayJobPods, early: 2,
			running: map[string]any{"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": "fit-x7k2p"},
			done:    map[string]any{"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED", "rayClusterName": "fit-x7k2p"},
		}, {
			file: "jobset.yaml", kind: "JobSet", name: "sweep", manager: "jobset", queue: "root.ml",
			groups: map[string]int32{"leader": 1, "workers": 3}, style: ledger.Soft, plan: jobSetPods, early: 2,
			running: map[string]any{"restarts": int64(0), "replicatedJobsStatus": []any{replicated("leader", 1), replicated("workers", 1)}},
			done: map[string]any{
				"restarts": int64(0), "terminalState": "Completed", "conditions": []any{complete("Completed", "jobset completed successfully")},
			},
		}, {
			file: "trainjob.yaml", kind: "TrainJob", name: "tune", manager: "trainjob", queue: "root.ml",
			groups: map[string]int32{"node": 3}, style: ledger.Soft, plan: trainJobPods, early: 1,
			running: map[string]any{"jobsStatus": []any{replicated("node", 1)}},
			done:    map[string]any{"conditions": []any{complete("Complete", "jobset completed successfully")}},
		}, {
			file: "workflow.yaml", kind: "Workflow", name: "build", manager: "workflow", queue: "root.batch.jobs",
			plan: workflowPods, early: 1, steps: true,
			running: map[string]any{"phase": "Running", "progress": "0/2"}, done: map[string]any{"phase": "Succeeded", "progress": "2/2"},
		}, {
			file: "podgroup.yaml", kind: "PodGroup", name: "trio", manager: "podgroup", queue: "root.batch.jobs",
			id: "podgroup-default.trio", plan: ownPods, early: 2, crew: true,
		}, {
			file: "crawl.yaml", kind: "Crawl", name: "news", manager: "crawl", queue: "root.batch.search",
			groups: map[string]int32{"worker": 3}, style: ledger.Soft, plan: crawlPods, early: 1,
			running: map[string]any{"phase": "Crawling"}, done: map[string]any{"phase": "Done"},
		}, {
			file: "quotas.yaml", kind: "Job", name: "frugal", manager: "job", queue: "root.small",
			plan: jobPods, early: 4, wait: 2, running: jobRuns(4), done: jobDone(4),
		}, {
			file: "priorities.yaml", kind: "Job", name: "patient", manager: "job", queue: "root.shared",
			plan: jobPods, early: 2, wait: 1, running: jobRuns(2), done: jobDone(2),
		}, {
			file: "priorities.yaml", kind: "Job", name: "urgent", manager: "job", queue: "root.shared",
			plan: jobPods, early: 1, wait: 1, running: jobRuns(1), done: jobDone(1),
		},
	}
}

// under is an example under way.
type under struct {
	example
	object  *unstructured.Unstructured
	members []member
	pods    []*v1.Pod // that exist, in the order of members
}

// examples are all examples in one lab.
type examples struct {
	t       *testing.T
	ctx     context.Context
	s       *Session
	objects *lab.Objects
	files   map[string][]*unstructured.Unstructured
	all     []*under
}

func (x *examples) do(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

// kind returns the objects of a kind in all files.
func (x *examples) kind(kind string) (found []*unstructured.Unstructured) {
	for _, file := range slices.Sorted(maps.Keys(x.files)) {
		for _, object := range x.files[file] {
			if object.GetKind() == kind {
				found = append(found, object)
			}
		}
	}
	return found
}

func (x *examples) object(kind, name string) *unstructured.Unstructured {
	x.t.Helper()
	for _, object := range x.kind(kind) {
		if object.GetName() == name {
			return object
		}
	}
	x.t.Fatalf("no example has the %s %s", kind, name)
	return nil
}

// created creates an object, and returns it as the API server has it.
func (x *examples) created(object *unstructured.Unstructured) *unstructured.Unstructured {
	x.t.Helper()
	x.do(x.objects.Apply(x.ctx, object))
	made, err := x.objects.Get(x.ctx, object)
	x.do(err)
	return made
}

// between creates an object that stands between one and its pods.
func (x *examples) between(owner *unstructured.Unstructured, apiVersion, kind, name string, spec map[string]any) *unstructured.Unstructured {
	x.t.Helper()
	object := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	object.SetAPIVersion(apiVersion)
	object.SetKind(kind)
	object.SetNamespace(owner.GetNamespace())
	object.SetName(name)
	object.SetOwnerReferences([]metav1.OwnerReference{controlledBy(owner)})
	return x.created(object)
}

// begin creates what is in the files but pods, and plans the pods of each example.
func (x *examples) begin(list []example) {
	x.t.Helper()
	for _, e := range list {
		u := &under{example: e}
		if e.edit == nil {
			u.object = x.object(e.kind, e.name)
		} else {
			for _, object := range x.files[e.file] {
				if object.GetKind() == e.kind {
					u.object = object.DeepCopy()
				}
			}
			e.edit(u.object)
		}
		if !e.bare {
			u.object = x.created(u.object)
		}
		u.members = e.plan(x, u.object)
		x.all = append(x.all, u)
	}
}

// app is the ID of its application.
func (u *under) app() string {
	if u.id != "" {
		return u.id
	}
	uid, _, _ := strings.Cut(string(u.object.GetUID()), "-")
	return fmt.Sprintf("%s-default-%s-%s", strings.ToLower(u.kind), u.name, uid)
}

// grow makes pods of an example until it has n.
func (x *examples) grow(u *under, n int) {
	x.t.Helper()
	for len(u.pods) < n {
		var first *v1.Pod
		if len(u.pods) > 0 {
			first = u.pods[0]
		}
		pod, err := u.members[len(u.pods)].pod(first)
		x.do(err)
		made, err := x.s.create(x.ctx, pod)
		x.do(err)
		u.pods = append(u.pods, made...)
		x.s.belongs(u.app(), u.queue, made...)
	}
}

// bound returns the pods of an example that have been seen with a node.
func (x *examples) bound(u *under) (bound []*v1.Pod) {
	last := x.s.last()
	for _, pod := range u.pods {
		if p := last[string(pod.UID)]; p != nil && p.Node != "" {
			bound = append(bound, pod)
		}
	}
	return bound
}

// awaitBound waits until so many pods of an example are bound.
func (x *examples) awaitBound(u *under, n int) {
	x.t.Helper()
	err := await(x.ctx, u.name, func() (bool, error) { return len(x.bound(u)) >= n, nil })
	if got := x.bound(u); err != nil || len(got) != n {
		x.t.Fatalf("%s: %d pods are bound, want %d (%v)", u.name, len(got), n, err)
	}
}

// finish ends pods, as a kubelet does.
func (x *examples) finish(pods ...*v1.Pod) {
	x.t.Helper()
	for _, pod := range pods {
		x.s.leaves(string(pod.UID))
		_, err := x.s.Lab.Client().CoreV1().Pods(pod.Namespace).Patch(x.ctx, pod.Name, types.StrategicMergePatchType,
			[]byte(`{"status":{"phase":"Succeeded"}}`), metav1.PatchOptions{}, "status")
		x.do(err)
	}
}

func (x *examples) find(name string) *under {
	i := slices.IndexFunc(x.all, func(u *under) bool { return u.name == name })
	return x.all[i]
}

// awaitApp waits until ok of the record of an application, which is nil for none.
func (x *examples) awaitApp(u *under, what string, ok func(*ledger.App) bool) *ledger.App {
	x.t.Helper()
	var app *ledger.App
	err := await(x.ctx, what, func() (bool, error) {
		apps, _, err := mirrored(x.ctx, x.s.Lab)
		app = apps[u.app()]
		return err == nil && ok(app), err
	})
	if err != nil {
		x.t.Fatalf("%s: %v: the application is %+v", u.name, err, app)
	}
	return app
}

// TestExamples applies every example of deploy/examples to one lab, and kills the lead
// while each is under way: some of its pods are there, some of its gang have their places,
// and what is over a quota waits.
func TestExamples(t *testing.T) {
	t.Parallel()
	x := newExamples(t)
	large := example{
		file: "gang-hard.yaml", kind: "Job", name: "too-large", manager: "job", queue: "root.batch.jobs", plan: jobPods, early: 2, edit: tooLarge,
	}
	x.begin(append(allExamples(), large))
	for _, u := range x.all {
		x.grow(u, u.early)
		if u.running != nil {
			x.do(x.objects.ApplyStatus(x.ctx, u.object, u.running))
		}
	}
	tooLarge := x.find(large.name)
	for _, u := range x.all {
		if u != tooLarge && !u.crew {
			x.awaitBound(u, u.early-u.wait)
		}
	}
	deadline := x.awaitApp(tooLarge, "a part of a gang to have its place", func(app *ledger.App) bool {
		return app != nil && app.State == ledger.AppStateReserving && app.PlaceholderDeadline != 0
	}).PlaceholderDeadline

	if trio := x.bound(x.find("trio")); len(trio) > 0 {
		t.Errorf("%d pods of a PodGroup are bound before the last one is there", len(trio))
	}
	x.s.leaves(x.placeholders()...)
	fault, err := x.s.KillLead(x.ctx, syscall.SIGKILL)
	x.do(err)
	for _, u := range x.all { // while nobody leads
		if u.steps {
			x.finish(u.pods...)
		}
		x.grow(u, len(u.members))
	}
	_, err = x.s.Failover(x.ctx, fault)
	x.do(err)

	for _, u := range x.all {
		if u != tooLarge && u.wait == 0 {
			x.awaitBound(u, len(u.members))
			x.s.expect(u.pods...)
		}
	}
	x.fails(tooLarge, deadline)
	x.inTurn()
	x.inOrder()
	for _, u := range x.all {
		if u != tooLarge && u.name != "urgent" {
			x.asSaid(u)
		}
	}
	verdict, err := x.s.Verdict(x.ctx)
	report(t, verdict, err)
	x.end(tooLarge)
}

func newExamples(t *testing.T) *examples {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	x := &examples{t: t, ctx: ctx, files: map[string][]*unstructured.Unstructured{}}
	files, err := filepath.Glob(filepath.Join(examplesDir, "*.yaml"))
	x.do(err)
	for _, file := range files {
		name := filepath.Base(file)
		if name == "managers.yaml" {
			continue
		}
		x.files[name], err = lab.ReadManifests(file)
		x.do(err)
	}
	enabled, err := os.ReadFile(filepath.Join(examplesDir, "managers.yaml"))
	x.do(err)
	list, err := lab.ParseManagers(enabled)
	x.do(err)
	l := up(t, func(o *lab.Options) {
		o.Managers, o.CRDs = list, []string{"../crds", filepath.Join(examplesDir, "crawl-crd.yaml")}
		o.Queues = at[string](x.files["queues.yaml"][0].Object, "data", "queues.yaml")
		o.Node.CPU, o.PodGroups = "8", true
	})
	x.objects, err = l.Objects()
	x.do(err)
	_, err = l.Client().CoreV1().Nodes().Patch(ctx, reserved, types.StrategicMergePatchType,
		fmt.Appendf(nil, `{"spec":{"taints":[{"key":%q,"effect":"NoSchedule"}]}}`, reserved), metav1.PatchOptions{})
	x.do(err)
	x.s, err = Begin(ctx, l, logger(t))
	x.do(err)
	t.Cleanup(x.s.Close)
	for _, kind := range []string{"PriorityClass", "TrainingRuntime"} {
		x.do(x.objects.Apply(ctx, x.kind(kind)...))
	}
	return x
}

// fails waits until a Hard gang for which there is no room has failed as a whole: at the
// time that was set before the failover, and none of its pods ever ran.
func (x *examples) fails(u *under, deadline ledger.Time) {
	x.t.Helper()
	// The core counts from when it gave the first placeholder a node, which the ledger heard of
	// a moment later.
	const moment = time.Second
	app := x.awaitApp(u, "a Hard gang to fail", func(app *ledger.App) bool { return app != nil && app.State.Terminal() })
	if app.State != ledger.AppStateFailed || app.Message == "" || app.PlaceholderDeadline != deadline || app.Finished < deadline.Add(-moment) {
		x.t.Errorf("a Hard gang without room is %+v; its time was up at %v", app, deadline)
	}
	x.do(await(x.ctx, "its pods to fail", func() (bool, error) {
		for _, pod := range u.pods {
			is, err := x.s.Lab.Client().CoreV1().Pods(pod.Namespace).Get(x.ctx, pod.Name, metav1.GetOptions{})
			if err != nil || is.Status.Phase != v1.PodFailed {
				return false, err
			}
			if is.Status.Reason != ledger.ReasonReservationTimeout || is.Spec.NodeName != "" {
				return false, fmt.Errorf("pod %s failed on node %q because of %q", pod.Name, is.Spec.NodeName, is.Status.Reason)
			}
		}
		return true, nil
	}))
}

// inTurn has room made in a queue whose quota is used up, and sees that it is used again.
func (x *examples) inTurn() {
	x.t.Helper()
	u := x.find("frugal")
	first := x.bound(u)
	if len(first) != u.early-u.wait {
		x.t.Fatalf("%d pods are bound under a quota for %d", len(first), u.early-u.wait)
	}
	x.do(await(x.ctx, "to be told of the quota", func() (bool, error) {
		told := 0
		for _, pod := range u.pods {
			is, err := x.s.Lab.Client().CoreV1().Pods(pod.Namespace).Get(x.ctx, pod.Name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			for _, c := range is.Status.Conditions {
				if c.Type == v1.PodScheduled && c.Status == v1.ConditionFalse && c.Reason == "SchedulingSkipped" {
					told++
				}
			}
		}
		return told == u.wait, nil
	}))
	x.finish(first...)
	x.awaitBound(u, len(u.members))
	x.s.expect(u.pods...)
}

// inOrder has room made for one pod at a time, and sees who gets it.
func (x *examples) inOrder() {
	x.t.Helper()
	patient, urgent := x.find("patient"), x.find("urgent")
	first := x.bound(patient)
	if len(first) != 1 || len(x.bound(urgent)) != 0 {
		x.t.Fatalf("%d and %d pods are bound where there is room for one", len(first), len(x.bound(urgent)))
	}
	x.finish(first...)
	x.awaitBound(urgent, 1)
	x.awaitBound(patient, 1)
	x.asSaid(urgent)
	x.finish(urgent.pods...)
	x.do(x.objects.ApplyStatus(x.ctx, urgent.object, urgent.done))
	x.awaitBound(patient, 2)
	x.s.expect(slices.Concat(patient.pods, urgent.pods)...)
}

// asSaid sees that an application is what its example says, and that its gang was
// complete before any of its pods got a node.
func (x *examples) asSaid(u *under) {
	x.t.Helper()
	app := x.awaitApp(u, "the application to run", func(app *ledger.App) bool { return app != nil && app.State == ledger.AppStateRunning })
	if app.Manager != u.manager || app.PlacedQueue != u.queue {
		x.t.Errorf("%s: the application is of the manager %s in the queue %s, want %s in %s", u.name, app.Manager, app.PlacedQueue, u.manager, u.queue)
	}
	groups, members := map[string]int32{}, 0
	for _, g := range app.Gang {
		groups[g.Name] = g.Bound
		members += int(g.Wanted)
		if g.TimedOut != 0 {
			x.t.Errorf("%s: %d of task group %s have timed out", u.name, g.TimedOut, g.Name)
		}
	}
	if whole := len(app.Crews) == 1 && app.Crews[0].Whole; u.crew != whole {
		x.t.Errorf("%s: the groups that are bound all or none are %+v", u.name, app.Crews)
	}
	if !maps.Equal(groups, u.groups) || len(groups) > 0 && app.Style != u.style {
		x.t.Errorf("%s: task groups %v, %s, want %v, %s", u.name, groups, app.Style, u.groups, u.style)
	}
	if held := x.heldBefore(u); held < members {
		x.t.Errorf("%s: the first pod got its node when %d of %d members had their places", u.name, held, members)
	}
}

// placeholders returns the UIDs of the pods that nobody but the lead has made.
func (x *examples) placeholders() (uids []string) {
	ours := map[string]bool{}
	for _, u := range x.all {
		for _, pod := range u.pods {
			ours[string(pod.UID)] = true
		}
	}
	for uid, pod := range x.s.last() {
		if !ours[uid] && pod.Namespace == metav1.NamespaceDefault {
			uids = append(uids, uid)
		}
	}
	return uids
}

// heldBefore counts the placeholders of an example that had a node when the first of its
// own pods got one.
func (x *examples) heldBefore(u *under) int {
	own, held := map[string]bool{}, map[string]bool{}
	for _, pod := range u.pods {
		own[string(pod.UID)] = true
	}
	for _, ev := range x.s.pods() {
		switch {
		case ev.Pod.Node == "" || ev.Pod.AppID != u.app():
		case own[ev.Pod.UID]:
			return len(held)
		default:
			held[ev.Pod.UID] = true
		}
	}
	return len(held)
}

// end ends all examples, and waits until the mirror says so too.
func (x *examples) end(failed *under) {
	x.t.Helper()
	for _, u := range x.all {
		if u == failed {
			continue
		}
		x.finish(u.pods...)
		switch {
		case u.done != nil:
			x.do(x.objects.ApplyStatus(x.ctx, u.object, u.done))
		case u.kind == "RayCluster": // has no end of its own
			x.do(x.objects.Delete(x.ctx, u.object))
			for _, pod := range u.pods {
				x.do(x.s.Delete(x.ctx, pod))
			}
		}
	}
	for _, u := range x.all {
		if u != failed {
			x.awaitApp(u, "the application to complete", func(app *ledger.App) bool {
				return app != nil && app.State == ledger.AppStateCompleted || app == nil && u.kind == "RayCluster"
			})
		}
	}
	x.do(await(x.ctx, "the status of the Application", func() (bool, error) {
		object, err := x.objects.Get(x.ctx, x.object("Application", "report"))
		if err != nil {
			return false, err
		}
		state, _, err := unstructured.NestedString(object.Object, "status", "applicationState")
		return state == "Completed", err
	}))
	x.do(await(x.ctx, "the status of the PodGroup", func() (bool, error) {
		group, err := x.objects.Get(x.ctx, x.find("trio").object)
		if err != nil {
			return false, err
		}
		conditions, _, err := unstructured.NestedSlice(group.Object, "status", "conditions")
		return slices.ContainsFunc(conditions, func(c any) bool {
			is, ok := c.(map[string]any)
			return ok && is["type"] == schedulingv1beta1.PodGroupInitiallyScheduled && is["status"] == "True"
		}), err
	}))
	if _, err := x.objects.Get(x.ctx, x.find("notebook").object); !apierrors.IsNotFound(err) {
		x.t.Errorf("the RayCluster is still there (%v)", err)
	}
}
