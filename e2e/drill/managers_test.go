package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// jobs is the name of a manager by declaration.
const jobs = "jobs"

// enabledManagers are all kinds of app managers that are shipped.
var enabledManagers = []any{
	map[string]any{"name": "application"},
	map[string]any{"name": "spark-operator"},
	map[string]any{"name": jobs, "type": "custom", "settings": map[string]any{"preset": "job"}},
	map[string]any{"name": "general"},
}

const application = `
apiVersion: yunikorn.apache.org/v1alpha1
kind: Application
metadata: {name: report, namespace: default}
spec: {queue: root.default}
`

const sparkApplication = `
apiVersion: sparkoperator.k8s.io/v1beta2
kind: SparkApplication
metadata: {name: pi, namespace: default}
spec:
  type: Scala
  mode: cluster
  driver: {cores: 1}
  executor: {cores: 1, instances: 1}
status: {sparkApplicationId: spark-1, applicationState: {state: RUNNING}}
`

const job = `
apiVersion: batch/v1
kind: Job
metadata: {name: sums, namespace: default}
spec:
  template:
    spec:
      schedulerName: yunikorn
      restartPolicy: Never
      containers: [{name: main, image: none}]
`

// managed is a lab with all kinds of managers, each of which has one application with a
// pod that runs.
type managed struct {
	*lab.Lab
	t       *testing.T
	ctx     context.Context
	objects *lab.Objects
}

func manage(t *testing.T, start func(func(*lab.Options)) *lab.Lab) *managed {
	t.Helper()
	m := enable(t, enabledManagers, start)
	m.populate()
	return m
}

// enable starts a lab whose replicas have some managers, and may do what these need.
func enable(t *testing.T, managers []any, start func(func(*lab.Options)) *lab.Lab) *managed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	m := &managed{t: t, ctx: ctx}
	m.Lab = start(func(o *lab.Options) { o.Managers = managers })
	var err error
	m.objects, err = m.Objects()
	m.do(err)
	return m
}

// populate has each manager have one application with a pod that runs.
func (m *managed) populate() {
	m.t.Helper()
	m.serveSpark()
	m.make(application)
	m.make(sparkApplication)
	pods := map[string]func(*v1.Pod){
		"plain":  func(p *v1.Pod) { p.Labels = map[string]string{oldAppLabel: "plain"} },
		"report": func(p *v1.Pod) { p.Labels = map[string]string{appLabel: "default-report"} },
		"driver": sparkPod("spark-1", "driver"),
		"sums":   jobPod(m.make(job)),
	}
	for name, edit := range pods {
		_, err := m.Client().CoreV1().Pods("default").Create(m.ctx, podOf("", name, edit), metav1.CreateOptions{})
		m.do(err)
	}
	m.await(map[string]string{"general": "1 of 1", "application": "1 of 1", "spark-operator": "1 of 1", jobs: "1 of 1"})
}

// serveSpark has the API server serve a kind while its manager runs.
func (m *managed) serveSpark() {
	m.t.Helper()
	late, err := lab.ReadManifests("../crds/sparkapplications.yaml")
	m.do(err)
	m.do(m.objects.Apply(m.ctx, late...))
}

// sparkPod makes a pod one that the Spark operator and Spark label.
func sparkPod(id, role string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Labels = map[string]string{
			sparkLabel: id, "spark-role": role,
			"sparkoperator.k8s.io/app-name": "pi", "sparkoperator.k8s.io/launched-by-spark-operator": "true",
		}
	}
}

// jobPod makes a pod one of a Job.
func jobPod(of *unstructured.Unstructured) func(*v1.Pod) {
	controller := true
	return func(p *v1.Pod) {
		p.Labels = nil
		p.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: "batch/v1", Kind: "Job", Name: of.GetName(), UID: of.GetUID(), Controller: &controller,
		}}
	}
}

func (m *managed) do(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// make creates an object, and writes its status if it has one.
func (m *managed) make(text string, edit ...func(*unstructured.Unstructured)) *unstructured.Unstructured {
	m.t.Helper()
	object := decoded(text)
	for _, e := range edit {
		e(object)
	}
	status, says := object.Object["status"].(map[string]any)
	delete(object.Object, "status")
	m.do(m.objects.Apply(m.ctx, object))
	if says {
		m.do(m.objects.ApplyStatus(m.ctx, object, status))
	}
	made, err := m.objects.Get(m.ctx, object)
	m.do(err)
	return made
}

func decoded(text string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &object.Object); err != nil {
		panic(err)
	}
	return object
}

// mirrored returns the applications that the mirror has, and their tasks, by application.
func mirrored(ctx context.Context, l *lab.Lab) (map[string]*ledger.App, map[string][]*ledger.Task, error) {
	state, err := l.State()
	if err != nil {
		return nil, nil, err
	}
	records, err := verify.ReadRecords(ctx, l.Etcd(), state.Prefix)
	if err != nil {
		return nil, nil, err
	}
	keys := record.Keys{Prefix: state.Prefix}
	apps, tasks := map[string]*ledger.App{}, map[string][]*ledger.Task{}
	for _, kv := range records {
		entry, err := keys.Decode(keys.Root()+kv.Key, kv.Value)
		switch {
		case err != nil:
			return nil, nil, err
		case entry.App != nil:
			apps[entry.App.ID] = entry.App
		case entry.Task != nil:
			tasks[entry.Task.AppID] = append(tasks[entry.Task.AppID], entry.Task)
		}
	}
	return apps, tasks, nil
}

// applications says of each manager how many pods with a node it has, of how many
// applications, in the mirror.
func (m *managed) applications() (map[string]string, error) {
	apps, tasks, err := mirrored(m.ctx, m.Lab)
	if err != nil {
		return nil, err
	}
	live, placed := map[string]int{}, map[string]int{}
	for id, app := range apps {
		if app.State.Terminal() {
			continue
		}
		live[app.Manager]++
		for _, task := range tasks[id] {
			if task.Placed() {
				placed[app.Manager]++
			}
		}
	}
	found := make(map[string]string)
	for manager, n := range live {
		found[manager] = fmt.Sprintf("%d of %d", placed[manager], n)
	}
	return found, nil
}

func (m *managed) await(want map[string]string) {
	m.t.Helper()
	var got map[string]string
	err := await(m.ctx, "the applications", func() (equal bool, err error) {
		got, err = m.applications()
		return maps.Equal(got, want), err
	})
	if err != nil {
		m.t.Fatalf("%v: the applications are %v, want %v", err, got, want)
	}
}

// killLead kills the lead, after something has been done if that is not nil, and waits for
// another. Of what has been done a lead may have ended by itself: one that finds the mirror
// wiped does.
func (m *managed) killLead(before func(context.Context) error) {
	m.t.Helper()
	lead, err := m.WaitLeader(m.ctx)
	m.do(err)
	if before != nil {
		m.do(before(m.ctx))
	}
	if err := m.Kill(lead, syscall.SIGKILL); before == nil || !errors.Is(err, lab.ErrGone) {
		m.do(err)
	}
	_, err = m.WaitLeader(m.ctx, lead)
	m.do(err)
}

// wipe has the mirror lose everything, and then the lead die.
func (m *managed) wipe() {
	m.t.Helper()
	m.killLead(m.WipeEtcd)
}

// TestRecoveryAsksTheManagers: with the mirror wiped, the applications and allocations of
// every manager come back from what it answers, and the status of an Application goes on.
func TestRecoveryAsksTheManagers(t *testing.T) {
	t.Parallel()
	m := manage(t, func(change func(*lab.Options)) *lab.Lab { return up(t, change) })
	want, err := m.applications()
	m.do(err)
	m.wipe()
	m.await(want)
	m.do(await(m.ctx, "the status of the Application", func() (bool, error) {
		object, err := m.objects.Get(m.ctx, decoded(application))
		if err != nil {
			return false, err
		}
		state, _, err := unstructured.NestedString(object.Object, "status", "applicationState")
		return strings.EqualFold(state, "Running"), err
	}))
}

// TestManagersThatAreNotAsked shows that the answers are what recovery is made of: with
// those of one manager suppressed the applications of that one are lost, and no others.
func TestManagersThatAreNotAsked(t *testing.T) {
	t.Parallel()
	m := manage(t, func(change func(*lab.Options)) *lab.Lab { return unguarded(t, "recoverable-"+jobs, change) })
	want, err := m.applications()
	m.do(err)
	delete(want, jobs)
	m.wipe()
	m.await(want)
}
