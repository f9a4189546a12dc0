package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apache/yunikorn-core/pkg/webservice/dao"
)

var update = flag.Bool("update", false, "write anew what is generated in docs: tables of rest.md, openapi.json")

// rare are the fields that have something to say in states that do not last, or in a cloud.
var rare = []string{
	"backoffDeadline", "rejectedMessage", ".preempted", "triggeredPreemption", "triggeredScaleUp", "rackName", "timedout",
	"requests[].placeholder", "requests[].taskGroupName", "requests[].originator",
	"resourceHistory.resourceUsage", "resourceHistory.preemptedResource",
}

// shape is what some endpoints answer with.
type shape struct {
	title     string
	endpoints []string
	of        any
}

// shapes are the types of all answers that are JSON.
var shapes = []shape{
	{"Clusters", []string{"/ws/v1/clusters"}, dao.ClusterDAOInfo{}},
	{"Partitions", []string{"/ws/v1/partitions"}, dao.PartitionInfo{}},
	{"Placement rules", []string{"/ws/v1/partition/:partition/placementrules"}, dao.RuleDAO{}},
	{"Queues", []string{"/ws/v1/partition/:partition/queues", "/ws/v1/partition/:partition/queue/:queue"}, dao.PartitionQueueDAOInfo{}},
	{"Applications", []string{
		"/ws/v1/partition/:partition/queue/:queue/applications", "/ws/v1/partition/:partition/queue/:queue/application/:application",
		"/ws/v1/partition/:partition/application/:application", "/ws/v1/partition/:partition/applications/:state",
		"/ws/v1/partition/:partition/queue/:queue/applications/:state",
	}, dao.ApplicationDAOInfo{}},
	{"Nodes", []string{"/ws/v1/partition/:partition/nodes", "/ws/v1/partition/:partition/node/:node"}, dao.NodeDAOInfo{}},
	{"Users", []string{"/ws/v1/partition/:partition/usage/users", "/ws/v1/partition/:partition/usage/user/:user"}, dao.UserResourceUsageDAOInfo{}},
	{"Groups", []string{"/ws/v1/partition/:partition/usage/groups", "/ws/v1/partition/:partition/usage/group/:group"}, dao.GroupResourceUsageDAOInfo{}},
	{"Application history", []string{"/ws/v1/history/apps"}, dao.ApplicationHistoryDAOInfo{}},
	{"Container history", []string{"/ws/v1/history/containers"}, dao.ContainerHistoryDAOInfo{}},
	{"Events", []string{"/ws/v1/events/batch"}, dao.EventRecordDAO{}},
	{"Health", []string{"/ws/v1/scheduler/healthcheck"}, dao.SchedulerHealthDAOInfo{}},
	{"Node utilizations", []string{"/ws/v1/scheduler/node-utilizations"}, dao.PartitionNodesUtilDAOInfo{}},
	{"Validation", []string{"/ws/v1/validate-conf"}, dao.ValidateConfResponse{}},
	{"Errors", nil, dao.YAPIError{}},
}

// elsewhere are the endpoints of which this has no fields: their answers are text, or have
// a shape of their own.
var elsewhere = []string{
	"/ws/v1/metrics", "/ws/v1/config", "/ws/v1/events/stream", "/ws/v1/stack", "/ws/v1/fullstatedump", "/debug/", "/api/v1/",
}

// fieldsOf lists the fields of a type, by where they are.
func fieldsOf(of reflect.Type, at string, above []reflect.Type, into *[]string) {
	switch of.Kind() {
	case reflect.Pointer:
		fieldsOf(of.Elem(), at, above, into)
		return
	case reflect.Slice:
		fieldsOf(of.Elem(), at+"[]", above, into)
		return
	}
	if of.Kind() != reflect.Struct || of.PkgPath() != reflect.TypeFor[dao.YAPIError]().PkgPath() || slices.Contains(above, of) {
		*into = append(*into, at)
		return
	}
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		if name == "" {
			name = of.Field(i).Name
		}
		fieldsOf(of.Field(i).Type, strings.TrimPrefix(at+"."+name, "."), append(slices.Clone(above), of), into)
	}
}

// seenIn notes which fields an answer has, by the same names.
func seenIn(at string, value any, into map[string]bool) {
	into[strings.TrimPrefix(at, ".")] = true
	switch x := value.(type) {
	case map[string]any:
		for key, inner := range x {
			seenIn(at+"."+key, inner, into)
		}
	case []any:
		for _, inner := range x {
			seenIn(strings.TrimSuffix(at, "[]")+"[]", inner, into)
		}
	}
}

// seen are the fields that the core has something to say about when TestAnswersAreTheCores
// compares, by shape.
func (w *world) seen(t *testing.T, of shape) map[string]bool {
	t.Helper()
	into := make(map[string]bool)
	for path := range endpoints {
		for _, pattern := range of.endpoints {
			if !isFor(pattern, path) {
				continue
			}
			_, body := send(t, http.MethodGet, w.core+path, "")
			var value any
			if json.Unmarshal(body, &value) != nil {
				continue
			}
			list, ok := value.([]any)
			if !ok {
				list = []any{value}
			}
			for _, one := range list {
				seenIn("", one, into)
			}
		}
	}
	return into
}

// isFor reports whether an endpoint answers a request.
func isFor(pattern, path string) bool {
	path, _, _ = strings.Cut(path, "?")
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	for i, piece := range want {
		if len(want) != len(got) || !strings.HasPrefix(piece, ":") && got[i] != piece {
			return false
		}
	}
	return true
}

// comparedBy is the test that compares a field with the core's own answer, empty if none does.
func comparedBy(of shape, field string, seen map[string]bool) string {
	switch {
	case slices.ContainsFunc(rare, func(name string) bool { return strings.HasSuffix(field, name) }): // seen or not, as it happens
		return "`TestRareFields`"
	case seen[field]:
		return "`TestAnswersAreTheCores`"
	case of.title == "Validation":
		return "`TestValidateConf`"
	case of.endpoints == nil:
		return "`TestErrorsAreTheCores`"
	case of.title == "Queues":
		return "`TestEqualAfterFailovers`" // the core makes these itself
	}
	return ""
}

// afterFailover says what becomes of a field.
func afterFailover(of shape, field string) string {
	if of.endpoints == nil || of.title == "Validation" {
		return "of no state"
	}
	// As values are named in answers: a list has its elements' names in brackets.
	where := "." + strings.ReplaceAll(field, "[]", "[x]")
	if e := excepted(of.endpoints[0], where); e != nil {
		return e.why
	}
	return "equal"
}

// generated is the part of docs/rest.md about fields.
func generated(t *testing.T, w *world) string {
	t.Helper()
	var out strings.Builder
	for _, of := range shapes {
		fmt.Fprintf(&out, "### %s\n\n", of.title)
		for _, endpoint := range of.endpoints {
			fmt.Fprintf(&out, "- `%s`\n", endpoint)
		}
		if of.endpoints != nil {
			out.WriteString("\n")
		}
		out.WriteString("| field | compared with the core's by | after a failover |\n|---|---|---|\n")
		seen := w.seen(t, of)
		var fields []string
		fieldsOf(reflect.TypeOf(of.of), "", nil, &fields)
		for _, field := range fields {
			by := comparedBy(of, field, seen)
			if by == "" {
				t.Errorf("%s: no test would notice the loss of %s", of.title, field)
			}
			fmt.Fprintf(&out, "| `%s` | %s | %s |\n", field, by, afterFailover(of, field))
		}
		out.WriteString("\n")
	}
	return out.String()
}

// Where docs/rest.md is generated.
const (
	fieldsBegin = "<!-- generated by: go test ./coordinator/api -run TestFieldsAreDocumented -update -->\n\n"
	fieldsEnd   = "<!-- end of what is generated -->\n"
)

// TestFieldsAreDocumented: docs/rest.md names each field of each answer with the test that would
// notice its loss, and what becomes of it after a failover.
func TestFieldsAreDocumented(t *testing.T) {
	w := theWorld(t)
	if err := until("a first health check", func() bool { return w.engine.Cluster().GetLastHealthCheckResult() != nil }); err != nil {
		t.Fatal(err)
	}
	for _, route := range w.api.Routes() {
		shaped := slices.ContainsFunc(shapes, func(s shape) bool { return slices.Contains(s.endpoints, route.Pattern) })
		known := slices.ContainsFunc(elsewhere, func(prefix string) bool { return strings.HasPrefix(route.Pattern, prefix) })
		if shaped == known {
			t.Errorf("%s: nothing is known of its fields", route.Pattern)
		}
	}
	const file = "../../docs/rest.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(text, []byte(fieldsBegin))
	_, after, ended := bytes.Cut(rest, []byte(fieldsEnd))
	if !ok || !ended {
		t.Fatalf("%s has no place for what is generated", file)
	}
	want := string(before) + fieldsBegin + generated(t, w) + fieldsEnd + string(after)
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date: go test ./coordinator/api -run %s -update", file, t.Name())
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
