package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/coordinator/api"
)

// exception is what may differ between two leads, and why.
type exception struct {
	// endpoint is a pattern of routes, empty for all; field is a regular expression for the
	// end of where a value is in an answer.
	endpoint, field string
	why             string
}

// exceptions are all that may differ. Everything else of every answer has to be equal.
var exceptions = []exception{
	{"/ws/v1/clusters", `\.startTime`, "it names the process"},
	{"/ws/v1/partitions", `\.lastStateTransitionTime`, "it names the process"},
	{"/debug/fullstatedump", `\.timestamp|\.startTime|\.lastStateTransitionTime`, "they name the process, or the moment"},
	{"/ws/v1/events/", `.*`, "the events of the new core come on top of those before"},
	{"/api/v1/events", `\.items\[.*`, "likewise"},
	{"/ws/v1/scheduler/healthcheck", `.*`, "what the core last found when it looked, once in half a minute"},
	{"", `\.allocationLog(\[.*)?`, "what a core has met with in its own attempts, which go on; `explain` has the reason"},
}

// excepted returns the exception for a value, nil if there is none.
func excepted(endpoint, field string) *exception {
	for i, e := range exceptions {
		if strings.HasPrefix(endpoint, e.endpoint) && regexp.MustCompile(`(?:`+e.field+`)$`).MatchString(field) {
			return &exceptions[i]
		}
	}
	return nil
}

// identities are the fields by which elements of a list are told apart, the first that one has.
var identities = []string{
	"allocationKey", "applicationID", "nodeID", "queuename", "queuePath", "userName", "groupName", "taskGroupName",
	"applicationState", "bucketName", "type", "message", "name", "Name", "id", "clusterId", "partition",
}

func identityOf(value any) string {
	if object, ok := value.(map[string]any); ok {
		for _, key := range identities {
			if id, ok := object[key].(string); ok {
				return id
			}
		}
		return ""
	}
	return fmt.Sprint(value)
}

// flatten notes the values of an answer by where they are. The order of lists is the core's
// maps' and says nothing.
func flatten(at string, value any, into map[string]string) {
	switch x := value.(type) {
	case map[string]any:
		for key, inner := range x {
			flatten(at+"."+key, inner, into)
		}
	case []any:
		seen := make(map[string]int)
		for _, inner := range x {
			id := identityOf(inner)
			if seen[id]++; seen[id] > 1 {
				id = fmt.Sprintf("%s#%d", id, seen[id])
			}
			flatten(at+"["+id+"]", inner, into)
		}
	default:
		into[at] = fmt.Sprint(x)
	}
}

func flat(body string) map[string]string {
	out := make(map[string]string)
	var value any
	in := json.NewDecoder(strings.NewReader(body))
	in.UseNumber()
	if in.Decode(&value) != nil {
		value = body
	}
	flatten("", value, out)
	return out
}

// differences are the values, by request, in which answers are not equal.
func differences(before, after answers) (out []string) {
	for _, request := range slices.Sorted(maps.Keys(before)) {
		endpoint, path, _ := strings.Cut(request, " ")
		was, is := flat(before[request]), flat(after[request])
		for field := range is {
			if _, ok := was[field]; !ok {
				was[field] = "nothing"
			}
		}
		for _, field := range slices.Sorted(maps.Keys(was)) {
			now, ok := is[field]
			if !ok {
				now = "nothing"
			}
			if now != was[field] && excepted(endpoint, field) == nil && !grown(path+field, was[field], now) {
				out = append(out, fmt.Sprintf("%s: %s was %s and is %s", path, field, was[field], now))
			}
		}
	}
	for request := range after {
		if _, ok := before[request]; !ok {
			out = append(out, "nobody answered before: "+request)
		}
	}
	return out
}

// ofTheLoad is what the applications of the load have used, of which it uses more.
var ofTheLoad = regexp.MustCompile(`\bload-\d+\b.*\.(maxUsedResource|resourceHistory)\.`)

// grown reports whether a difference is that the load has gone on: nothing of what was there is lost.
func grown(at, was, now string) bool {
	before, err := strconv.ParseInt(was, 10, 64)
	after, err2 := strconv.ParseInt(now, 10, 64)
	return ofTheLoad.MatchString(at) && (was == "nothing" || err == nil) && err2 == nil && after >= before
}

// begin is the beginning of what was found.
func begin(found []string) string { return strings.Join(found[:min(len(found), 200)], "\n") }

// ask returns status and body of an answer.
func (l *lead) ask(t *testing.T, method, path string) string {
	t.Helper()
	rec := httptest.NewRecorder()
	l.api.ServeHTTP(rec, httptest.NewRequest(method, path, nil).WithContext(t.Context()))
	return said(rec.Code, rec.Body.String())
}

// said is an answer, with its status if it is not that all is well.
func said(status int, body string) string {
	if status != http.StatusOK {
		return fmt.Sprintf("%d %s", status, body)
	}
	return body
}

// all are the answers to everything that can be asked, from the table of routes: of every
// queue, application, node, user and group.
func (l *lead) all(t *testing.T) answers {
	t.Helper()
	names := l.names(t)
	out := make(answers)
	for _, route := range l.api.Routes() {
		if route.Local || route.Streams {
			continue // of any process; without an end
		}
		for _, path := range expanded(t, route.Pattern, names) {
			out[route.Pattern+" "+path] = l.ask(t, route.Method, path)
		}
	}
	return out
}

// names are what the parts of a path can be.
func (l *lead) names(t *testing.T) map[string][]string {
	t.Helper()
	found := func(path, key string) (list []string) {
		var value any
		if err := json.Unmarshal([]byte(l.ask(t, http.MethodGet, path)), &value); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		collect(value, key, &list)
		slices.Sort(list)
		return slices.Compact(list)
	}
	names := map[string][]string{
		"partition": {"default"}, "event": {"0"}, "state": {"active", "completed", "rejected"},
		"queue": found(part+"/queues", "queuename"), "node": found(part+"/nodes", "nodeID"),
		"user": found(part+"/usage/users", "userName"), "group": found(part+"/usage/groups", "groupName"),
	}
	for _, state := range names["state"] {
		names["application"] = append(names["application"], found(part+"/applications/"+state, "applicationID")...)
	}
	for _, pod := range found(part+"/applications/active", "allocationKey") {
		names["task"], names["pod"] = append(names["task"], pod), append(names["pod"], "default/"+pod)
	}
	return names
}

func collect(value any, key string, into *[]string) {
	switch x := value.(type) {
	case map[string]any:
		for k, inner := range x {
			if name, ok := inner.(string); ok && k == key {
				*into = append(*into, name)
			}
			collect(inner, key, into)
		}
	case []any:
		for _, inner := range x {
			collect(inner, key, into)
		}
	}
}

// expanded are the requests that an endpoint answers.
func expanded(t *testing.T, pattern string, names map[string][]string) []string {
	t.Helper()
	if pattern == api.PathExplain {
		var paths []string
		for _, of := range []string{"pod", "application"} {
			for _, name := range names[of] {
				paths = append(paths, pattern+"?"+url.Values{of: {name}}.Encode())
			}
		}
		return paths
	}
	paths := []string{""}
	before := ""
	for piece := range strings.SplitSeq(strings.TrimPrefix(pattern, "/"), "/") {
		values := []string{piece}
		if name, ok := strings.CutPrefix(piece, ":"); ok {
			if name == "id" { // of what the piece before it is a list
				name = strings.TrimSuffix(before, "s")
			}
			if values = names[name]; len(values) == 0 {
				t.Fatalf("%s: nothing is known that could be a %s", pattern, name)
			}
		}
		var longer []string
		for _, path := range paths {
			for _, value := range values {
				longer = append(longer, path+"/"+url.PathEscape(value))
			}
		}
		paths, before = longer, piece
	}
	return paths
}

// still is for how long answers have to stay the same. The core looks once a second for what
// cannot be placed, and what the engine does for it after a failover takes its time as well.
const still = 5 * time.Second

// settled are the answers once they do not change any more.
func (l *lead) settled(t *testing.T) answers {
	t.Helper()
	before, since := l.all(t), time.Now()
	err := until("the answers stand still", func() bool {
		<-time.After(50 * time.Millisecond)
		waits, _ := l.loop.Progress()
		next := l.all(t)
		changed := differences(before, next)
		if before = next; waits || len(changed) > 0 {
			since = time.Now()
		}
		return time.Since(since) >= still
	})
	if err != nil {
		t.Fatalf("%v: %s", err, begin(differences(before, l.all(t))))
	}
	return before
}

// like returns the answers once they are what another lead has answered, or as they are when
// that does not come about.
func (l *lead) like(t *testing.T, others answers) (own answers) {
	t.Helper()
	_ = until("the answers are those of the lead before", func() bool {
		own = l.all(t)
		return len(differences(others, own)) == 0
	})
	return own
}

// TestEqualAfterFailovers: what a lead answers when it has just been promoted is what the one
// before it answered last, in every field of every answer but for the exceptions. Three times
// in a row, with gangs in each stage, pods that wait for each kind of reason, and applications
// that have come to each kind of end.
func TestEqualAfterFailovers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts four processes")
	}
	dir := t.TempDir()
	var before answers
	for generation := range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
		process := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestLeadOfASuccession$", "-test.v")
		process.Env = append(os.Environ(), successionVariable+"="+dir)
		said, err := process.CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("lead %d: %v\n%s", generation, err, said)
		}
		left, err := estateIn(dir)
		if err != nil {
			t.Fatal(err)
		}
		if generation > 0 {
			if found := differences(before, left.First); len(found) > 0 {
				t.Errorf("after failover %d, %d of what was answered is not equal:\n%s", generation, len(found), begin(found))
			}
			if len(left.Passed) > 0 {
				t.Errorf("after failover %d, an understudy answers otherwise:\n%s", generation, begin(left.Passed))
			}
		}
		before = left.Last
		if len(before) < 100 {
			t.Fatalf("only %d answers were compared", len(before))
		}
		if missing := left.missing(); len(missing) > 0 {
			t.Errorf("no gang is %v", missing)
		}
		if !counted(before) {
			t.Error("no application has given anything back, so that neither the most that was used nor what was consumed is compared")
		}
		for _, of := range []string{"?pod=default%2Fquota", "?application=gang-reserves"} {
			if answer := before[api.PathExplain+" "+api.PathExplain+of]; !strings.Contains(answer, `"reason"`) {
				t.Errorf("why %s waits is not compared: %q", of, answer)
			}
		}
	}
}

// counted reports whether an application that is not of the load has used more than it does, and
// consumed something for seconds.
func counted(all answers) bool {
	var most, consumed bool
	const at = "/ws/v1/partition/default/applications/active"
	values := flat(all["/ws/v1/partition/:partition/applications/:state "+at])
	for field, value := range values {
		switch app, of, _ := strings.Cut(field, "]."); {
		case strings.HasPrefix(app, "[load-") || value == "0":
		case strings.HasPrefix(of, "maxUsedResource."):
			most = most || value != values[app+"].usedResource."+strings.TrimPrefix(of, "maxUsedResource.")]
		case strings.HasPrefix(of, "resourceHistory."):
			consumed = true
		}
	}
	return most && consumed
}
