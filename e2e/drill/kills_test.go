package drill

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// lives is one object of each manager, in a namespace of its own, and what is known of it.
type lives struct {
	*managed
	namespace string
	// named are the names of all that has a UID, as they are compared.
	named map[string]string
	job   *unstructured.Unstructured
}

// account is what can be seen of lives: records, statuses, and Events, in words that do
// not depend on the namespace, on UIDs, and on when something happened.
type account map[string]string

// TestTheLeadIsKilledAtEachState: objects of all managers go through their states, and the
// lead is killed at each of these. Records, statuses and Events are those of objects that
// went through the same states before, while nobody was killed.
func TestTheLeadIsKilledAtEachState(t *testing.T) {
	t.Parallel()
	m := enable(t, enabledManagers, func(change func(*lab.Options)) *lab.Lab { return up(t, change) })
	m.serveSpark()
	calm, killed := &lives{managed: m, namespace: "calm-ns"}, &lives{managed: m, namespace: "killed-ns"}
	want := make([]account, len(states))
	for i, s := range states {
		s.reach(calm)
		want[i] = calm.settled(s.shows)
	}
	for i, s := range states {
		s.reach(killed)
		killed.await("reached "+s.name, want[i])
		m.killLead(nil)
		killed.await("the lead killed at "+s.name, want[i])
	}
}

// anApp begins what an account says of an application.
const anApp = "app "

// states are those that the objects go through. shows is something that tells that an
// account is that of the state, as it has so much of it.
var states = []struct {
	name  string
	reach func(*lives)
	shows map[string]int
}{
	{"created", (*lives).create, map[string]int{anApp: 2}},
	{"pods wait", (*lives).createPods, map[string]int{anApp: 4, "FailedScheduling": 5}},
	{"running", (*lives).run, map[string]int{`"State":"Bound"`: 5}},
	{"ending", (*lives).end, map[string]int{`"State":"Completed"`: 2, `"State":"Failing"`: 1}},
}

// create makes the objects.
func (l *lives) create() {
	l.t.Helper()
	l.named = map[string]string{}
	_, err := l.Client().CoreV1().Namespaces().Create(l.ctx, &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: l.namespace}}, metav1.CreateOptions{})
	l.do(err)
	here := func(o *unstructured.Unstructured) { o.SetNamespace(l.namespace) }
	for _, text := range []string{application, sparkApplication, job} {
		made := l.make(text, here, func(o *unstructured.Unstructured) { unstructured.RemoveNestedField(o.Object, "status") })
		l.named[string(made.GetUID())] = made.GetName()
		l.job = made
	}
}

// createPods makes a pod of each object, and two that no object tells of, for which no
// node has a place yet.
func (l *lives) createPods() {
	l.t.Helper()
	plain := func(p *v1.Pod) { p.Labels = map[string]string{oldAppLabel: "plain-" + l.namespace} }
	for _, pod := range []struct {
		name string
		edit func(*v1.Pod)
	}{
		{"plain", plain}, // the originator, as it is the first
		{"stays", plain},
		{"report", func(p *v1.Pod) { p.Labels = map[string]string{appLabel: l.namespace + "-report"} }},
		{"driver", sparkPod("spark-"+l.namespace, "driver")},
		{"sums", jobPod(l.job)},
	} {
		made, err := l.Client().CoreV1().Pods(l.namespace).Create(l.ctx, podOf("", pod.name, pod.edit, func(p *v1.Pod) {
			p.Namespace, p.Spec.NodeSelector = l.namespace, map[string]string{"for": l.namespace}
		}), metav1.CreateOptions{})
		l.do(err)
		l.named[string(made.UID)] = pod.name
	}
	l.spark("SUBMITTED")
}

// run gives the pods a node.
func (l *lives) run() {
	l.t.Helper()
	nodes, err := l.Client().CoreV1().Nodes().List(l.ctx, metav1.ListOptions{})
	l.do(err)
	patch := fmt.Sprintf(`{"metadata":{"labels":{"for":%q}}}`, l.namespace)
	_, err = l.Client().CoreV1().Nodes().Patch(l.ctx, nodes.Items[0].Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	l.do(err)
	l.spark("RUNNING")
}

// end completes the attempt and the Job, deletes the Application while its pod runs, and
// one of the pods without an object.
func (l *lives) end() {
	l.t.Helper()
	l.spark("COMPLETED")
	now := time.Now().UTC().Format(time.RFC3339)
	l.do(l.objects.ApplyStatus(l.ctx, l.here(job), map[string]any{
		"startTime": now, "completionTime": now, "succeeded": int64(1),
		"uncountedTerminatedPods": map[string]any{},
		"conditions": []any{
			map[string]any{"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": now},
			map[string]any{"type": "Complete", "status": "True", "lastTransitionTime": now},
		},
	}))
	l.do(l.objects.Delete(l.ctx, l.here(application)))
	l.do(l.Client().CoreV1().Pods(l.namespace).Delete(l.ctx, "plain", metav1.DeleteOptions{}))
}

func (l *lives) spark(state string) {
	l.t.Helper()
	l.do(l.objects.ApplyStatus(l.ctx, l.here(sparkApplication), map[string]any{
		"sparkApplicationId": "spark-" + l.namespace, "applicationState": map[string]any{"state": state},
	}))
}

// here is an object in the namespace.
func (l *lives) here(text string) *unstructured.Unstructured {
	object := decoded(text)
	object.SetNamespace(l.namespace)
	return object
}

// account says what can be seen.
func (l *lives) account() (account, error) {
	apps, tasks, err := mirrored(l.ctx, l.Lab)
	if err != nil {
		return nil, err
	}
	a := account{}
	for id, app := range apps {
		if l.mine(id) {
			a[anApp+id] = shown(withoutTimes(*app))
		}
		for _, t := range tasks[id] {
			if t.Namespace == l.namespace {
				task := *t
				task.Submitted, task.Allocated, task.Bound, task.NextAttempt, task.Retries, task.Trace = 0, 0, 0, 0, 0, ""
				a["task "+task.ID] = shown(task)
			}
		}
	}
	object, err := l.objects.Get(l.ctx, l.here(application))
	if err == nil {
		status, _, _ := unstructured.NestedMap(object.Object, "status")
		delete(status, "lastUpdate")
		a["status report"] = shown(status)
	}
	events, err := l.Client().CoreV1().Events(l.namespace).List(l.ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for i := range events.Items {
		e := &events.Items[i]
		key := fmt.Sprintf("event %s %s %s: %s", e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)
		a[key] += "told " // more than once is not the same
	}
	return l.renamed(a), nil
}

func (l *lives) mine(app string) bool {
	return strings.Contains(app, l.namespace)
}

func withoutTimes(app ledger.App) ledger.App {
	app.StateLog = slices.Clone(app.StateLog)
	for i := range app.StateLog {
		app.StateLog[i].At = 0
	}
	app.Consumed = slices.Clone(app.Consumed)
	for i := range app.Consumed {
		app.Consumed[i].ResourceSeconds = nil
	}
	app.Submitted, app.PlaceholderDeadline, app.Started, app.Finished, app.Idle, app.Trace = 0, 0, 0, 0, 0, ""
	return app
}

func shown(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// renamed replaces what differs from namespace to namespace.
func (l *lives) renamed(a account) account {
	pairs := []string{l.namespace, "NAMESPACE"}
	for uid, name := range l.named {
		short, _, _ := strings.Cut(uid, "-")
		pairs = append(pairs, uid, name, short, name)
	}
	same := strings.NewReplacer(pairs...)
	out := account{}
	for key, text := range a {
		out[same.Replace(key)] = same.Replace(text)
	}
	return out
}

// settled returns the account of the state as soon as it shows what it has to, and does
// not change any more.
func (l *lives) settled(shows map[string]int) account {
	l.t.Helper()
	var last account
	since := time.Now()
	err := await(l.ctx, "an account that does not change", func() (bool, error) {
		now, err := l.account()
		if err != nil {
			return false, err
		}
		if !maps.Equal(now, last) {
			last, since = now, time.Now()
		}
		text := lines(now)
		for what, n := range shows {
			if strings.Count(text, what) < n {
				return false, nil
			}
		}
		return time.Since(since) > 2*time.Second, nil
	})
	if err != nil {
		l.t.Fatalf("%v: it is\n%s", err, lines(last))
	}
	return last
}

// await waits until the account is as it was without a kill.
func (l *lives) await(where string, want account) {
	l.t.Helper()
	var got account
	err := await(l.ctx, where, func() (equal bool, err error) {
		got, err = l.account()
		return maps.Equal(got, want), err
	})
	if err == nil {
		return
	}
	l.t.Error(err)
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if got[key] != want[key] {
			l.t.Errorf("%s\nis   %s\nwant %s", key, got[key], want[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] == "" {
			l.t.Errorf("%s\nis missing: %s", key, want[key])
		}
	}
	l.t.FailNow()
}

func lines(a account) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(a)) {
		fmt.Fprintf(&b, "%s: %s\n", key, a[key])
	}
	return b.String()
}
