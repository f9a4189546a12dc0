package api_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/yunikorn-core/pkg/webservice/dao"

	"github.com/understudy-ha/understudy/coordinator/api"
)

func stringReader(s string) io.Reader { return strings.NewReader(s) }

// answer is what a client sees of an answer, in an order that does not depend on chance: the
// core lists what it keeps in maps.
type answer struct {
	status  int
	headers string
	body    string
}

func answered(resp *http.Response, body []byte) answer {
	compressed := resp.Header.Get("Content-Encoding") != ""
	if compressed {
		if in, err := gzip.NewReader(bytes.NewReader(body)); err == nil {
			body, _ = io.ReadAll(in)
		}
	}
	full := resp.Header.Get("Content-Length") == strconv.Itoa(len(body))
	// Rejected applications are expired after a second: see package engine.
	body = bytes.ReplaceAll(body, []byte("Expired"), []byte("Rejected"))
	if full {
		resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	var headers []string
	for name, values := range resp.Header {
		// How long what is compressed gets depends on the order of lists.
		if name == "Date" || strings.HasPrefix(name, "X-Understudy-") || name == "Content-Length" && compressed {
			continue
		}
		headers = append(headers, fmt.Sprintf("%s: %q", name, values))
	}
	slices.Sort(headers)
	return answer{resp.StatusCode, strings.Join(headers, "\n"), ordered(body)}
}

// ordered returns JSON with the elements of lists in order, and the bytes of the text in
// order: what has the same of both is the same but for the order of lists.
func ordered(body []byte) string {
	var value any
	in := json.NewDecoder(bytes.NewReader(body))
	in.UseNumber()
	if in.Decode(&value) != nil {
		return string(body)
	}
	if dump, ok := value.(map[string]any); ok && dump["timestamp"] != nil && dump["clusterInfo"] != nil {
		delete(dump, "timestamp") // of a state dump
		// Of rejected applications the records tell, in less words.
		apps, _ := dump["applications"].([]any)
		dump["applications"] = slices.DeleteFunc(apps, func(app any) bool { return app.(map[string]any)["applicationState"] == "Rejected" })
		body = nil
	}
	out, _ := json.MarshalIndent(sorted(value), "", " ")
	slices.Sort(body)
	return string(out) + string(body)
}

func sorted(value any) any {
	switch x := value.(type) {
	case string:
		if head, list, ok := strings.Cut(x, "statuses are allowed: "); ok {
			names := strings.Split(list, ",")
			slices.Sort(names)
			return head + strings.Join(names, ",")
		}
	case map[string]any:
		for key, inner := range x {
			x[key] = sorted(inner)
		}
	case []any:
		for i, inner := range x {
			x[i] = sorted(inner)
		}
		slices.SortFunc(x, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	return value
}

// same compares the answers to a request. What the core says may change at any moment, so
// that it is asked before and after.
func (w *world) same(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	var got, want answer
	for range 200 {
		before := answered(send(t, method, w.core+path, body, headers...))
		got = answered(send(t, method, w.ours+path, body, headers...))
		want = answered(send(t, method, w.core+path, body, headers...))
		if before != want {
			continue
		}
		if got != want {
			t.Errorf("%s %s\ngot  %d\n%s\n%s\nwant %d\n%s\n%s", method, short(path),
				got.status, got.headers, short(got.body), want.status, want.headers, short(want.body))
		}
		return got
	}
	t.Errorf("%s %s: the core never said the same twice", method, short(path))
	return got
}

func short(s string) string {
	if len(s) > 3000 {
		return s[:3000] + "…"
	}
	return s
}

const part = "/ws/v1/partition/default"

// endpoints are those that have something to tell, with what has to be in the answer: the
// test would prove little if the core had nothing to say.
var endpoints = map[string][]string{
	"/ws/v1/clusters": {
		`"startTime"`, `"rmBuildInformation"`, `"buildVersion": "test"`, `"goVersion"`, `"arch"`, `"isPluginVersion"`,
		`"rmId"`, `"clusterName": "kubernetes"`, `"partition": "default"`,
	},
	"/ws/v1/partitions": {
		`"clusterId"`, `"capacity"`, `"usedCapacity"`, `"utilization"`, `"type": "binpacking"`, `"resourceWeights"`,
		`"preemptionEnabled": true`, `"quotaPreemptionEnabled": true`, `"totalNodes": 3`, `"total"`, `"Rejected": 1`,
		`"totalContainers"`, `"state": "Active"`, `"lastStateTransitionTime"`,
	},
	"/ws/v1/history/apps":       {`"timestamp"`, `"totalApplications": "4"`},
	"/ws/v1/history/containers": {`"timestamp"`, `"totalContainers": "6"`},
	part + "/placementrules":    {`"name": "provided"`, `"type": "allow"`, `"userList"`, `"groupList"`, `"userExp"`, `"parentRule"`, `"parameters"`},
	part + "/queues": {
		`"queuename": "root"`, `"status": "Active"`, `"pendingResource"`, `"maxResource"`, `"guaranteedResource"`, `"allocatedResource"`,
		`"headroom"`, `"isLeaf"`, `"isManaged": false`, `"properties"`, `"parent"`, `"template"`, `"children"`, `"childNames"`,
		`"absUsedCapacity"`, `"maxRunningApps"`, `"runningApps"`, `"currentPriority"`, `"sortingPolicy"`, `"prioritySorting"`,
		`"preemptionEnabled"`, `"isPreemptionFence": true`, `"preemptionDelay": "10s"`, `"isPriorityFence": true`, `"priorityOffset": 3`,
	},
	part + "/queue/root":         {`"queuename": "root"`},
	part + "/queue/root?subtree": {`"children"`},
	part + "/queue/root.a":       {`"queuename": "root.a"`},
	part + "/queue/root.A":       {},
	part + "/queue/root%2Ea":     {`"queuename": "root.a"`},
	part + "/queue/root%252Ea":   {`"queuename": "root.a"`},
	part + "/nodes": {
		`"nodeID": "n1"`, `"hostName"`, `"attributes"`, `"capacity"`, `"allocated"`, `"occupied"`, `"available"`, `"utilized"`,
		`"allocations"`, `"foreignAllocations"`, `"preemptable"`, `"schedulable": false`, `"isReserved": true`, `"reservations"`,
	},
	part + "/node/n1": {`"nodeID": "n1"`},
	part + "/queue/root.a/applications": {
		`"applicationID": "plain"`, `"usedResource"`, `"maxUsedResource"`, `"pendingResource"`, `"queueName": "root.a"`, `"submissionTime"`,
		`"requests"`, `"allocations"`, `"applicationState": "Running"`, `"user": "alice"`, `"groups"`, `"stateLog"`, `"placeholderData"`,
		`"replaced": 1`, `"hasReserved": true`, `"reservations"`, `"maxRequestPriority": 5`, `"startTime"`, `"resourceHistory"`, `"allocationTags"`,
		`"kubernetes.io/meta/podName"`, `"kubernetes.io/meta/namespace"`, `"placeholderUsed": true`, `"placeholder": true`, `"taskGroupName"`,
		`"allocationDelay"`, `"originator"`, `"schedulingAttempted"`,
	},
	part + "/queue/root.small/applications":               {`"allocationLog"`, `"lastOccurrence"`, `"count"`, `"message"`},
	part + "/queue/root.dyn.default/applications":         {`"requiredNodeId": "n3"`, `"user": "carol"`},
	part + "/queue/root.dyn/applications":                 {},
	part + "/queue/root/applications":                     {},
	part + "/queue/root.a/application/plain":              {`"applicationID": "plain"`},
	part + "/application/gang":                            {`"applicationID": "gang"`},
	part + "/applications/active":                         {`"applicationID": "dynamic"`},
	part + "/applications/ACTIVE?status=Running":          {`"applicationID": "plain"`},
	part + "/applications/active?status=completing":       {},
	part + "/applications/completed":                      {`"applicationID": "done"`, `"finishedTime"`},
	part + "/queue/root.a/applications/active":            {`"applicationID": "plain"`},
	part + "/queue/root.a/applications/active?status=nEw": {},
	part + "/usage/users":                                 {`"userName": "alice"`, `"groups"`, `"queues"`, `"resourceUsage"`, `"runningApplications"`, `"maxResources"`, `"maxApplications"`},
	part + "/usage/user/alice":                            {`"userName": "alice"`},
	part + "/usage/groups":                                {`"groupName": "dev"`, `"applications"`},
	part + "/usage/group/dev":                             {`"groupName": "dev"`},
	"/ws/v1/partition/none/usage/users":                   {`"userName": "alice"`},
	"/ws/v1/events/batch":                                 {`"InstanceUUID"`, `"LowestID"`, `"HighestID"`, `"EventRecords"`},
	"/ws/v1/events/batch?count=3&start=2":                 {`"EventRecords"`},
	"/ws/v1/scheduler/healthcheck":                        {`"Healthy"`, `"HealthChecks"`, `"Name"`, `"Succeeded"`, `"Description"`, `"DiagnosisMessage"`},
	"/ws/v1/scheduler/node-utilizations":                  {`"clusterId"`, `"bucketName": "0-10%"`, `"numOfNodes"`, `"nodeNames"`, `"utilization"`},
	"/debug/fullstatedump": {
		`"partitions"`, `"applications"`, `"appHistory"`, `"nodes"`, `"nodesInfo"`, `"clusterInfo"`, `"containerHistory"`, `"queues"`,
		`"rmDiagnostics"`, `"logLevel"`, `"config"`, `"placementRules"`,
	},
}

// TestAnswersAreTheCores compares every endpoint with the core's own web service before the
// same objects: status, headers and bytes.
func TestAnswersAreTheCores(t *testing.T) {
	w := theWorld(t)
	if err := until("a first health check", func() bool { return w.engine.Cluster().GetLastHealthCheckResult() != nil }); err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Sorted(maps.Keys(endpoints)) {
		got := w.same(t, http.MethodGet, path, "")
		if got.status != http.StatusOK {
			t.Errorf("%s: %d", path, got.status)
		}
		for _, want := range endpoints[path] {
			if !strings.Contains(got.body, want) {
				t.Errorf("%s: no %s in the answer, so that nothing is compared there", path, want)
			}
		}
		w.same(t, http.MethodGet, path, "", "Accept-Encoding", "gzip")
	}
}

// TestErrorsAreTheCores does so for what is wrong with a request.
func TestErrorsAreTheCores(t *testing.T) {
	w := theWorld(t)
	long := strings.Repeat("x", 10<<10)
	names := []string{"none", "%2F", "a%2Fb", "..", "%2e%2e", "%zz", "%25zz", "a+b", "a%20b", "root..a", "%00", "é", "root.none", "r%3Froot", long}
	for _, name := range names {
		if name == "%zz" {
			continue // no URL, in any client
		}
		for _, path := range []string{
			"/ws/v1/partition/%s/queues", "/ws/v1/partition/%s/nodes", "/ws/v1/partition/%s/node/n1", "/ws/v1/partition/%s/placementrules",
			"/ws/v1/partition/%s/queue/root.a", "/ws/v1/partition/%s/queue/root.a/applications", "/ws/v1/partition/%s/application/plain",
			"/ws/v1/partition/%s/applications/active", "/ws/v1/partition/%s/queue/root.a/applications/active",
			"/ws/v1/partition/%s/queue/no$/applications", "/ws/v1/partition/%s/queue/no$", "/ws/v1/partition/%s/queue/no$/applications/active",
			part + "/queue/%s", part + "/queue/%s?subtree", part + "/queue/%s/applications", part + "/queue/%s/application/plain",
			part + "/queue/%s/applications/active", part + "/queue/root.a/application/%s", part + "/application/%s", part + "/applications/%s",
			part + "/applications/active?status=%s", part + "/queue/root.a/applications/%s", part + "/queue/root.a/applications/active?status=%s",
			part + "/node/%s", part + "/usage/user/%s", part + "/usage/group/%s",
			"/ws/v1/events/batch?count=%s", "/ws/v1/events/batch?start=%s", "/ws/v1/%s", "/%s", "/ws/v1/clusters/%s", "/ws/v1/../%s",
		} {
			w.same(t, http.MethodGet, strings.ReplaceAll(path, "%s", name), "")
		}
	}
	for _, path := range []string{
		"/", "//", "/ws", "/ws/v1/", "/ws/v1/clusters/", "/WS/v1/Clusters", "/ws/v1//clusters", "/ws/v1/queues", part, part + "/",
		part + "/queue/", part + "/queue//applications", part + "/usage/user/", part + "/application/", "/ws/v1/stack", "/ws/v1/fullstatedump?a=b",
		"/ws/v1/events/batch?count=0", "/ws/v1/events/batch?count=-1", "/ws/v1/events/batch?count=99999999", "/ws/v1/scheduler/node-utilization",
		part + "/applications/accepted", part + "/queue/root.a/applications/completed",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch, http.MethodTrace} {
			w.same(t, method, path, "")
		}
	}
	for _, method := range []string{http.MethodHead, http.MethodPost, http.MethodDelete, http.MethodOptions} {
		for path := range endpoints {
			w.same(t, method, path, "")
		}
	}
}

func TestConfigurationInItsForms(t *testing.T) {
	w := theWorld(t)
	yaml := w.same(t, http.MethodGet, "/ws/v1/config", "")
	if !strings.Contains(yaml.headers, "application/x-yaml") || !strings.Contains(yaml.body, "placementrules:") || !strings.Contains(yaml.body, "checksum:") {
		t.Errorf("%s\n%s", yaml.headers, yaml.body)
	}
	inJSON := w.same(t, http.MethodGet, "/ws/v1/config", "", "Accept", "application/json")
	if !strings.Contains(inJSON.headers, "application/json") || !strings.Contains(inJSON.body, `"DeadlockDetectionEnabled"`) {
		t.Errorf("%s\n%s", inJSON.headers, inJSON.body)
	}
	w.same(t, http.MethodGet, "/ws/v1/config", "", "Accept", "application/json, */*")
}

func TestValidateConf(t *testing.T) {
	w := theWorld(t)
	for _, body := range []string{
		queues, "", "partitions: [", "unknown: 1", strings.Replace(queues, "vcore: 8", "vcore: 0.5", 1), strings.Repeat("x", 1<<20),
		"partitions: [{name: default, queues: [{name: " + strings.Repeat("q", 1<<20) + "}]}]", "\x00\xff", strings.Repeat("[", 1<<16),
	} {
		got := w.same(t, http.MethodPost, "/ws/v1/validate-conf", body)
		if !strings.Contains(got.body, fmt.Sprintf(`"allowed": %t`, body == queues || body == "")) {
			t.Errorf("%.40s: %s", body, short(got.body))
		}
	}
	// Where the core would read on, the client is told.
	_, body := send(t, http.MethodPost, w.ours+"/ws/v1/validate-conf", strings.Repeat("#", 5<<20))
	if got := decode[dao.ValidateConfResponse](t, body); got.Allowed || !strings.Contains(got.Reason, "too large") {
		t.Errorf("5 MiB: %+v", got)
	}
}

// TestMetricsHaveTheCoresNames compares all but the values, which never stand still.
func TestMetricsHaveTheCoresNames(t *testing.T) {
	w := theWorld(t)
	names := func(url string) (list []string) {
		resp, body := send(t, http.MethodGet, url+"/ws/v1/metrics", "")
		list = append(list, resp.Header.Get("Content-Type"))
		for line := range strings.SplitSeq(string(body), "\n") {
			if strings.HasPrefix(line, "# TYPE") {
				list = append(list, line)
			}
		}
		return list
	}
	got, want := names(w.ours), names(w.core)
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if !slices.Contains(got, "# TYPE yunikorn_queue_app gauge") {
		t.Errorf("no metrics of queues: %v", got)
	}
}

func TestStackIsText(t *testing.T) {
	w := theWorld(t)
	got, body := send(t, http.MethodGet, w.ours+"/debug/stack", "")
	want, _ := send(t, http.MethodGet, w.core+"/debug/stack", "")
	if got.StatusCode != want.StatusCode || got.Header.Get("Content-Type") != want.Header.Get("Content-Type") || !strings.HasPrefix(string(body), "goroutine ") {
		t.Errorf("%d %v %.100s", got.StatusCode, got.Header, body)
	}
}

// TestEventStream reads what both say first: who they are, then past events.
func TestEventStream(t *testing.T) {
	w := theWorld(t)
	lines := func(url string) (list []string) {
		resp, err := client.Get(url + "/ws/v1/events/stream?count=3")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for in := bufio.NewScanner(resp.Body); len(list) < 4 && in.Scan(); {
			list = append(list, in.Text())
		}
		return list
	}
	for range 200 {
		before, got, after := lines(w.core), lines(w.ours), lines(w.core)
		if !slices.Equal(before, after) {
			continue
		}
		if !slices.Equal(got, after) || len(got) != 4 || !strings.Contains(got[0], "InstanceUUID") {
			t.Errorf("got  %q\nwant %q", got, after)
		}
		w.same(t, http.MethodGet, "/ws/v1/events/stream?count=x", "")
		return
	}
	t.Error("events never stood still")
}

// TestStreamsEndWithTheServer: who reads a stream does not keep a replica from ending.
func TestStreamsEndWithTheServer(t *testing.T) {
	w := theWorld(t)
	own := api.New(api.Config{Chronicle: w.chronicle}, w, discard)
	server := httptest.NewServer(own)
	defer server.Close()
	resp, err := client.Get(server.URL + "/ws/v1/events/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	own.Shutdown()
	own.Shutdown() // again
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, in)
		ended <- err
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the stream goes on")
	}
}

// TestProfilingIsOffUnlessAskedFor, unlike in YuniKorn.
func TestProfilingIsOffUnlessAskedFor(t *testing.T) {
	w := theWorld(t)
	for on, want := range map[bool]int{false: http.StatusNotFound, true: http.StatusOK} {
		handler := api.New(api.Config{Profiling: on}, w, discard)
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap"} {
			rec := httptest.NewRecorder()
			handler.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
			if rec.Code != want {
				t.Errorf("profiling %t: %s is %d", on, path, rec.Code)
			}
		}
	}
}

// TestAnswersAreSigned: each says who gave it, and for what it is true.
func TestAnswersAreSigned(t *testing.T) {
	w := theWorld(t)
	for _, path := range []string{"/ws/v1/clusters", part + "/queue/none", "/ws/v1/metrics"} {
		resp, _ := send(t, http.MethodGet, w.ours+path, "")
		for header, want := range map[string]string{
			api.HeaderReplica: "r0", api.HeaderLead: "r0_X", api.HeaderEpoch: "7", api.HeaderRevision: "42", api.HeaderStale: "",
		} {
			if got := resp.Header.Get(header); got != want {
				t.Errorf("%s: %s is %q", path, header, got)
			}
		}
	}
}

// FuzzPaths looks for a request of which ours panics, or says another thing than the core.
func FuzzPaths(f *testing.F) {
	w := theWorld(f)
	for path := range endpoints {
		if u, err := url.Parse(path); err == nil {
			f.Add(http.MethodGet, u.Path, u.RawQuery)
		}
	}
	f.Add(http.MethodPost, "/ws/v1/validate-conf", "")
	f.Add(http.MethodGet, "/ws/v1/partition/default/queue/%zz/applications", "subtree")
	f.Add(http.MethodDelete, part+"/usage/user/%", "%zz")
	f.Fuzz(func(t *testing.T, method, path, query string) {
		if !strings.HasPrefix(path, "/") || strings.Contains(strings.ToLower(path), "stream") || strings.Contains(strings.ToLower(path), "debug") ||
			strings.Contains(strings.ToLower(path), "metrics") || strings.Contains(strings.ToLower(path), "stack") ||
			strings.Contains(strings.ToLower(path), "events/batch") {
			t.Skip("endless, never the same, or tested elsewhere")
		}
		ask := func(h http.Handler) (got answer, panicked any) {
			defer func() { panicked = recover() }()
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, &http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{}, Body: http.NoBody, Host: "h"})
			return answered(rec.Result(), rec.Body.Bytes()), nil
		}
		for range 50 {
			before, broken := ask(w.coreRouter)
			got, panicked := ask(w.api)
			if panicked != nil {
				t.Fatalf("%s %q ? %q: panic: %v", method, path, query, panicked)
			}
			want, _ := ask(w.coreRouter)
			if broken != nil || before != want {
				continue
			}
			if got != want {
				t.Errorf("%s %q ? %q\ngot  %+v\nwant %+v", method, path, query, got, want)
			}
			return
		}
	})
}
