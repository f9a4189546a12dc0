package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/api"
	"github.com/understudy-ha/understudy/coordinator/explain"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// explained is the world with records of what waits in it.
type explained struct {
	*world
	records *ledger.Ledger
}

func (e explained) Read(_ context.Context, read func(*ledger.Ledger)) bool {
	read(e.records)
	return true
}

// Pod returns the pod that the engine has, or one that it has not been asked for.
func (e explained) Pod(namespace, name string) *v1.Pod {
	if pod := e.world.Pod(namespace, name); pod != nil || !strings.HasPrefix(name, "waits-") {
		return pod
	}
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(name)}}
}

// recordsOfWaiting are those of two applications that run and of one whose gang does not come about.
func recordsOfWaiting(w *world) *ledger.Ledger {
	l := ledger.New()
	add := func(app, queue, state string, tasks ...*ledger.Task) {
		l.Apply(ledger.Change{Key: ledger.Key{AppID: app}, App: &ledger.App{
			ID: app, State: ledger.AppState(state), PlacedQueue: queue, User: "alice", Gang: []ledger.GroupCount{{Name: "g", Wanted: 3, Bound: 1}},
		}})
		for _, task := range tasks {
			l.Apply(ledger.Change{Key: ledger.Key{AppID: app, TaskID: task.ID}, Task: task})
		}
	}
	task := func(app, id string) *ledger.Task {
		return &ledger.Task{
			AppID: app, ID: id, Namespace: "default", Name: id, State: ledger.TaskStateScheduling,
			Resources: map[string]int64{"vcore": 2000}, Submitted: 1,
		}
	}
	holder, real := task("small", "quota"), task("small", "waits-for-it")
	holder.Placeholder, real.State, real.Submitted = true, ledger.TaskStateNew, 2
	victim := task("small", "victim")
	victim.State, victim.Termination, victim.Message = ledger.TaskStateKilled, ledger.PreemptedByEngine, ledger.PreemptedFor(holder)
	add("small", "root.small", "Reserving", holder, real, victim)
	second, third := task("dynamic", "waits-second"), task("dynamic", "waits-third")
	second.Submitted, third.Submitted = 2, 3
	add("dynamic", "root.dyn.default", "Running", task("dynamic", "nowhere"), third, second)
	return l
}

func asked[T any](t *testing.T, url string) (status int, answer T) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
	}
	return resp.StatusCode, answer
}

// TestExplain: a lead explains pods and applications from its records and its core; an understudy
// has it explain, or tells what the records have.
func TestExplain(t *testing.T) {
	w := theWorld(t)
	lead := httptest.NewServer(api.New(api.Config{Scheme: "http"}, explained{w, recordsOfWaiting(w)}, discard))
	t.Cleanup(lead.Close)
	follower := behind(lead.URL)
	follower.state = recordsOfWaiting(w)
	understudy := follower.serve(t)
	of := func(kind, name string) string { return api.PathExplain + "?" + url.Values{kind: {name}}.Encode() }

	for _, server := range []string{lead.URL, understudy} {
		for pod, want := range map[string]explain.Explanation{
			"quota":   {Reason: explain.QueueQuota, Message: "queue root.small has not enough left; vcore: asked 2, used 0 of 1"},
			"nowhere": {Reason: explain.NoNode, Message: "0/3 nodes are available"},
		} {
			status, x := asked[explain.Explanation](t, server+of("pod", "default/"+pod))
			if status != http.StatusOK || x.Reason != want.Reason || !strings.Contains(x.Message, want.Message) || x.Pod != "default/"+pod {
				t.Errorf("%s: %d, %+v", pod, status, x)
			}
		}
		status, x := asked[api.ApplicationExplanation](t, server+of("application", "dynamic"))
		if status != http.StatusOK || x.State != "Running" || fmt.Sprint(x.Tasks) != "map[Scheduling:3]" ||
			len(x.Waiting) != 2 || x.Waiting[0].Pods != 1 || x.Waiting[0].Pod != "default/nowhere" || x.Waiting[0].Reason != explain.NoNode ||
			x.Waiting[1].Pods != 2 || x.Waiting[1].Pod != "default/waits-second" || x.Waiting[1].Estimate == nil {
			t.Errorf("%d, %+v", status, x)
		}
		for queue, want := range map[string]int{"root": 5, "root.dyn": 3, "root.dyn.default": 3, "root.small": 2} {
			status, x := asked[api.QueueExplanation](t, server+of("queue", queue))
			waiting := x.More
			for _, group := range x.Waiting {
				waiting += group.Pods
			}
			if status != http.StatusOK || x.Queue != queue || waiting != want {
				t.Errorf("%s: %d, %+v", queue, status, x)
			}
		}
	}
	_, x := asked[api.ApplicationExplanation](t, lead.URL+of("application", "small"))
	if len(x.Waiting) != 2 || x.Waiting[1].Reason != explain.GangIncomplete ||
		!strings.Contains(x.Waiting[1].Message, "1 of 3 of task group g") || x.Waiting[1].Placeholder == nil ||
		x.Waiting[1].Placeholder.Pod != "default/quota" || x.Waiting[1].Placeholder.Reason != explain.QueueQuota {
		t.Errorf("gang: %+v", x)
	}
	for _, url := range []string{lead.URL + of("pod", "default/victim"), understudy + of("pod", "default/victim"), understudy + of("pod", "default/victim") + "&stale"} {
		status, x := asked[explain.Explanation](t, url)
		want := explain.Party{Pod: "default/quota", Application: "small", Queue: "root.small", User: "alice"}
		if status != http.StatusOK || x.Reason != explain.Preempted || x.For == nil || *x.For != want {
			t.Errorf("%s: %d, %+v", url, status, x)
		}
	}
	_, stale := asked[explain.Explanation](t, understudy+of("pod", "default/nowhere")+"&stale")
	if stale.Reason == explain.NoNode || stale.TaskState != "Scheduling" {
		t.Errorf("without an engine: %+v", stale)
	}
	for query, want := range map[string]int{
		"": 400, "?pod=": 400, "?pod=p": 400, "?pod=a/b/c": 400, "?pod=/p": 400, "?pod=ns/p&application=a": 400,
		"?pod=default/unknown": 404, "?queue=root.none": 404, "?queue=root.d": 404, "?queue=root&application=a": 400, "?application=unknown": 404, "?application=" + strings.Repeat("x", 10_000): 404, "?pod=default/..%2F..": 400,
	} {
		if status, _ := asked[any](t, lead.URL+api.PathExplain+query); status != want {
			t.Errorf("%.40s: %d, want %d", query, status, want)
		}
	}
}
