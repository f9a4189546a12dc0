package api_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"

	"github.com/understudy-ha/understudy/coordinator/api"
	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
	"github.com/understudy-ha/understudy/coordinator/changes"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/replica/ledger"
)

const openAPIFile = "../../docs/openapi.json"

func TestOpenAPIIsUpToDate(t *testing.T) {
	want, err := apiv1.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(openAPIFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(openAPIFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/openapi.json is not what the types say: go test ./coordinator/api -run TestOpenAPI -update")
	}
	_, served := send(t, http.MethodGet, theWorld(t).ours+apiv1.Prefix+"openapi.json", "")
	if !bytes.Equal(served, want) {
		t.Error("something else is served")
	}
}

// described has the description of the interface.
type described struct{ *spec3.OpenAPI }

func describedIn(t *testing.T) described {
	t.Helper()
	body, err := os.ReadFile(openAPIFile)
	if err != nil {
		t.Fatal(err)
	}
	d := described{&spec3.OpenAPI{}}
	if err := json.Unmarshal(body, d.OpenAPI); err != nil {
		t.Fatal(err)
	}
	return d
}

// whole puts in what a schema refers to, and allows nothing that it does not name.
func (d described) whole(s spec.Schema) spec.Schema {
	if ref := s.Ref.String(); ref != "" {
		return d.whole(*d.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")])
	}
	if s.Items != nil {
		item := d.whole(*s.Items.Schema)
		s.Items = &spec.SchemaOrArray{Schema: &item}
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		value := d.whole(*s.AdditionalProperties.Schema)
		s.AdditionalProperties = &spec.SchemaOrBool{Allows: true, Schema: &value}
	}
	if s.Properties != nil {
		all := make(map[string]spec.Schema)
		for name, property := range s.Properties {
			all[name] = d.whole(property)
		}
		s.Properties, s.AdditionalProperties = all, &spec.SchemaOrBool{}
	}
	return s
}

// check says what is wrong with an answer.
func (d described) check(t *testing.T, pattern string, status int, body []byte) {
	t.Helper()
	path := d.Paths.Paths[strings.Replace(pattern, ":id", "{id}", 1)]
	if path == nil || path.Get == nil || path.Get.Responses.StatusCodeResponses[status] == nil {
		t.Errorf("%s, %d: not described", pattern, status)
		return
	}
	schema := d.whole(*path.Get.Responses.StatusCodeResponses[status].Content["application/json"].Schema)
	var answer any
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Errorf("%s: %v: %s", pattern, err, body)
		return
	}
	if result := validate.NewSchemaValidator(&schema, nil, "", strfmt.Default).Validate(answer); !result.IsValid() {
		t.Errorf("%s, %d: %v\n%s", pattern, status, result.Errors, body)
	}
}

// owning is the world with records, changes and terms.
type owning struct {
	explained
	log *changes.Log
}

// ownWorld serves a lead, and returns it with its URL.
func ownWorld(t *testing.T) (*owning, string) {
	w := theWorld(t)
	o := &owning{explained{w, recordsOfWaiting(w)}, changes.New(64)}
	o.log.Begin(40)
	began := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	terms := func() []serve.Term {
		return []serve.Term{
			{
				Epoch: 7, Incarnation: "r0_X", Started: began.Add(time.Second), Reason: "dead",
				Timings: []serve.Timing{{Step: apiv1.StepLeading, At: began.Add(2 * time.Second)}},
			},
			{Epoch: 6, Incarnation: "r1_W", Started: began.Add(-time.Hour), Ended: began, EndReason: "crashed"},
		}
	}
	o.records.Apply(ledger.Change{Key: ledger.Key{AppID: "ended"}, App: &ledger.App{
		ID: "ended", State: ledger.AppStateCompleted, Submitted: 1, Started: 2, Finished: 3, PlaceholderDeadline: 4, Groups: []string{"g"},
		Message: "why", StateLog: []ledger.Transition{{State: ledger.AppStateNew, At: 1}},
	}})
	server := httptest.NewServer(w.caughtUp(api.New(api.Config{Scheme: "http", Chronicle: w.chronicle, Changes: o.log, Terms: terms}, o, discard)))
	t.Cleanup(server.Close)
	return o, server.URL
}

// examples are an ID of each kind.
var examples = map[string]string{
	"applications": "ended", "tasks": "nowhere", "queues": "root.small", "nodes": "n1", "users": "alice", "terms": "7", "failovers": "7", "events": "0",
}

// TestOwnAnswersAreDescribed: whatever is answered, a list, an item or a mistake, is as the OpenAPI
// document says; and an understudy has the same answered.
func TestOwnAnswersAreDescribed(t *testing.T) {
	_, lead := ownWorld(t)
	understudy := behind(lead).serve(t)
	d := describedIn(t)
	for name, id := range examples {
		list, item := apiv1.Prefix+name, apiv1.Prefix+name+"/:id"
		for path, of := range map[string]struct {
			pattern string
			status  int
		}{
			list: {list, 200}, list + "?limit=1": {list, 200}, list + "?limit=x": {list, 400}, apiv1.Prefix + name + "/" + id: {item, 200},
			apiv1.Prefix + name + "/none": {item, 404}, apiv1.Prefix + name + "/" + id + "?x": {item, 400},
		} {
			resp, body := send(t, http.MethodGet, lead+path, "")
			if resp.StatusCode != of.status || resp.Header.Get(api.HeaderReplica) != "r0" {
				t.Errorf("%s: %d %v", path, resp.StatusCode, resp.Header)
			}
			d.check(t, of.pattern, resp.StatusCode, body)
			if of.status == 200 && path == list && (resp.Header.Get(api.HeaderRevision) != "40" || bytes.Contains(body, []byte(`"items":[]`))) {
				t.Errorf("%s: %v\n%s", path, resp.Header, body)
			}
			if name == "terms" || name == "failovers" {
				continue // an understudy knows of its own
			}
			for range 200 { // why a task waits changes
				again, passed := send(t, http.MethodGet, understudy+path, "")
				if _, after := send(t, http.MethodGet, lead+path, ""); !bytes.Equal(body, after) {
					body = after
					continue
				}
				if again.StatusCode != of.status || !bytes.Equal(passed, body) || again.Header.Get(api.HeaderVia) != "r1" {
					t.Errorf("%s by way of an understudy: %d\n%s\nwant\n%s", path, again.StatusCode, passed, body)
				}
				break
			}
		}
	}
	for name := range d.Paths.Paths {
		if examples[strings.TrimSuffix(strings.TrimPrefix(name, apiv1.Prefix), "/{id}")] == "" {
			t.Errorf("%s is described, and not tried", name)
		}
	}
	// What a validator refuses it does refuse.
	schema := d.whole(*d.Components.Schemas["Task"])
	if validate.NewSchemaValidator(&schema, nil, "", strfmt.Default).Validate(map[string]any{"id": 1.0, "unknown": true}).IsValid() {
		t.Error("anything passes")
	}
}

// TestWhatTheCoreHas: limits of queues, capacities of nodes, why a task waits.
func TestWhatTheCoreHas(t *testing.T) {
	_, url := ownWorld(t)
	_, queue := asked[apiv1.Queue](t, url+apiv1.Prefix+"queues/root.small")
	if queue.Parent != "root" || !queue.Leaf || !queue.Managed || queue.Max["cpu"] != "1" || queue.Pending["cpu"] != "2" || queue.State != "Active" {
		t.Errorf("%+v", queue)
	}
	if _, idle := asked[apiv1.Queue](t, url+apiv1.Prefix+"queues/root.dyn"); idle.MaxPriority < 0 || queue.MaxPriority != 5 {
		t.Errorf("priorities %d, %d", idle.MaxPriority, queue.MaxPriority)
	}
	_, leaves := asked[apiv1.List[apiv1.Queue]](t, url+apiv1.Prefix+"queues?parent=root&leaf=true&fields=name")
	if len(leaves.Items) != 2 || leaves.Items[0].Name != "root.a" || leaves.Items[1].Name != "root.small" {
		t.Errorf("%+v", leaves)
	}
	_, node := asked[apiv1.Node](t, url+apiv1.Prefix+"nodes/n1")
	if node.Capacity["cpu"] != "4" || node.ForeignPods != 1 || node.Occupied["cpu"] != "100m" || !node.Schedulable || node.Tasks == 0 || node.Allocated["cpu"] == "" {
		t.Errorf("%+v", node)
	}
	_, nodes := asked[apiv1.List[apiv1.Node]](t, url+apiv1.Prefix+"nodes?schedulable=true")
	if len(nodes.Items) != 2 || nodes.Items[1].Name != "n3" {
		t.Errorf("%+v", nodes)
	}
	_, task := asked[apiv1.Task](t, url+apiv1.Prefix+"tasks/nowhere")
	if task.State != "Scheduling" || task.Waits == "" || task.Queue != "root.dyn.default" || task.User != "alice" {
		t.Errorf("%+v", task)
	}
}

// TestOwnStaleAnswers: an understudy tells those who allow it what its view has, and no more.
func TestOwnStaleAnswers(t *testing.T) {
	u := &understudy{standing: api.Standing{Replica: "r1", Epoch: 7, Revision: 40}, state: records()}
	url := u.serve(t)
	for path, want := range map[string]int{
		"applications?stale": 200, "applications/runs?stale": 200, "tasks?stale&state=Bound": 200, "tasks/t1?stale": 200, "users?stale": 200,
		"queues?stale": 503, "nodes?stale": 503, "applications": 503, "tasks/t1": 503, "applications?watch=true": 503, "terms": 200, "failovers": 200, "openapi.json": 200,
	} {
		resp, body := send(t, http.MethodGet, url+apiv1.Prefix+path, "")
		if resp.StatusCode != want || strings.Contains(path, "stale") && want == 200 && resp.Header.Get(api.HeaderStale) != "true" {
			t.Errorf("%s: %d %v %s", path, resp.StatusCode, resp.Header, body)
		}
		if want == 503 && (!strings.HasPrefix(string(body), `{"status":503,"reason":"Unavailable","message":"No replica leads`) || resp.Header.Get("Retry-After") != "1") {
			t.Errorf("%s: %v %s", path, resp.Header, body)
		}
	}
}

// TestOwnWatchIsPassedOn: event by event, by way of an understudy, compressed for nobody.
func TestOwnWatchIsPassedOn(t *testing.T) {
	o, lead := ownWorld(t)
	for _, how := range []string{apiv1.Prefix + "applications?watch=true&fields=id&state=Completed", apiv1.Prefix + "applications?fields=id&state=Completed"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, behind(lead).serve(t)+how, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/event-stream")
		req.Header.Set("Accept-Encoding", "gzip")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		in := bufio.NewScanner(resp.Body)
		next := func() string {
			var event []string
			for in.Scan() && in.Text() != "" {
				event = append(event, in.Text())
			}
			return strings.Join(event, "|")
		}
		if got := next() + " " + next(); !strings.HasPrefix(got, `event: put|data: {"id":"ended"} event: mark|data: {"revision":`) {
			t.Errorf("%s: %v %s", how, resp.Header, got)
		}
		o.log.Note([]ledger.Change{{Key: ledger.Key{AppID: "ended"}}}, o.log.Newest().Revision+1, true)
		if got := next(); !strings.HasPrefix(got, `event: put|data: {"id":"ended"}|id: 4`) {
			t.Errorf("%s: %s", how, got)
		}
		if resp.Header.Get(api.HeaderVia) != "r1" || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%v", resp.Header)
		}
	}
}

// TestWatchOfTheCore: what the core has is watched by way of an understudy too.
func TestWatchOfTheCore(t *testing.T) {
	o, lead := ownWorld(t)
	understudy := behind(lead).serve(t)
	watched := func(list string) (next func() string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, understudy+apiv1.Prefix+list, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		in := bufio.NewScanner(resp.Body)
		return func() string {
			var event []string
			for in.Scan() && in.Text() != "" {
				event = append(event, in.Text())
			}
			return strings.Join(event, "|")
		}
	}
	queues := watched("queues?watch=true&fields=name,max&name=root.small")
	if got := queues(); got != `event: put|data: {"name":"root.small","max":{"cpu":"1"}}` {
		t.Error(got)
	}
	nodes := watched("nodes?watch=true&fields=name,capacity&name=n3")
	size := func(cpu string) string {
		return `event: put|data: {"name":"n3","capacity":{"cpu":"` + cpu + `","memory":"8Gi","pods":"110"}}|id: `
	}
	if got := nodes() + "|id: "; got != size("500m") {
		t.Error(got)
	}
	if got := nodes(); !strings.HasPrefix(got, "event: mark|") {
		t.Error(got)
	}
	for _, cpu := range []string{"501m", "500m"} {
		if err := o.addNode("n3", cpu)(); err != nil {
			t.Fatal(err)
		}
		if got := nodes(); !strings.HasPrefix(got, size(cpu)) {
			t.Error(got)
		}
	}
}
