package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/coordinator"
	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
)

// TestListsAreAskedFor: flags and arguments become filters, and all pages are read.
func TestListsAreAskedFor(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		at := q.Get("continue")
		q.Del("continue")
		if at == "" {
			asked = append(asked, strings.TrimPrefix(r.URL.Path, apiv1.Prefix)+"?"+q.Encode())
		}
		page, _ := strconv.Atoi(at) // 0 for the first
		more := ""
		if page < 2 {
			more = fmt.Sprintf(`, "continue": "%d"`, page+1)
		}
		fmt.Fprintf(w, `{"items": [{"id": "i%d", "name": "n%d", "namespace": "ns"}]%s}`, page, page, more)
	}))
	defer server.Close()
	for args, want := range map[string]string{
		"apps":                                   "applications?limit=1000&state=" + strings.ReplaceAll(liveApps, ",", "%2C"),
		"apps --all":                             "applications?limit=1000",
		"apps --state Completed,Failed --user u": "applications?limit=1000&state=Completed%2CFailed&user=u",
		"apps a b --queue root.x --manager m --namespace n": "applications?id=a%2Cb&limit=1000&manager=m&namespace=n&queue=root.x",
		"tasks a --node n1":                "tasks?application=a&limit=1000&node=n1&state=" + strings.ReplaceAll(liveTasks, ",", "%2C"),
		"queues --leaf true --parent root": "queues?leaf=true&limit=1000&parent=root",
		"nodes n1 --schedulable false":     "nodes?limit=1000&name=n1&schedulable=false",
		"users alice":                      "users?limit=1000&name=alice",
	} {
		asked = nil
		status, out, err := invoke(t, append(strings.Fields(args), "-o", "name", "--server", server.URL)...)
		if status != exitOK || err != "" || len(strings.Fields(out)) != 3 || !slices.Equal(asked, []string{want}) {
			t.Errorf("%s: exit %d, %s\n%s\nasked %v, want %s", args, status, err, out, asked, want)
		}
	}
	if status, _, err := invoke(t, "apps", "--watch", "-o", "yaml"); status != exitUsage {
		t.Errorf("exit %d, %s", status, err)
	}
}

// watched is a replica of which each watch tells the next of some texts, and then ends.
type watched struct {
	mu    sync.Mutex
	texts []string
	// lasts are what clients had been told last.
	lasts []string
	over  context.CancelFunc // called once there is no more to tell
}

func (s *watched) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lasts = append(s.lasts, r.Header.Get("Last-Event-ID"))
	if len(s.texts) == 0 {
		s.over()
		return
	}
	text := s.texts[0]
	s.texts = s.texts[1:]
	if text == "" {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"status": 503, "reason": "Unavailable", "message": "No replica leads"}`)
		return
	}
	_, _ = io.WriteString(w, text)
}

// TestWatchGoesOn: a watch that ends goes on where it was, at whichever replica answers.
func TestWatchGoesOn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	put := func(id, state, rev string) string {
		if rev != "" {
			rev = "id: " + rev + "\n"
		}
		return fmt.Sprintf("event: put\ndata: {\"id\":%q,\"state\":%q,\"queue\":\"root.x\"}\n%s\n", id, state, rev)
	}
	one := &watched{texts: []string{put("a", "New", "") + put("b", "Running", "") + "event: mark\ndata: {\"revision\":5,\"epoch\":1}\nid: 5\n\n" + put("a", "Running", "6"), ""}, over: cancel}
	two := &watched{texts: []string{"event: delete\ndata: {\"id\":\"a\"}\nid: 9\n\n", "event: resync\ndata: {}\n\n" + put("b", "Failed", "") + "event: mark\ndata: {}\nid: 12\n\n"}, over: cancel}
	first, second := httptest.NewServer(one), httptest.NewServer(two)
	defer first.Close()
	defer second.Close()
	var out, errs bytes.Buffer
	status := execute(ctx, []string{"apps", "-w", "--server", first.URL, "--server", second.URL, "-o", "name"}, command{out: &out, err: &errs, managers: coordinator.Managers()})
	if want := "put a\nput b\nput a\ndelete a\nresync\nput b\n"; status != exitOK || out.String() != want {
		t.Errorf("exit %d, %s\n%s\nwant\n%s", status, errs.String(), out.String(), want)
	}
	if got := fmt.Sprintf("%q %q", one.lasts, two.lasts); got != `["" "9" "12"] ["6" "9"]` {
		t.Errorf("came with %s", got)
	}
}

// TestWatchOfNodes: what is watched by name has its name shown.
func TestWatchOfNodes(t *testing.T) {
	for _, list := range []string{"nodes", "queues"} {
		ctx, cancel := context.WithCancel(t.Context())
		served := &watched{over: cancel, texts: []string{
			"event: put\ndata: {\"name\":\"a\"}\n\nevent: mark\ndata: {}\nid: 5\n\nevent: delete\ndata: {\"id\":\"a\"}\nid: 6\n\n",
		}}
		server := httptest.NewServer(served)
		var out, errs bytes.Buffer
		status := execute(ctx, []string{list, "a", "-w", "--server", server.URL, "-o", "name"}, command{out: &out, err: &errs, managers: coordinator.Managers()})
		if status != exitOK || out.String() != "put a\ndelete a\n" {
			t.Errorf("%s: exit %d, %s\n%s", list, status, errs.String(), out.String())
		}
		server.Close()
		cancel()
	}
}

// TestWatchInATable: what there is at the beginning is aligned.
func TestWatchInATable(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := &watched{over: cancel, texts: []string{
		"event: put\ndata: {\"id\":\"a\",\"state\":\"New\",\"queue\":\"root.with.a.long.name\"}\n\nevent: put\ndata: {\"id\":\"b\",\"queue\":\"q\",\"state\":\"New\"}\n\n" +
			"event: mark\ndata: {}\nid: 5\n\nevent: delete\ndata: {\"id\":\"a\"}\nid: 6\n\n",
	}}
	server := httptest.NewServer(served)
	defer server.Close()
	var out bytes.Buffer
	status := execute(ctx, []string{"apps", "-w", "--server", server.URL}, command{out: &out, err: io.Discard, managers: coordinator.Managers()})
	lines := strings.Split(out.String(), "\n")
	if status != exitOK || len(lines) != 5 || strings.Index(lines[1], "New") != strings.Index(lines[2], "New") || strings.Fields(lines[3])[1] != "a" {
		t.Errorf("exit %d\n%s", status, out.String())
	}
}

func TestNobodyToWatch(t *testing.T) {
	busy := restOf(t, http.StatusServiceUnavailable, nil)
	if status, out, err := invoke(t, "tasks", "-w", "--server", busy); status != exitFailed || out != "" || err != "understudy: "+busy+": out of order\n" {
		t.Errorf("exit %d, %q, %q", status, out, err)
	}
}

// logged is a replica with events of one numbering.
type logged struct {
	instance string
	lowest   int
	messages []string // of the events from lowest on
}

func (l *logged) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if l.instance == "" {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	start, _ := strconv.Atoi(r.URL.Query().Get("start"))
	var records []string
	for i, m := range l.messages {
		if start >= l.lowest && l.lowest+i >= start && len(records) < 2 {
			records = append(records, fmt.Sprintf(`{"objectID": "a", "type": 2, "message": %q, "timestampNano": 1}`, m))
		}
	}
	fmt.Fprintf(w, `{"InstanceUUID": %q, "LowestID": %d, "HighestID": %d, "EventRecords": [%s]}`, l.instance, l.lowest, l.lowest+len(l.messages)-1, strings.Join(records, ","))
}

func TestEvents(t *testing.T) {
	server := httptest.NewServer(&logged{instance: "u", lowest: 5, messages: []string{"one", "two", "three"}})
	defer server.Close()
	last := func(out string) (got []string) {
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			got = append(got, f[0]+" "+f[len(f)-1])
		}
		return got
	}
	for args, want := range map[string]string{
		"events":                       "[5 one 6 two 7 three]",
		"events --start 6":             "[6 two 7 three]",
		"events --object a --type app": "[5 one 6 two 7 three]",
		"events --object b":            "[]",
		"events --type node":           "[]",
	} {
		status, out, err := invoke(t, append(strings.Fields(args), "--server", server.URL)...)
		if got := fmt.Sprint(last(out)); status != exitOK || err != "" || got != want {
			t.Errorf("%s: exit %d, %s\n%s, want %s", args, status, err, out, want)
		}
	}
	if status, out, err := invoke(t, "events", "--start", "2", "--server", server.URL, "-o", "json"); status != exitOK ||
		!strings.HasPrefix(out, `{"id":5,`) || err != "! the events 2 to 4 are no more\n" {
		t.Errorf("exit %d, %s\n%s", status, err, out)
	}
}

// TestEventsAreFollowed: each once and in order, at any replica, and it is said if the numbers
// begin anew.
func TestEventsAreFollowed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	states := []logged{
		{instance: "u", lowest: 0, messages: []string{"a", "b"}},
		{},
		{instance: "u", lowest: 1, messages: []string{"b", "c", "d"}},
		{instance: "v", lowest: 0, messages: []string{"e"}},
	}
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		// Each state is seen until it has nothing new, or once.
		state := &states[0]
		start, _ := strconv.Atoi(r.URL.Query().Get("start"))
		if done := state.instance == "" || start >= state.lowest+len(state.messages); done {
			if asked++; len(states) > 1 {
				defer func() { states = states[1:] }()
			} else if start == 1 {
				cancel()
			}
		}
		state.ServeHTTP(w, r)
	}))
	defer server.Close()
	var out, errs bytes.Buffer
	execute(ctx, []string{"events", "-f", "--server", server.URL}, command{out: &out, err: &errs, managers: coordinator.Managers()})
	var got []string
	for line := range strings.Lines(out.String()) {
		f := strings.Fields(line)
		got = append(got, f[0]+f[len(f)-1])
	}
	if fmt.Sprint(got) != "[0a 1b 2c 3d 0e]" {
		t.Errorf("%v\n%s", got, errs.String())
	}
	for _, want := range []string{"trying again", "numbers its events anew, from 0 on"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("nothing of %q: %s", want, errs.String())
		}
	}
}
