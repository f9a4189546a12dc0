package api_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/yunikorn-core/pkg/webservice/dao"

	"github.com/understudy-ha/understudy/coordinator/api"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// records are an application that runs with a gang, one that waits elsewhere, and one that
// has ended.
func records() *ledger.Ledger {
	l := ledger.New()
	for _, app := range []*ledger.App{
		{
			ID: "runs", Queue: "root.asked", PlacedQueue: "root.a", User: "alice", Groups: []string{"dev"}, State: ledger.AppStateRunning,
			Submitted: 1_000_000_000, Started: 2_000_000_000, Originator: "t1",
			StateLog: []ledger.Transition{{State: ledger.AppStateRunning, At: 2_000_000_000}},
			Gang:     []ledger.GroupCount{{Name: "g", Wanted: 3, Replaced: 1, TimedOut: 2}},
		},
		{ID: "waits", Queue: "root.b", State: ledger.AppStateAccepted, Submitted: 3},
		{ID: "ended", Queue: "root.a", State: ledger.AppStateCompleted, Submitted: 4, Finished: 5},
	} {
		l.Apply(ledger.Change{Key: ledger.Key{AppID: app.ID}, App: app})
	}
	for _, task := range []*ledger.Task{
		{AppID: "runs", ID: "t1", State: ledger.TaskStateBound, Node: "n1", Submitted: 10, Allocated: 30, TaskGroup: "g", Placeholder: true, Resources: map[string]int64{"vcore": 1000}},
		{AppID: "runs", ID: "t2", State: ledger.TaskStateScheduling, Submitted: 11, Resources: map[string]int64{"vcore": 500}},
		{AppID: "runs", ID: "t3", State: ledger.TaskStateCompleted, Node: "n1", Resources: map[string]int64{"vcore": 500}},
	} {
		l.Apply(ledger.Change{Key: ledger.Key{AppID: task.AppID, TaskID: task.ID}, Task: task})
	}
	return l
}

func TestStaleAnswersAreTheViews(t *testing.T) {
	u := &understudy{standing: api.Standing{Replica: "r1", Epoch: 7, Revision: 40}, state: records()}
	url := u.serve(t)
	resp, body := send(t, http.MethodGet, url+part+"/queue/root.a/applications?stale", "")
	apps := decode[[]dao.ApplicationDAOInfo](t, body)
	if resp.StatusCode != http.StatusOK || len(apps) != 1 {
		t.Fatalf("%d: %s", resp.StatusCode, body)
	}
	const want = `[{"applicationID":"runs","usedResource":{"vcore":1000},"maxUsedResource":{"vcore":1000},"pendingResource":{"vcore":500},"partition":"default","queueName":"root.a",` +
		`"submissionTime":1000000000,"requests":[{"allocationKey":"t2","requestTime":11,"resource":{"vcore":500},"applicationId":"runs"}],` +
		`"allocations":[{"allocationKey":"t1","requestTime":10,"allocationTime":30,"allocationDelay":20,"resource":{"vcore":1000},"nodeId":"n1",` +
		`"applicationId":"runs","placeholder":true,"taskGroupName":"g","originator":true}],"applicationState":"Running","user":"alice","groups":["dev"],` +
		`"stateLog":[{"time":2000000000,"applicationState":"Running"}],"placeholderData":[{"taskGroupName":"g","count":3,"replaced":1,"timedout":2}],` +
		`"startTime":2000,"resourceHistory":{}}]` + "\n"
	if string(body) != want {
		t.Errorf("got  %s\nwant %s", body, want)
	}
	for header, want := range map[string]string{api.HeaderStale: "true", api.HeaderReplica: "r1", api.HeaderRevision: "40", api.HeaderEpoch: "7", "Content-Type": "application/json; charset=UTF-8"} {
		if got := resp.Header.Get(header); got != want {
			t.Errorf("%s is %q", header, got)
		}
	}
}

func TestStaleApplications(t *testing.T) {
	url := (&understudy{state: records()}).serve(t)
	for path, want := range map[string]int{
		part + "/application/runs?stale":                        http.StatusOK,
		part + "/application/ended?stale":                       http.StatusOK,
		part + "/queue/root.a/application/runs?stale":           http.StatusOK,
		part + "/queue/root.b/application/runs?stale":           http.StatusNotFound,
		part + "/application/none?stale":                        http.StatusNotFound,
		part + "/queue/no$/applications?stale":                  http.StatusBadRequest,
		part + "/queue/%2525zz/applications?stale":              http.StatusBadRequest,
		"/ws/v1/partition/none/application/runs?stale":          http.StatusNotFound,
		"/ws/v1/partition/none/queue/root.a/applications?stale": http.StatusNotFound,
		part + "/queue/root.none/applications?stale":            http.StatusOK, // the records do not know what queues there are
		part + "/nodes?stale":                                   http.StatusServiceUnavailable,
		part + "/application/runs":                              http.StatusServiceUnavailable,
	} {
		if resp, body := send(t, http.MethodGet, url+path, ""); resp.StatusCode != want {
			t.Errorf("%s: %d, want %d: %s", path, resp.StatusCode, want, body)
		}
	}
	resp, body := send(t, http.MethodGet, (&understudy{standing: api.Standing{Replica: "r1"}}).serve(t)+part+"/application/runs?stale", "")
	refusedFor(t, resp, body, "no view")
}

func TestStaleQueues(t *testing.T) {
	url := (&understudy{state: records()}).serve(t)
	resp, body := send(t, http.MethodGet, url+part+"/queues?stale", "")
	type queue struct {
		Name     string           `json:"queuename"`
		Used     map[string]int64 `json:"allocatedResource"`
		Leaf     bool             `json:"isLeaf"`
		Running  int              `json:"runningApps"`
		Parent   string           `json:"parent"`
		Children []queue          `json:"children"`
		Names    []string         `json:"childNames"`
	}
	want := queue{
		Name: "root", Used: map[string]int64{"vcore": 1000}, Running: 1, Names: []string{"root.a", "root.b"},
		Children: []queue{
			{Name: "root.a", Used: map[string]int64{"vcore": 1000}, Leaf: true, Running: 1, Parent: "root"},
			{Name: "root.b", Leaf: true, Parent: "root"},
		},
	}
	if got := decode[queue](t, body); resp.Header.Get(api.HeaderStale) != "true" || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%s", resp.Header, body)
	}
	_, body = send(t, http.MethodGet, (&understudy{state: ledger.New()}).serve(t)+part+"/queues?stale", "")
	if got := decode[queue](t, body); !reflect.DeepEqual(got, queue{Name: "root", Leaf: true}) {
		t.Errorf("without applications: %s", body)
	}
}

// TestALeadIsNeverStale: what may be old need not be.
func TestALeadIsNeverStale(t *testing.T) {
	w := theWorld(t)
	resp, _ := send(t, http.MethodGet, w.ours+part+"/queue/root.a/applications?stale", "")
	if resp.StatusCode != http.StatusOK || resp.Header.Get(api.HeaderStale) != "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

// TestEndedApplicationsAreInTheRecords: of those that ended before the lead led, the core
// knows nothing.
func TestEndedApplicationsAreInTheRecords(t *testing.T) {
	shared := theWorld(t)
	w := &world{engine: shared.engine, standing: shared.standing, records: records()}
	w.records.Apply(ledger.Change{Key: ledger.Key{AppID: "no"}, App: &ledger.App{ID: "no", Queue: "root.a", State: ledger.AppStateRejected, Message: "no queue"}})
	// One that the core knows as well.
	w.records.Apply(ledger.Change{Key: ledger.Key{AppID: "rejected"}, App: &ledger.App{ID: "rejected", State: ledger.AppStateRejected}})
	server := httptest.NewServer(api.New(api.Config{}, w, discard))
	defer server.Close()
	for state, want := range map[string]map[string]string{
		"completed": {"done": "Completed", "ended": "Completed"},
		"rejected":  {"rejected": "Rejected", "no": "Rejected"},
	} {
		_, body := send(t, http.MethodGet, server.URL+part+"/applications/"+state, "")
		got := map[string]string{}
		for _, app := range decode[[]dao.ApplicationDAOInfo](t, body) {
			if got[app.ApplicationID] != "" {
				t.Errorf("%s is listed twice", app.ApplicationID)
			}
			got[app.ApplicationID] = app.State
			if app.ApplicationID == "no" && app.RejectedMessage != "no queue" {
				t.Errorf("rejected for %q", app.RejectedMessage)
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", state, got, want)
		}
	}
}

// TestAnEndedApplicationWasCompleting: as in the core's log, between running and its end, since it had
// nothing to do.
func TestAnEndedApplicationWasCompleting(t *testing.T) {
	l := ledger.New()
	l.Apply(ledger.Change{Key: ledger.Key{AppID: "a"}, App: &ledger.App{
		ID: "a", Queue: "root.a", State: ledger.AppStateCompleted, Idle: 3, Finished: 4, StateLog: []ledger.Transition{
			{State: ledger.AppStateAccepted, At: 1}, {State: ledger.AppStateRunning, At: 2}, {State: ledger.AppStateCompleted, At: 4},
		},
	}})
	_, body := send(t, http.MethodGet, (&understudy{state: l}).serve(t)+part+"/application/a?stale", "")
	const want = `"stateLog":[{"time":1,"applicationState":"Accepted"},{"time":2,"applicationState":"Running"},` +
		`{"time":3,"applicationState":"Completing"},{"time":4,"applicationState":"Completed"}]`
	if !strings.Contains(string(body), want) {
		t.Errorf("%s\nwithout %s", body, want)
	}
}
