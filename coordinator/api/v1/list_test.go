package v1

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/replica/ledger"
)

func TestLists(t *testing.T) {
	r := populated()
	for path, want := range map[string]string{
		"applications":                               "a b c d",
		"applications?queue=root.x":                  "a c d",
		"applications?queue=root.x,root.y&user=bob":  "b c",
		"applications?state=Running,Accepted":        "a b c",
		"applications?id=d,none":                     "d",
		"applications?manager=other":                 "",
		"applications?namespace=ns&limit=2":          "a b",
		"applications?stale":                         "a b c d",
		"tasks":                                      "t1 t2 t3 t4",
		"tasks?node=n2":                              "t3 t4",
		"tasks?application=a&state=Scheduling":       "t2",
		"tasks?queue=root.y":                         "t3",
		"tasks?placeholder=true":                     "",
		"tasks?placeholder=false&name=pod-t2,pod-t4": "t2 t4",
	} {
		if names, _ := r.listed(t, path, "id"); strings.Join(names, " ") != want {
			t.Errorf("%s: %v, want %s", path, names, want)
		}
	}
	for path, want := range map[string]string{"users": "alice bob", "users?name=bob": "bob"} {
		if names, _ := r.listed(t, path, "name"); strings.Join(names, " ") != want {
			t.Errorf("%s: %v, want %s", path, names, want)
		}
	}
	for path, want := range map[string]string{
		"terms": "8 9 10", "terms?limit=2": "8 9", "terms?epoch=10": "10", "failovers": "9 10", "failovers?endReason=crashed": "9",
	} {
		if names, _ := r.listed(t, path, "epoch"); strings.Join(names, " ") != want {
			t.Errorf("%s: %v, want %s", path, names, want)
		}
	}
}

// TestItems: what each has, and how it looks.
func TestItems(t *testing.T) {
	r := populated()
	for path, want := range map[string]string{
		"applications/a": `{"id":"a","manager":"general","namespace":"ns","user":"alice","queue":"root.x","state":"Running","submitted":"2001-09-09T01:46:40Z",` +
			`"tasks":{"Bound":1,"Scheduling":1},"used":{"cpu":"1500m","memory":"1Gi"},"pending":{"cpu":"1500m","memory":"1Gi"}}`,
		"applications/a?fields=state,id,groups": `{"id":"a","state":"Running"}`,
		"tasks/t1": `{"id":"t1","application":"a","namespace":"ns","name":"pod-t1","queue":"root.x","user":"alice","state":"Bound","node":"n1",` +
			`"requests":{"cpu":"1500m","memory":"1Gi"}}`,
		"users/bob": `{"name":"bob","queues":["root.x","root.y"],"applications":{"Accepted":1,"Running":1},"tasks":{"Bound":1},"used":{"cpu":"1500m","memory":"1Gi"}}`,
		"terms/8":   `{"epoch":8,"incarnation":"r0_A","began":"2026-01-02T02:04:05Z","ended":"2026-01-02T03:04:05Z","endReason":"crashed"}`,
		"failovers/9": `{"epoch":9,"from":"r0_A","to":"r1_B","endReason":"crashed","ended":"2026-01-02T03:04:05Z","leading":"2026-01-02T03:04:05.25Z",` +
			`"leaderlessSeconds":0.25}`,
		"failovers/10": `{"epoch":10,"from":"r1_B","to":"r0_C","endReason":"handed over","ended":"2026-01-02T03:05:05Z"}`,
	} {
		if status, body := r.get(Prefix + path); status != http.StatusOK || body != want {
			t.Errorf("%s: %d\n%s\nwant\n%s", path, status, body, want)
		}
	}
	if _, body := r.get(Prefix + "applications?fields=id,state&limit=1"); body !=
		`{"items":[{"id":"a","state":"Running"}],"continue":"YQ","revision":101,"epoch":7}` {
		t.Errorf("a list: %s", body)
	}
}

// TestRefusals: each says what is wrong, in one form.
func TestRefusals(t *testing.T) {
	r := populated()
	for path, want := range map[string]string{
		"applications?colour=red":                             "there is no parameter colour here",
		"applications?tasks=1":                                "there is no parameter tasks here", // a field, and no filter
		"applications?fields=id,size":                         `fields: there is no field "size"`,
		"applications?fields=":                                `fields: there is no field ""`,
		"applications?limit=0":                                `limit: "0" is not a number from 1 to 10000`,
		"applications?limit=1e3":                              `limit: "1e3" is not a number from 1 to 10000`,
		"applications?continue=%21":                           `continue: "!" is not what a list has given`,
		"applications?continue=":                              `continue: "" is not what a list has given`,
		"applications?queue=a&queue=b":                        "queue is given 2 times; several values are a list with commas",
		"applications?%zz":                                    `invalid URL escape "%zz"`,
		"applications?queue=" + strings.Repeat("x", maxQuery): fmt.Sprintf("the query is longer than %d bytes", maxQuery),
		"applications?watch=yes":                              `watch: "yes" is not true or false`,
		"applications?watch=true&limit=3":                     "there is no parameter limit here",
		"applications?watch=true&revision=-1":                 `revision: "-1" is not a revision`,
		"applications?revision=1":                             "there is no parameter revision here",
		"users?watch=true":                                    "there is no parameter watch here",
		"tasks?placeholder=perhaps":                           `placeholder: "perhaps" is not a bool`,
		"tasks?placeholder=null":                              `placeholder: "null" is not a bool`,
		"terms?epoch=-1":                                      `epoch: "-1" is not a uint64`,
		"applications/a?queue=root.x":                         "there is no parameter queue here",
		"openapi.json?a=b":                                    "there is no parameter a here",
	} {
		status, body := r.get(Prefix + path)
		if wanted := fmt.Sprintf(`{"status":400,"reason":"BadRequest","message":%q}`, want); status != http.StatusBadRequest || body != wanted {
			t.Errorf("%.80s: %d\n%s\nwant\n%s", path, status, body, wanted)
		}
	}
	for path, want := range map[string]int{
		"applications/none": 404, "applications/" + strings.Repeat("x", 10_000): 404, "applications/..": 404, "tasks/a": 404, "users/carol": 404,
		"terms/11": 404, "terms/x": 404, "failovers/8": 404, "none": 404, "applications/a/b": 404, "queues": 503, "nodes": 503, "nodes/n": 503,
	} {
		if status, _ := r.get(Prefix + path); status != want {
			t.Errorf("%.40s: %d, want %d", path, status, want)
		}
	}
	r.blind = true
	for _, path := range []string{"applications", "applications/a", "tasks", "users", "applications?watch=true"} {
		if status, body := r.get(Prefix + path); status != 503 || body != `{"status":503,"reason":"Unavailable","message":"`+errNoView.Error()+`"}` {
			t.Errorf("%s of a replica without a view: %d %s", path, status, body)
		}
	}
	if status, _ := r.get(Prefix + "terms"); status != http.StatusOK {
		t.Errorf("who led is known all the same: %d", status)
	}
}

// TestPagesUnderChange: what is there all the time is on exactly one page, whatever comes and goes
// between two, and whatever the names are.
func TestPagesUnderChange(t *testing.T) {
	for _, list := range []string{"applications", "tasks"} {
		r := newReplica()
		stays := make(map[string]int)
		odd := []string{"", "~", "a/b", "ä", "%2F", "a b", "\x01"}
		name := func(i int) string { return fmt.Sprintf("%s-%03d", odd[i%len(odd)], i) }
		make1 := func(i int) []ledger.Change {
			return []ledger.Change{app(name(i%70), "root.q", "u", ledger.AppStateRunning), task(name(i%70), name(i), "", ledger.TaskStateScheduling)}
		}
		for i := range 700 {
			r.change(101, make1(i)...)
		}
		kept := func(i int) bool { return list == "applications" && i < 70 || list == "tasks" && i < 350 }
		for i := range 700 {
			if kept(i) {
				stays[name(i)] = 0
			}
		}
		path := list + "?limit=13&fields=id"
		for token, pages := "", 0; ; pages++ {
			at := path
			if token != "" {
				at += "&continue=" + url.QueryEscape(token)
			}
			var names []string
			names, token = r.listed(t, at, "id")
			for _, n := range names {
				if _, ok := stays[n]; ok {
					stays[n]++
				}
			}
			if token == "" {
				break
			}
			if len(names) != 13 || pages > 200 {
				t.Fatalf("page %d has %d", pages, len(names))
			}
			for range 20 { // things come and go
				i := 350 + rand.IntN(350)
				if rand.IntN(2) == 0 {
					r.change(102, make1(i)...)
				} else {
					r.change(102, gone(name(i%70), name(i)))
				}
			}
		}
		for n, times := range stays {
			if times != 1 {
				t.Errorf("%s: %q is on %d pages", list, n, times)
			}
		}
	}
}

// TestTheLastPageHasNoNext: a token leads to something.
func TestTheLastPageHasNoNext(t *testing.T) {
	r := populated()
	for path, more := range map[string]bool{
		"applications?limit=4": false, "applications?limit=3": true, "applications?limit=3&queue=root.x": false, "tasks?limit=3": true, "tasks?limit=4": false,
	} {
		if _, token := r.listed(t, path, "id"); (token != "") != more {
			t.Errorf("%s: continue %q", path, token)
		}
	}
}

// FuzzQuery: whatever is asked is answered or refused, and what is answered is what was asked.
func FuzzQuery(f *testing.F) {
	r := populated()
	for _, seed := range []string{
		"queue=root.x", "fields=id,state&limit=1", "continue=YQ", "state=Running,,", "limit=99999999999999999999", "watch=false", "%00", "id=a;b", "stale&stale", "continue=////",
	} {
		f.Add("applications", seed, "5")
		f.Add("tasks", seed, "")
	}
	f.Fuzz(func(t *testing.T, list, text, last string) {
		if !slices.Contains([]string{"applications", "tasks", "users", "terms", "failovers", "queues", "nodes", "events"}, list) {
			list = "tasks"
		}
		req, err := http.NewRequest(http.MethodGet, "http://r"+Prefix+list, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.RawQuery = text
		if Watches(req) {
			return // does not end
		}
		q, bad := parse(req, fieldsOf(kindOf(list)), append(ofLists, paramWatch), true)
		if (q == nil) == (bad == nil) {
			t.Fatalf("%v %v", q, bad)
		}
		if bad != nil && (bad.Status != 400 || bad.Message == "") {
			t.Errorf("%+v", bad)
		}
		req.Header.Set("Last-Event-ID", last)
		if _, bad := parse(req, fieldsOf(kindOf(list)), ofWatches, true); bad != nil && bad.Status != 400 {
			t.Errorf("%+v", bad)
		}
		w := newRecorder()
		r.router.ServeHTTP(w, req)
		if w.Code != 200 && w.Code != 400 && w.Code != 503 || w.Code == 400 && bad == nil && list != "queues" && list != "nodes" && !req.URL.Query().Has("watch") {
			t.Errorf("%s?%s: %d %s, %v", list, text, w.Code, w.Body, bad)
		}
	})
}
