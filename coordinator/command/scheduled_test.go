package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/coordinator/api"
	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
)

// restOf serves answers by path; others are not found, in the words of the interface.
func restOf(t *testing.T, status int, answers map[string]string) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.URL.EscapedPath()]
		switch {
		case status != http.StatusOK:
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"status_code": %d, "message": "out of order"}`, status)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"status_code": 404, "message": "Queue not found"}`)
		default:
			fmt.Fprint(w, body)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

var scheduled = map[string]string{
	apiv1.Prefix + "applications": `{"items": [{"id": "b", "queue": "root.y", "state": "New"},
 {"id": "a", "queue": "root.x", "user": "alice", "state": "Running", "manager": "general", "namespace": "ns", "tasks": {"Bound": 1, "Scheduling": 2, "Completed": 5},
 "used": {"cpu": "1500m", "memory": "64Mi", "pods": "1"}, "pending": {"cpu": "2", "nvidia.com/gpu": "1"},
 "gang": [{"name": "g", "wanted": 3, "bound": 1, "replaced": 1}]}], "revision": 5, "epoch": 7}`,
	apiv1.Prefix + "tasks": `{"items": [{"id": "u2", "namespace": "ns", "name": "p2", "application": "a", "queue": "root.x", "state": "Scheduling", "requests": {"cpu": "2"},
 "waits": "queue is full"}, {"id": "u1", "namespace": "ns", "name": "p1", "application": "a", "queue": "root.x", "state": "Bound", "node": "n1", "requests": {"cpu": "1500m"}}]}`,
	apiv1.Prefix + "queues": `{"items": [{"name": "root", "state": "Active"}, {"name": "root.x", "state": "Active", "maxRunning": 3, "running": 1, "used": {"cpu": "1500m"}},
 {"name": "root.y", "state": "Draining", "max": {"cpu": "4"}}]}`,
	apiv1.Prefix + "users": `{"items": [{"name": "alice", "groups": ["dev"], "queues": ["root.x"], "applications": {"Running": 2, "Accepted": 1}, "tasks": {"Bound": 4, "New": 1},
 "used": {"cpu": "3"}}]}`,
	apiv1.Prefix + "terms": `{"items": [{"epoch": 6, "incarnation": "r1_W", "began": "2026-01-01T00:00:00Z", "ended": "2026-01-01T01:00:00Z", "endReason": "crashed"},
 {"epoch": 7, "incarnation": "r0_X", "began": "2026-01-01T01:00:00.1Z", "ended": "2026-01-01T01:01:00.1Z", "reason": "dead", "endReason": "handed over"}]}`,
	apiv1.Prefix + "failovers": `{"items": [{"epoch": 7, "leaderlessSeconds": 0.25, "leading": "2026-01-01T01:00:00.25Z"}]}`,
	api.PathExplain: `{"pod": "ns/p", "application": "a", "applicationState": "Running", "queue": "root.x", "user": "alice", "taskState": "Scheduling",
 "reason": "QueueQuota", "message": "queue root.x has not enough left", "unblock": ["pods end", "or the limit is raised"], "requests": {"vcore": "2", "pods": "1"},
 "limits": [{"kind": "queue", "queue": "root.x", "short": ["vcore"], "resources": [{"resource": "vcore", "asked": "2", "used": "3", "max": "4"}], "maxRunningApplications": 5, "runningApplications": 1}],
 "gang": [{"name": "g", "wanted": 3, "bound": 1}], "order": {"policy": "fifo", "priority": 7, "applicationsAhead": 1},
 "nodes": {"total": 3, "reasons": [{"reason": "Insufficient cpu", "nodes": 2, "example": "n1"}]},
 "state": "Running", "tasks": {"Bound": 4, "Scheduling": 2}, "waiting": [{"pods": 2, "pod": "ns/p", "requests": {"vcore": "2"}, "reason": "NoNode", "message": "0/3 nodes", "unblock": ["add a node"]}]}`,
	apiv1.Prefix + "nodes": `{"items": [{"name": "n1", "schedulable": true, "reserved": true, "allocated": {"cpu": "1500m"},
 "occupied": {"cpu": "100m"}, "available": {"cpu": "2400m"}, "tasks": 1}, {"name": "n2"}]}`,
}

// local is a while after 2026, as the table has it.
func local(after time.Duration) string {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(after).Local().Format(time.DateTime)
}

func TestWhatIsScheduled(t *testing.T) {
	up, busy := restOf(t, http.StatusOK, scheduled), restOf(t, http.StatusServiceUnavailable, nil)
	for name, c := range map[string]struct {
		args []string
		want []string // lines, with one space between cells
	}{
		"apps": {[]string{"apps"}, []string{
			"APPLICATION QUEUE STATE USER RUNS WAITS USED PENDING AGE",
			"a root.x Running alice 1 2 cpu=1500m,memory=64Mi cpu=2,nvidia.com/gpu=1 -", "b root.y New - 0 0 - - -",
		}},
		"apps, more of them": {[]string{"apps", "-o", "wide"}, []string{
			"APPLICATION QUEUE STATE USER RUNS WAITS USED PENDING AGE MANAGER NAMESPACE GANG MESSAGE",
			"a root.x Running alice 1 2 cpu=1500m,memory=64Mi cpu=2,nvidia.com/gpu=1 - general ns g=2/3 -", "b root.y New - 0 0 - - - - - - -",
		}},
		"names":     {[]string{"apps", "-o", "name"}, []string{"a", "b"}},
		"pods":      {[]string{"tasks", "-o", "name"}, []string{"ns/p2", "ns/p1"}},
		"as a list": {[]string{"nodes", "-o", "yaml"}, []string{"- allocated:", "cpu: 1500m", "available:", "cpu: 2400m", "foreignPods: 0", "name: n1", "occupied:", "cpu: 100m", "reserved: true", "schedulable: true", "tasks: 1", "- foreignPods: 0", "name: n2", "reserved: false", "schedulable: false", "tasks: 0"}},
		"tasks": {[]string{"tasks", "a"}, []string{
			"POD APPLICATION QUEUE STATE NODE ASKED AGE WHY IT WAITS", "ns/p2 a root.x Scheduling - cpu=2 - queue is full", "ns/p1 a root.x Bound n1 cpu=1500m - -",
		}},
		"queues": {[]string{"queues"}, []string{
			"QUEUE STATE RUNS MOST USED PENDING GUARANTEED MAX", "root Active 0 - - - - -",
			"root.x Active 1 3 cpu=1500m - - -", "root.y Draining 0 - - - - cpu=4",
		}},
		"users": {[]string{"users", "-o", "wide"}, []string{
			"USER APPLICATIONS RUNS WAITS USED PENDING GROUPS QUEUES", "alice 3 4 1 cpu=3 - dev root.x",
		}},
		"history": {[]string{"history", "-o", "wide"}, []string{
			"EPOCH LEAD BEGAN LASTED WHY ENDED NOBODY LED PROMOTION", "6 r1_W " + local(0) + " 1h0m0s - crashed - -",
			"7 r0_X " + local(time.Hour) + " 1m0s dead handed over 250ms 150ms",
		}},
		"explain a pod": {[]string{"explain", "pod", "ns/p"}, []string{
			"Pod ns/p", "Application a, Running, queue root.x, user alice", "Task Scheduling", "Requests vcore=2", "Reason QueueQuota",
			"queue root.x has not enough left", "What helps pods end", "or the limit is raised", "Gang g: 1 of 3 bound, 0 replaced, 0 timed out",
			"Order fifo, priority 7; 1 applications of the queue and 0 pods of its own come first", "",
			"LIMIT IN QUEUE OF ASKED USED MAX GUARANTEED", "queue root.x vcore 2 3 4 - not enough", "queue root.x running applications - 1 5 -", "",
			"NODES REASON SUCH AS", "2 of 3 Insufficient cpu n1",
		}},
		"explain an application": {[]string{"explain", "app", "a"}, []string{
			"Application a, queue root.x, user alice", "State Running", "queue root.x has not enough left", "Pods 4 Bound, 2 Scheduling", "",
			"2 wait such as ns/p: vcore=2", "Reason NoNode", "0/3 nodes", "What helps add a node",
		}},
		"nodes": {[]string{"nodes"}, []string{
			"NODE SCHEDULABLE PODS ALLOCATED OCCUPIED AVAILABLE RESERVED", "n1 yes 1 cpu=1500m cpu=100m cpu=2400m yes", "n2 no 0 - - - no",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			status, out, err := invoke(t, append(c.args, "--server", busy, "--server", up)...)
			var got []string
			for line := range strings.Lines(out) {
				got = append(got, strings.Join(strings.Fields(line), " "))
			}
			if want := strings.Join(c.want, "\n"); status != exitOK || err != "" || strings.Join(got, "\n") != want {
				t.Errorf("exit %d, %s\n%s\nwant\n%s", status, err, strings.Join(got, "\n"), want)
			}
		})
	}
}

func TestWhatIsScheduledInJSON(t *testing.T) {
	up := restOf(t, http.StatusOK, scheduled)
	dir := filepath.Dir(file(t, "state.json", fmt.Sprintf(`{"processes": [{"name": "etcd-0", "kind": "etcd", "http": "http://127.0.0.1:1"},
 {"name": "understudy-0", "kind": "replica", "http": "http://127.0.0.1:1", "rest": %q}]}`, up)))
	status, out, err := invoke(t, "nodes", "--lab", dir, "-o", "json")
	var nodes []apiv1.Node
	if json.Unmarshal([]byte(out), &nodes) != nil || status != exitOK || err != "" || len(nodes) != 2 {
		t.Errorf("exit %d, %s\n%s", status, err, out)
	}
}

func TestNobodyKnowsWhatIsScheduled(t *testing.T) {
	none, busy := restOf(t, http.StatusOK, nil), restOf(t, http.StatusServiceUnavailable, nil)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for want, args := range map[string][]string{
		"understudy: " + busy + ": out of order\n":       {"apps", "--server", busy},
		"understudy: " + none + ": Queue not found\n":    {"nodes", "--server", none, "--server", busy}, // which would not know better
		"understudy: " + other.URL + ": 404 Not Found\n": {"nodes", "--server", other.URL},
	} {
		if status, out, err := invoke(t, args...); status != exitFailed || out != "" || err != want {
			t.Errorf("%q: exit %d, %q, %q, want %q", args, status, out, err, want)
		}
	}
}
