package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/verify"
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

// The resource of the Spark operator, as far as it matters to the API server.
const sparkCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: sparkapplications.sparkoperator.k8s.io
  annotations: {api-approved.kubernetes.io: "unapproved, stands for the operator's own"}
spec:
  group: sparkoperator.k8s.io
  scope: Namespaced
  names: {kind: SparkApplication, plural: sparkapplications, singular: sparkapplication}
  versions:
  - name: v1beta2
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

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

// kinds are the objects that tell of applications.
var kinds = map[string]schema.GroupVersionResource{
	sparkCRD:         {Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
	application:      {Group: "yunikorn.apache.org", Version: "v1alpha1", Resource: "applications"},
	sparkApplication: {Group: "sparkoperator.k8s.io", Version: "v1beta2", Resource: "sparkapplications"},
	job:              {Group: "batch", Version: "v1", Resource: "jobs"},
}

// managed is a lab with all kinds of managers, each of which has one application with a
// pod that runs.
type managed struct {
	*lab.Lab
	t       *testing.T
	ctx     context.Context
	objects dynamic.Interface
}

func manage(t *testing.T, start func(func(*lab.Options)) *lab.Lab) *managed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	m := &managed{t: t, ctx: ctx}
	m.Lab = start(func(o *lab.Options) {
		o.SkipWait = true // what the managers are allowed comes later
		o.Configure = func(_ string, file map[string]any) { file["managers"] = enabledManagers }
	})
	var err error
	m.objects, err = dynamic.NewForConfig(m.RESTConfig())
	m.do(err)
	m.allow()
	_, err = m.WaitLeader(ctx)
	m.do(errors.Join(err, m.WaitReady(ctx)))
	m.make(sparkCRD)
	m.make(application)
	m.do(await(ctx, "a SparkApplication", func() (bool, error) { // its kind has to be served first
		return m.tryMake(sparkApplication) == nil, nil
	}))
	owner := m.make(job)
	controller := true
	pods := map[string]func(*v1.Pod){
		"plain":  func(p *v1.Pod) { p.Labels = map[string]string{oldAppLabel: "plain"} },
		"report": func(p *v1.Pod) { p.Labels = map[string]string{appLabel: "default-report"} },
		"driver": func(p *v1.Pod) {
			p.Labels = map[string]string{
				sparkLabel: "spark-1", "spark-role": "driver",
				"sparkoperator.k8s.io/app-name": "pi", "sparkoperator.k8s.io/launched-by-spark-operator": "true",
			}
		},
		"sums": func(p *v1.Pod) {
			p.Labels = nil
			p.OwnerReferences = []metav1.OwnerReference{{
				APIVersion: "batch/v1", Kind: "Job", Name: owner.GetName(), UID: owner.GetUID(), Controller: &controller,
			}}
		},
	}
	for name, edit := range pods {
		_, err := m.Client().CoreV1().Pods("default").Create(ctx, podOf("", name, edit), metav1.CreateOptions{})
		m.do(err)
	}
	m.await(map[string]string{"general": "1 of 1", "application": "1 of 1", "spark-operator": "1 of 1", jobs: "1 of 1"})
	return m
}

func (m *managed) do(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// allow gives the replicas what `understudy managers rbac` says that their managers need.
func (m *managed) allow() {
	m.t.Helper()
	root, err := filepath.Abs("../..")
	m.do(err)
	cmd := exec.CommandContext(m.ctx, filepath.Join(root, "bin", "understudy"), "managers", "rbac",
		"--config", filepath.Join(m.Dir(), "config", "understudy-0.yaml"))
	out, err := cmd.Output()
	m.do(err)
	var role rbacv1.ClusterRole
	m.do(yaml.Unmarshal(out, &role))
	role.Name = "managers"
	_, err = m.Client().RbacV1().ClusterRoles().Create(m.ctx, &role, metav1.CreateOptions{})
	m.do(err)
	state, err := m.State()
	m.do(err)
	_, err = m.Client().RbacV1().ClusterRoleBindings().Create(m.ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "managers"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "managers"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: state.Namespace, Name: "understudy"}},
	}, metav1.CreateOptions{})
	m.do(err)
}

func (m *managed) make(text string) *unstructured.Unstructured {
	m.t.Helper()
	m.do(m.tryMake(text))
	object := decoded(text)
	made, err := m.resource(text, object).Get(m.ctx, object.GetName(), metav1.GetOptions{})
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

func (m *managed) resource(text string, object *unstructured.Unstructured) dynamic.ResourceInterface {
	if ns := object.GetNamespace(); ns != "" {
		return m.objects.Resource(kinds[text]).Namespace(ns)
	}
	return m.objects.Resource(kinds[text])
}

// tryMake creates an object, and writes its status if it has one.
func (m *managed) tryMake(text string) error {
	object := decoded(text)
	status, says := object.Object["status"]
	made, err := m.resource(text, object).Create(m.ctx, object, metav1.CreateOptions{})
	if err != nil || !says {
		return err
	}
	made.Object["status"] = status
	_, err = m.resource(text, object).UpdateStatus(m.ctx, made, metav1.UpdateOptions{})
	return err
}

// applications says of each manager how many pods with a node it has, of how many
// applications, in the mirror.
func (m *managed) applications() (map[string]string, error) {
	state, err := m.State()
	if err != nil {
		return nil, err
	}
	records, err := verify.ReadRecords(m.ctx, m.Etcd(), state.Prefix)
	if err != nil {
		return nil, err
	}
	keys, owner := record.Keys{Prefix: state.Prefix}, map[string]string{}
	apps, placed := map[string]int{}, map[string]int{}
	for _, kv := range records { // applications come before their tasks
		entry, err := keys.Decode(keys.Root()+kv.Key, kv.Value)
		switch {
		case err != nil:
			return nil, err
		case entry.App != nil && !entry.App.State.Terminal():
			owner[entry.App.ID] = entry.App.Manager
			apps[entry.App.Manager]++
		case entry.Task != nil && entry.Task.Placed():
			placed[owner[entry.Task.AppID]]++
		}
	}
	found := make(map[string]string)
	for manager, n := range apps {
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

// wipe has the mirror lose everything, and then the lead die.
func (m *managed) wipe() {
	m.t.Helper()
	lead, err := m.WaitLeader(m.ctx)
	m.do(err)
	m.do(m.WipeEtcd(m.ctx))
	m.do(m.Kill(lead, syscall.SIGKILL))
	_, err = m.WaitLeader(m.ctx, lead)
	m.do(err)
}

// TestRecoveryAsksTheManagers: with the mirror wiped, the applications and allocations of
// every manager come back from what it answers, and the status of an Application goes on.
func TestRecoveryAsksTheManagers(t *testing.T) {
	m := manage(t, func(change func(*lab.Options)) *lab.Lab { return up(t, change) })
	want, err := m.applications()
	m.do(err)
	m.wipe()
	m.await(want)
	m.do(await(m.ctx, "the status of the Application", func() (bool, error) {
		object, err := m.resource(application, decoded(application)).Get(m.ctx, "report", metav1.GetOptions{})
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
	m := manage(t, func(change func(*lab.Options)) *lab.Lab { return unguarded(t, "recoverable-"+jobs, change) })
	want, err := m.applications()
	m.do(err)
	delete(want, jobs)
	m.wipe()
	m.await(want)
}
