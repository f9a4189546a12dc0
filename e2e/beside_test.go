package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/e2e/lab"
)

// beside is a lab with YuniKorn's admission controller, and a witness of every pod.
type beside struct {
	*admitting
	yunikorn *yunikorn
	fights   func() []string
}

func stageBeside(t *testing.T, mode string) *beside {
	t.Helper()
	s := onStage(t, 8*time.Second, 5*time.Second, func(o *lab.Options) { o.Admission = mode })
	b := &beside{admitting: &admitting{stage: s, users: map[string]kubernetes.Interface{}}}
	grant(t, s.Client(), "everybody", []rbacv1.PolicyRule{
		{APIGroups: []string{"", "apps", "batch"}, Resources: []string{"pods", "deployments", "jobs", "cronjobs"}, Verbs: []string{"create"}},
	}, rbacv1.Subject{Kind: rbacv1.GroupKind, Name: "system:authenticated"})
	lead, _ := s.lead()
	replica, err := s.Replica(lead).Process()
	s.do(err)
	b.yunikorn = newYuniKorn(t, s.Client(), replica.REST)
	b.fights = b.witness()
	return b
}

// witness sees every change of a pod, and returns who changed or took away a label or an
// annotation once somebody had written it.
func (b *beside) witness() func() []string {
	b.t.Helper()
	pods := b.Client().CoreV1().Pods(metav1.NamespaceDefault)
	list, err := pods.List(b.t.Context(), metav1.ListOptions{})
	b.do(err)
	events, err := pods.Watch(b.t.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	b.do(err)
	ended := make(chan []string, 1)
	go func() {
		var fights []string
		had := make(map[string]map[string]string)
		for ev := range events.ResultChan() {
			pod, ok := ev.Object.(*v1.Pod)
			if !ok || ev.Type == watch.Deleted {
				continue
			}
			has := maps.Clone(pod.Annotations)
			if has == nil {
				has = map[string]string{}
			}
			for k, v := range pod.Labels {
				has["label "+k] = v
			}
			for k, v := range had[string(pod.UID)] {
				if has[k] != v {
					fights = append(fights, fmt.Sprintf("%s: %s was %q and became %q", pod.Name, k, v, has[k]))
				}
			}
			had[string(pod.UID)] = has
		}
		ended <- fights
	}()
	return func() []string { events.Stop(); return <-ended }
}

// told wants a pod to be the scheduler's, of one application under both labels, and of ann.
func (b *beside) told(pod *v1.Pod, app, info string) {
	b.t.Helper()
	if pod.Spec.SchedulerName != "yunikorn" || pod.Labels[appID] != app || pod.Labels["applicationId"] != app || pod.Annotations[userInfo] != info {
		b.t.Errorf("%s: %s, labels %v, annotations %v", pod.Name, pod.Spec.SchedulerName, pod.Labels, pod.Annotations)
	}
}

// odd has a name that stands in JSON in more than one form.
const (
	odd     = "r&d <x>\u2028"
	oddInfo = `{"user":"r\u0026d \u003cx\u003e\u2028","groups":["system:authenticated"]}`
)

// users creates what users create, all names with a tag, and waits until it is bound.
func (b *beside) users(ctx context.Context, tag string) {
	b.t.Helper()
	const generated = "yunikorn-default-autogen"
	plain, err := b.ann().CoreV1().Pods("default").Create(ctx, unscheduled("plain-"+tag), metav1.CreateOptions{})
	b.do(err)
	b.told(plain, generated, annInfo)
	other, err := b.as(b.t, odd).CoreV1().Pods("default").Create(ctx, unscheduled("odd-"+tag), metav1.CreateOptions{})
	b.do(err)
	b.told(other, generated, oddInfo)
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "job-" + tag}}
	job.Spec.Template.Labels = map[string]string{appID: "job-" + tag}
	job.Spec.Template.Spec = unscheduled("").Spec
	job.Spec.Template.Spec.RestartPolicy = v1.RestartPolicyNever
	job, err = b.ann().BatchV1().Jobs("default").Create(ctx, job, metav1.CreateOptions{})
	b.do(err)
	// No controller of Jobs runs in a lab. It passes the template on.
	made := &v1.Pod{ObjectMeta: *job.Spec.Template.ObjectMeta.DeepCopy(), Spec: job.Spec.Template.Spec}
	made.Name = job.Name + "-0"
	made, err = b.as(b.t, jobService).CoreV1().Pods("default").Create(ctx, made, metav1.CreateOptions{})
	b.do(err)
	b.told(made, job.Name, annInfo)
	forged := unscheduled("forged-" + tag)
	forged.Annotations = map[string]string{userInfo: bobInfo}
	if _, err := b.ann().CoreV1().Pods("default").Create(ctx, forged, metav1.CreateOptions{}); err == nil || !strings.Contains(err.Error(), forbids) {
		b.t.Errorf("forged: %v", err)
	}
	// The replicas' own pods are not theirs to schedule, nor is etcd.
	own, err := b.as(b.t, "system:serviceaccount:kube-system:replicaset-controller").CoreV1().Pods(leaseNamespace).Create(ctx, restricted("own-"+tag), metav1.CreateOptions{})
	b.do(err)
	if own.Spec.SchedulerName != v1.DefaultSchedulerName {
		b.t.Errorf("the next replica would wait for %s", own.Spec.SchedulerName)
	}
	b.bound(ctx, plain.Name, other.Name, made.Name)
}

// restricted is a pod that the replicas' namespace takes.
func restricted(name string) *v1.Pod {
	pod := unscheduled(name)
	yes, no := true, false
	pod.Spec.SecurityContext = &v1.PodSecurityContext{RunAsNonRoot: &yes, SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault}}
	pod.Spec.Containers[0].SecurityContext = &v1.SecurityContext{AllowPrivilegeEscalation: &no, Capabilities: &v1.Capabilities{Drop: []v1.Capability{"ALL"}}}
	return pod
}

const gangMembers = 2

// gang has placeholders made, and then calls between, and then creates the members.
func (b *beside) gang(ctx context.Context, tag string, between func()) {
	b.t.Helper()
	app := "gang-" + tag
	member := func(name string) *v1.Pod {
		pod := unscheduled(name)
		pod.Labels = map[string]string{appID: app, "yunikorn.apache.org/queue": "root.default"}
		return pod
	}
	first := member(app + "-driver")
	first.Annotations = map[string]string{"yunikorn.apache.org/task-groups": fmt.Sprintf(
		`[{"name":"workers","minMember":%d,"minResource":{"cpu":"100m","memory":"1Mi"}}]`, gangMembers)}
	first, err := b.ann().CoreV1().Pods("default").Create(ctx, first, metav1.CreateOptions{})
	b.do(err)
	b.told(first, app, annInfo)
	pods := func() (places, members []v1.Pod) {
		list, err := b.Client().CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: appID + "=" + app})
		b.do(err)
		for _, p := range list.Items {
			if p.Labels["placeholder"] == "true" {
				places = append(places, p)
			} else {
				members = append(members, p)
			}
		}
		return places, members
	}
	bound := func(p v1.Pod) bool { return p.Spec.NodeName == "" }
	b.do(until(ctx, func() bool {
		places, _ := pods()
		return len(places) == gangMembers && !slices.ContainsFunc(places, bound)
	}))
	b.bound(ctx, first.Name)
	places, _ := pods()
	for _, p := range places {
		if p.Spec.SchedulerName != "yunikorn" || p.Labels["applicationId"] != app || p.Labels["queue"] != "root.default" {
			b.t.Errorf("%s: %s, labels %v", p.Name, p.Spec.SchedulerName, p.Labels)
		}
	}
	between()
	for i := range gangMembers {
		pod := member(fmt.Sprintf("%s-%d", app, i))
		pod.Annotations = map[string]string{"yunikorn.apache.org/task-group-name": "workers"}
		pod, err := b.ann().CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{})
		b.do(err)
		b.told(pod, app, annInfo)
	}
	b.do(until(ctx, func() bool {
		places, members := pods()
		return len(places) == 0 && len(members) == gangMembers+1 && !slices.ContainsFunc(members, bound)
	}))
}

// failover kills the lead, and returns when another leads.
func (b *beside) failover(ctx context.Context) {
	b.t.Helper()
	first, err := b.Leader(ctx)
	b.do(err)
	b.do(b.Kill(first, syscall.SIGKILL))
	_, err = b.WaitLeader(ctx, first)
	b.do(err)
	b.lead()
}

// judge wants the applications of all tags to be there once, each of its user, and nothing but
// forged pods to have been refused, and no label to have been fought over.
func (b *beside) judge(ctx context.Context, tags ...string) {
	b.t.Helper()
	lead, _ := b.lead()
	type app struct {
		ApplicationID string `json:"applicationID"`
		User          string `json:"user"`
	}
	var apps []app
	for _, state := range []string{"active", "completed"} {
		some, err := read[[]app](ctx, b.Replica(lead), "/ws/v1/partition/default/applications/"+state, lead)
		b.do(err)
		apps = append(apps, some...)
	}
	want := []string{"yunikorn-default-autogen"}
	for _, tag := range tags {
		want = append(want, "job-"+tag, "gang-"+tag)
	}
	var got []string
	for _, a := range apps {
		got = append(got, a.ApplicationID)
		if a.User != "ann" {
			b.t.Errorf("%s is of %s", a.ApplicationID, a.User)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		b.t.Errorf("applications %v, want %v", got, want)
	}
	if fights := b.fights(); len(fights) > 0 {
		b.t.Errorf("fought over:\n%s", strings.Join(fights, "\n"))
	}
	asked, refused := b.yunikorn.seen()
	for _, r := range refused {
		if !strings.Contains(r, forbids) && !strings.Contains(r, "colour") {
			b.t.Errorf("YuniKorn's controller has refused: %s", r)
		}
	}
	b.t.Logf("YuniKorn's controller was asked %d times and refused %q", asked, refused)
}

// badConfiguration wants one to be refused, by whoever is asked.
func (b *beside) badConfiguration(ctx context.Context) {
	b.t.Helper()
	maps := b.Client().CoreV1().ConfigMaps(leaseNamespace)
	held, err := maps.Get(ctx, "yunikorn-configs", metav1.GetOptions{})
	b.do(err)
	good := held.Data["queues.yaml"]
	held.Data["queues.yaml"] = "partitions:\n- name: default\n  colour: red\n"
	if _, err = maps.Update(ctx, held, metav1.UpdateOptions{}); err == nil || !strings.Contains(err.Error(), "colour") {
		b.t.Errorf("a bad configuration: %v", err)
	}
	held.Data["queues.yaml"] = good + "# looked at\n"
	_, err = maps.Update(ctx, held, metav1.UpdateOptions{})
	b.do(err)
}

// awaitYuniKorn waits until its controller is asked, or is not asked any more.
func (b *beside) awaitYuniKorn(ctx context.Context, asked bool) {
	b.t.Helper()
	b.do(until(ctx, func() bool {
		before, _ := b.yunikorn.seen()
		_, err := b.ann().CoreV1().Pods("default").Create(ctx, unscheduled("dry"), dry)
		after, _ := b.yunikorn.seen()
		return err == nil && (after > before) == asked
	}))
}

// TestBesideYuniKornsAdmission: the replicas do no admission themselves.
func TestBesideYuniKornsAdmission(t *testing.T) {
	b := stageBeside(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	b.yunikorn.install(ctx, b.yunikorn.here)
	b.awaitYuniKorn(ctx, true)
	b.badConfiguration(ctx)
	b.users(ctx, "a")
	b.gang(ctx, "a", func() { b.failover(ctx) })
	b.users(ctx, "b")
	b.gang(ctx, "b", func() {})
	b.judge(ctx, "a", "b")
	if held, err := b.Client().AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, mutations, metav1.GetOptions{}); err != nil || len(held.Webhooks) != 1 {
		t.Errorf("somebody has changed YuniKorn's webhooks: %v, %v", held, err)
	}
}

// TestInPlaceOfYuniKornsAdmission: the replicas do admission, by webhook, and YuniKorn's
// controller starts beside them, or was left behind. Each takes over from the other, and no user
// notices who answers.
func TestInPlaceOfYuniKornsAdmission(t *testing.T) {
	b := stageBeside(t, config.AdmissionWebhook)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	b.do(b.AwaitAdmission(ctx))
	b.awaitAnn(ctx)
	b.users(ctx, "ours")
	b.gang(ctx, "ours", func() {
		b.yunikorn.install(ctx, b.yunikorn.here)
		b.awaitYuniKorn(ctx, true)
	})
	b.users(ctx, "theirs")
	b.gang(ctx, "theirs", func() { b.failover(ctx) })
	b.awaitYuniKorn(ctx, false)
	b.badConfiguration(ctx)
	b.users(ctx, "again")
	// A Service that is not there any more.
	b.yunikorn.install(ctx, b.yunikorn.left)
	b.do(b.AwaitAdmission(ctx))
	b.users(ctx, "left")
	b.gang(ctx, "again", func() {})
	b.gang(ctx, "left", func() {})
	b.judge(ctx, "ours", "theirs", "again", "left")
}

// TestPoliciesInPlaceOfYuniKornsAdmission: policies name users before YuniKorn's controller is
// asked, which refuses those that are named. So the replicas take its webhooks away, whenever it
// starts.
func TestPoliciesInPlaceOfYuniKornsAdmission(t *testing.T) {
	b := stageBeside(t, config.AdmissionPolicy)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	b.awaitAnn(ctx)
	for _, tag := range []string{"a", "b"} {
		b.yunikorn.install(ctx, b.yunikorn.here)
		b.do(until(ctx, func() bool {
			_, err := b.Client().AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, mutations, metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		}))
		b.awaitYuniKorn(ctx, false)
		b.users(ctx, tag)
		b.gang(ctx, tag, func() { b.failover(ctx) })
	}
	b.judge(ctx, "a", "b")
}
