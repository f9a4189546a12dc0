package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/coordinator/api"
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

const appA = `{"applicationID": "a", "queueName": "root.x", "user": "alice", "applicationState": "Running", "usedResource": {"vcore": 1500, "memory": 67108864, "pods": 1},
 "pendingResource": {"vcore": 2000, "nvidia.com/gpu": 1},
 "requests": [{"allocationKey": "u2", "allocationTags": {"kubernetes.io/meta/podName": "p2", "kubernetes.io/meta/namespace": "ns"}, "resource": {"vcore": 2000},
  "allocationLog": [{"message": "first"}, {"message": "queue is full"}]}],
 "allocations": [{"allocationKey": "u1", "nodeId": "n1", "resource": {"vcore": 1500}}]}`

var scheduled = map[string]string{
	partition + "/applications/active":                    `[{"applicationID": "b", "queueName": "root.y", "applicationState": "New"}, ` + appA + `]`,
	partition + "/applications/completed":                 `[]`,
	partition + "/queue/root.x/applications/active":       `[` + appA + `]`,
	partition + "/queue/root.a%2540b/applications/active": `[]`,
	partition + "/application/a":                          appA,
	partition + "/queues": `{"queuename": "root", "status": "Active", "children": [{"queuename": "root.y", "status": "Draining", "maxResource": {"vcore": 4000}},
 {"queuename": "root.x", "status": "Active", "maxRunningApps": 3, "runningApps": 1, "allocatedResource": {"vcore": 1500}}]}`,
	api.PathExplain: `{"pod": "ns/p", "application": "a", "applicationState": "Running", "queue": "root.x", "user": "alice", "taskState": "Scheduling",
 "reason": "QueueQuota", "message": "queue root.x has not enough left", "unblock": ["pods end", "or the limit is raised"], "requests": {"vcore": "2", "pods": "1"},
 "limits": [{"kind": "queue", "queue": "root.x", "short": ["vcore"], "resources": [{"resource": "vcore", "asked": "2", "used": "3", "max": "4"}], "maxRunningApplications": 5, "runningApplications": 1}],
 "gang": [{"name": "g", "wanted": 3, "bound": 1}], "order": {"policy": "fifo", "priority": 7, "applicationsAhead": 1},
 "nodes": {"total": 3, "reasons": [{"reason": "Insufficient cpu", "nodes": 2, "example": "n1"}]},
 "state": "Running", "tasks": {"Bound": 4, "Scheduling": 2}, "waiting": [{"pods": 2, "pod": "ns/p", "requests": {"vcore": "2"}, "reason": "NoNode", "message": "0/3 nodes", "unblock": ["add a node"]}]}`,
	partition + "/nodes": `[{"nodeID": "n2", "schedulable": false}, {"nodeID": "n1", "schedulable": true, "isReserved": true, "allocated": {"vcore": 1500},
 "occupied": {"vcore": 100}, "available": {"vcore": 2400}, "allocations": [{}]}]`,
}

func TestWhatIsScheduled(t *testing.T) {
	up, busy := restOf(t, http.StatusOK, scheduled), restOf(t, http.StatusServiceUnavailable, nil)
	for name, c := range map[string]struct {
		args []string
		want []string // lines, with one space between cells
	}{
		"apps": {[]string{"apps"}, []string{
			"APPLICATION QUEUE STATE USER RUNS WAITS USED PENDING AGE",
			"a root.x Running alice 1 1 memory=64Mi,cpu=1500m nvidia.com/gpu=1,cpu=2 -", "b root.y New - 0 0 - - -",
		}},
		"apps of a queue":          {[]string{"apps", "--queue", "root.x"}, []string{"APPLICATION QUEUE STATE USER RUNS WAITS USED PENDING AGE", "a root.x Running alice 1 1 memory=64Mi,cpu=1500m nvidia.com/gpu=1,cpu=2 -"}},
		"apps of an odd queue":     {[]string{"apps", "--queue", "root.a@b"}, []string{"APPLICATION QUEUE STATE USER RUNS WAITS USED PENDING AGE"}},
		"apps that have completed": {[]string{"apps", "--state", "completed"}, []string{"APPLICATION QUEUE STATE USER RUNS WAITS USED PENDING AGE"}},
		"tasks": {[]string{"tasks"}, []string{
			"POD APPLICATION QUEUE NODE ASKED AGE WHY IT WAITS", "ns/p2 a root.x - cpu=2 - queue is full", "u1 a root.x n1 cpu=1500m -",
		}},
		"tasks of one": {[]string{"tasks", "a"}, []string{
			"POD APPLICATION QUEUE NODE ASKED AGE WHY IT WAITS", "ns/p2 a root.x - cpu=2 - queue is full", "u1 a root.x n1 cpu=1500m -",
		}},
		"queues": {[]string{"queues"}, []string{
			"QUEUE STATUS RUNS MOST USED PENDING GUARANTEED MAX", "root Active 0 - - - - -",
			"root.x Active 1 3 cpu=1500m - - -", "root.y Draining 0 - - - - cpu=4",
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
	var nodes []struct{ NodeID string }
	if json.Unmarshal([]byte(out), &nodes) != nil || status != exitOK || err != "" || len(nodes) != 2 {
		t.Errorf("exit %d, %s\n%s", status, err, out)
	}
}

func TestNobodyKnowsWhatIsScheduled(t *testing.T) {
	up, busy := restOf(t, http.StatusOK, scheduled), restOf(t, http.StatusServiceUnavailable, nil)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for want, args := range map[string][]string{
		"understudy: " + busy + ": out of order\n":       {"apps", "--server", busy},
		"understudy: " + up + ": Queue not found\n":      {"apps", "--queue", "none", "--server", up, "--server", busy}, // which would not know better
		"understudy: " + other.URL + ": 404 Not Found\n": {"nodes", "--server", other.URL},
	} {
		if status, out, err := invoke(t, args...); status != exitFailed || out != "" || err != want {
			t.Errorf("%q: exit %d, %q, %q, want %q", args, status, out, err, want)
		}
	}
}
