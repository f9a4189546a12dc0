package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/e2e/lab"
)

const (
	userInfo   = "yunikorn.apache.org/user.info"
	appID      = "yunikorn.apache.org/app-id"
	ignoreApp  = "yunikorn.apache.org/ignore-application"
	annInfo    = `{"user":"ann","groups":["dev","system:authenticated"]}`
	bobInfo    = `{"user":"bob","groups":["ops"]}`
	forbids    = "user ann with groups [dev,system:authenticated] is not allowed to set user annotation"
	jobService = "system:serviceaccount:kube-system:job-controller"
)

func TestAdmissionByWebhook(t *testing.T) { admits(t, config.AdmissionWebhook) }

func TestAdmissionByPolicy(t *testing.T) { admits(t, config.AdmissionPolicy) }

// admits asks a real API server whose replicas do admission in that mode.
func admits(t *testing.T, mode string) {
	s := onStage(t, 8*time.Second, 5*time.Second, func(o *lab.Options) { o.Admission = mode })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.do(s.AwaitAdmission(ctx))
	a := &admitting{stage: s, users: map[string]kubernetes.Interface{}}
	grant(t, s.Client(), "everybody", []rbacv1.PolicyRule{
		{APIGroups: []string{"", "apps", "batch"}, Resources: []string{"pods", "deployments", "jobs", "cronjobs"}, Verbs: []string{"create", "update", "get", "patch"}},
	}, rbacv1.Subject{Kind: rbacv1.GroupKind, Name: "system:authenticated"})
	for _, name := range []string{"off", "unlabelled"} {
		key := map[string]string{"off": "enableYuniKorn", "unlabelled": "generateAppId"}[name]
		_, err := s.Client().CoreV1().Namespaces().Create(ctx, &v1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: name, Annotations: map[string]string{"yunikorn.apache.org/namespace." + key: "false"},
		}}, metav1.CreateOptions{})
		s.do(err)
	}
	a.awaitAnn(ctx)
	t.Run("pods", a.pods)
	t.Run("pod_updates", a.podUpdates)
	t.Run("workloads", a.workloads)
	if mode == config.AdmissionWebhook {
		t.Run("config_maps", a.configMaps)
	}
	t.Run("while_replicas_go", a.whileReplicasGo)
}

type admitting struct {
	*stage
	users map[string]kubernetes.Interface
	// chance is how many of a hundred pods may escape while replicas go: none, unless a
	// Service chooses whom the API server asks.
	chance int64
}

// as is a client of somebody.
func (a *admitting) as(t *testing.T, user string, groups ...string) kubernetes.Interface {
	if a.users[user] == nil {
		cfg := a.RESTConfig()
		cfg.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
		a.users[user] = client(a.t, cfg)
	}
	return a.users[user]
}

func (a *admitting) ann() kubernetes.Interface { return a.as(a.t, "ann", "dev") }

// awaitAnn waits until ann may do what she is granted, and the guard is in force.
func (a *admitting) awaitAnn(ctx context.Context) {
	a.t.Helper()
	forged := unscheduled("forged")
	forged.Annotations = map[string]string{userInfo: bobInfo}
	a.do(until(ctx, func() bool {
		_, err := a.ann().CoreV1().Pods("default").Create(ctx, forged, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), forbids)
	}))
	// Policies come into force one by one.
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	a.do(until(ctx, func() bool {
		d, err := a.ann().AppsV1().Deployments("default").Create(ctx, deployment("dry", ""), dry)
		return err == nil && d.Spec.Template.Annotations[userInfo] == annInfo
	}))
	a.do(until(ctx, func() bool {
		_, err := a.ann().AppsV1().Deployments("default").Create(ctx, deployment("dry", bobInfo), dry)
		return err != nil && strings.Contains(err.Error(), forbids)
	}))
	a.do(until(ctx, func() bool {
		c, err := a.ann().BatchV1().CronJobs("default").Create(ctx, cronJob("dry"), dry)
		return err == nil && c.Spec.JobTemplate.Spec.Template.Annotations[userInfo] == annInfo
	}))
}

func (a *admitting) pods(t *testing.T) {
	const generated = "yunikorn-default-autogen"
	for i, c := range []struct {
		name, namespace, user string
		labels, annotations   map[string]string
		scheduler             string
		refused               string
		wantScheduler         string
		want                  map[string]string // labels and annotations, empty for one that is not there
	}{
		{name: "plain", wantScheduler: "yunikorn", want: map[string]string{appID: generated, "applicationId": generated, userInfo: annInfo, ignoreApp: ""}},
		{name: "overwritten", scheduler: "volcano", wantScheduler: "yunikorn", want: map[string]string{userInfo: annInfo}},
		{name: "labelled", labels: map[string]string{appID: "mine", "yunikorn.apache.org/queue": "root.default"}, annotations: map[string]string{"a.b/c_d": "d"},
			wantScheduler: "yunikorn", want: map[string]string{"applicationId": "mine", "queue": "root.default", "a.b/c_d": "d", userInfo: annInfo}},
		{name: "old labels", labels: map[string]string{"applicationId": "mine"}, wantScheduler: "yunikorn", want: map[string]string{appID: "", userInfo: annInfo}},
		{name: "off", namespace: "off", wantScheduler: "default-scheduler", want: map[string]string{appID: "", userInfo: ""}},
		{name: "off and asking", namespace: "off", scheduler: "yunikorn", wantScheduler: "yunikorn", want: map[string]string{appID: "", userInfo: annInfo}},
		{name: "unlabelled", namespace: "unlabelled", wantScheduler: "yunikorn", want: map[string]string{appID: "", userInfo: annInfo, ignoreApp: "true"}},
		{name: "system", namespace: "kube-system", wantScheduler: "default-scheduler", want: map[string]string{userInfo: ""}},
		{name: "forged", annotations: map[string]string{userInfo: bobInfo}, refused: forbids},
		{name: "forged where it is off", namespace: "off", annotations: map[string]string{userInfo: bobInfo}, refused: forbids},
		{name: "honest", annotations: map[string]string{userInfo: annInfo}, wantScheduler: "yunikorn", want: map[string]string{userInfo: annInfo}},
		{name: "by a controller", user: jobService, annotations: map[string]string{userInfo: bobInfo}, wantScheduler: "yunikorn", want: map[string]string{userInfo: bobInfo}},
		{name: "odd user", user: `o"b\r` + "\té,漢", wantScheduler: "yunikorn",
			want: map[string]string{userInfo: `{"user":"o\"b\\r\té,漢","groups":["system:authenticated"]}`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod := unscheduled(fmt.Sprintf("case-%d", i))
			pod.Labels, pod.Annotations, pod.Spec.SchedulerName = c.labels, c.annotations, c.scheduler
			client := a.ann()
			if c.user != "" {
				client = a.as(t, c.user)
			}
			namespace := "default"
			if c.namespace != "" {
				namespace = c.namespace
			}
			got, err := client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%v, want %s", err, c.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Spec.SchedulerName != c.wantScheduler {
				t.Errorf("schedulerName %s, want %s", got.Spec.SchedulerName, c.wantScheduler)
			}
			for key, want := range c.want {
				if have := got.Labels[key] + got.Annotations[key]; have != want {
					t.Errorf("%s is %q, want %q", key, have, want)
				}
			}
		})
	}
}

func (a *admitting) podUpdates(t *testing.T) {
	for _, c := range []struct{ name, namespace, patch, refused string }{
		{"something else", "default", `{"metadata":{"annotations":{"x":"y"}}}`, ""},
		{"changed", "default", `{"metadata":{"annotations":{"` + userInfo + `":"{\"user\":\"bob\"}"}}}`, "user info annotation change is not allowed"},
		{"taken away", "default", `{"metadata":{"annotations":{"` + userInfo + `":null}}}`, "user info annotation change is not allowed"},
		{"forged where it is off", "off", `{"metadata":{"annotations":{"` + userInfo + `":"{\"user\":\"bob\"}"}}}`, forbids},
	} {
		pods := a.ann().CoreV1().Pods(c.namespace)
		name := "update-" + strings.ReplaceAll(c.name, " ", "-")
		if _, err := pods.Create(t.Context(), unscheduled(name), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		_, err := pods.Patch(t.Context(), name, types.MergePatchType, []byte(c.patch), metav1.PatchOptions{})
		if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v, want %q", c.name, err, c.refused)
		}
	}
}

func (a *admitting) workloads(t *testing.T) {
	deployments := a.ann().AppsV1().Deployments("default")
	d, err := deployments.Create(t.Context(), deployment("told", ""), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Spec.Template.Annotations[userInfo]; got != annInfo {
		t.Errorf("created with %q", got)
	}
	if _, err := deployments.Create(t.Context(), deployment("forged", bobInfo), metav1.CreateOptions{}); err == nil || !strings.Contains(err.Error(), forbids) {
		t.Errorf("forged: %v", err)
	}
	night, err := a.ann().BatchV1().CronJobs("default").Create(t.Context(), cronJob("night"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := night.Spec.JobTemplate.Spec.Template.Annotations[userInfo]; got != annInfo {
		t.Errorf("CronJob created with %q", got)
	}
	// Somebody else replaces it with a file that knows nothing of the annotation.
	replacing := deployment("told", "")
	replacing.Spec.Template.Spec.Containers[0].Image = "another"
	d, err = a.as(t, "bob", "ops").AppsV1().Deployments("default").Update(t.Context(), replacing, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Spec.Template.Annotations[userInfo]; got != annInfo {
		t.Errorf("replaced, it has %q", got)
	}
	forging := deployment("told", bobInfo)
	if _, err := deployments.Update(t.Context(), forging, metav1.UpdateOptions{}); err == nil || !strings.Contains(err.Error(), forbids) {
		t.Errorf("forged later: %v", err)
	}
}

func (a *admitting) configMaps(t *testing.T) {
	maps := a.Client().CoreV1().ConfigMaps(leaseNamespace)
	held, err := maps.Get(t.Context(), "yunikorn-configs", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	good := held.Data["queues.yaml"]
	held.Data["queues.yaml"] = "partitions:\n- name: default\n  colour: red\n"
	if _, err = maps.Update(t.Context(), held, metav1.UpdateOptions{}); err == nil || !strings.Contains(err.Error(), "queues.yaml") || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("a bad configuration: %v", err)
	}
	held.Data["queues.yaml"] = good
	if _, err = maps.Update(t.Context(), held, metav1.UpdateOptions{}); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
}

// whileReplicasGo creates pods all the time, while the lead is killed and all replicas are
// restarted one after the other: none escapes, and none is refused.
func (a *admitting) whileReplicasGo(t *testing.T) {
	const (
		rate   = 50
		flying = 64 // at most, on a machine that is too slow for the rate
	)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var running sync.WaitGroup
	var created, escaped atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	var refusals []error
	stop := make(chan struct{})
	pods := a.ann().CoreV1().Pods("default")
	create := func(i int) {
		began := time.Now()
		pod, err := pods.Create(ctx, unscheduled(fmt.Sprintf("going-%d", i)), metav1.CreateOptions{})
		mu.Lock()
		defer mu.Unlock()
		took = append(took, time.Since(began))
		if err != nil {
			refusals = append(refusals, err)
			return
		}
		created.Add(1)
		if pod.Spec.SchedulerName != "yunikorn" || pod.Annotations[userInfo] != annInfo || pod.Labels[appID] == "" {
			escaped.Add(1)
		}
	}
	slots := make(chan struct{}, flying)
	running.Go(func() {
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-tick.C:
				slots <- struct{}{}
				running.Go(func() { create(i); <-slots })
			}
		}
	})
	awaitMore := func(n int64) {
		from := created.Load()
		a.do(until(ctx, func() bool { return created.Load() >= from+n }))
	}
	awaitMore(rate)
	first, err := a.Leader(ctx)
	a.do(err)
	a.do(a.Kill(first, syscall.SIGKILL))
	_, err = a.WaitLeader(ctx, first)
	a.do(err)
	replicas, err := a.Replicas()
	a.do(err)
	for _, r := range replicas {
		awaitMore(rate)
		a.do(a.Restart(r.Name))
		a.do(a.WaitReady(ctx))
	}
	awaitMore(rate)
	close(stop)
	running.Wait()
	for _, err := range refusals {
		if !apierrors.IsAlreadyExists(err) {
			t.Errorf("refused: %v", err)
		}
	}
	if n := escaped.Load(); n*100 > a.chance*created.Load() {
		t.Errorf("%d of %d pods have escaped", n, created.Load())
	}
	slices.Sort(took)
	t.Logf("%d pods created; p50 %v, p99 %v, most %v", created.Load(), took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}

// unscheduled is a pod that asks for no scheduler.
func unscheduled(name string) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "main", Image: "none"}}}}
}

// deployment is one whose template names a user, unless info is empty.
func deployment(name, info string) *appsv1.Deployment {
	labels := map[string]string{"a": "b"}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	d.Spec.Template.Labels = labels
	if info != "" {
		d.Spec.Template.Annotations = map[string]string{userInfo: info}
	}
	d.Spec.Template.Spec.Containers = unscheduled(name).Spec.Containers
	return d
}

func cronJob(name string) *batchv1.CronJob {
	c := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.CronJobSpec{Schedule: "0 0 * * *"}}
	c.Spec.JobTemplate.Spec.Template.Spec = unscheduled(name).Spec
	c.Spec.JobTemplate.Spec.Template.Spec.RestartPolicy = v1.RestartPolicyNever
	return c
}
