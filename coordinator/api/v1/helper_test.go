package v1

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/yunikorn-core/pkg/scheduler"
	"github.com/julienschmidt/httprouter"

	"github.com/understudy-ha/understudy/coordinator/changes"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/replica/chronicle"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// replica is one whose records a test changes.
type replica struct {
	turn    chan struct{} // held by who uses the records
	records *ledger.Ledger
	log     *changes.Log
	over    chan struct{}
	leads   atomic.Bool
	epoch   uint64
	terms   []serve.Term
	events  *chronicle.Log
	blind   bool // it has nothing to read
	api     *API
	router  *httprouter.Router
}

func newReplica() *replica {
	r := &replica{
		turn: make(chan struct{}, 1), records: ledger.New(), log: changes.New(64), over: make(chan struct{}), epoch: 7,
	}
	r.leads.Store(true)
	r.log.Begin(100)
	r.serve()
	return r
}

// serve makes what answers.
func (r *replica) serve() {
	r.router = httprouter.New()
	r.api = New(Replica{
		Read: func(ctx context.Context, read func(*ledger.Ledger)) bool {
			select {
			case r.turn <- struct{}{}:
			case <-ctx.Done():
				return false
			}
			defer func() { <-r.turn }()
			if r.blind {
				return false
			}
			read(r.records)
			return true
		},
		Core:     func() *scheduler.PartitionContext { return nil },
		Standing: func() (bool, uint64) { return r.leads.Load(), r.epoch },
		Changes:  r.log, Terms: func() []serve.Term { return r.terms }, Events: r.events,
		Turn: func(ctx context.Context, work func()) bool { work(); return ctx.Err() == nil },
		Over: r.over, RevisionHeader: "Revision",
	})
	r.handle(r.api.Endpoints())
}

func (r *replica) handle(endpoints []Endpoint) {
	for _, e := range endpoints {
		r.router.Handler(http.MethodGet, e.Pattern, e.Handle)
	}
}

// change makes changes durable at a revision.
func (r *replica) change(revision int64, list ...ledger.Change) {
	r.turn <- struct{}{}
	for _, c := range list {
		r.records.Apply(c)
	}
	<-r.turn
	r.log.Note(list, revision, true)
}

func app(id, queue, user string, state ledger.AppState) ledger.Change {
	return ledger.Change{Key: ledger.Key{AppID: id}, App: &ledger.App{
		ID: id, Manager: "general", Queue: queue, User: user, State: state, Tags: map[string]string{"namespace": "ns"}, Submitted: 1e18,
	}}
}

func task(app, id, node string, state ledger.TaskState) ledger.Change {
	return ledger.Change{Key: ledger.Key{AppID: app, TaskID: id}, Task: &ledger.Task{
		AppID: app, ID: id, Namespace: "ns", Name: "pod-" + id, Node: node, State: state, Resources: map[string]int64{"vcore": 1500, "memory": 1 << 30},
	}}
}

func gone(app, task string) ledger.Change {
	return ledger.Change{Key: ledger.Key{AppID: app, TaskID: task}}
}

// populated has a few of everything.
func populated() *replica {
	r := newReplica()
	r.change(101,
		app("a", "root.x", "alice", ledger.AppStateRunning), app("b", "root.y", "bob", ledger.AppStateRunning),
		app("c", "root.x", "bob", ledger.AppStateAccepted), app("d", "root.x", "alice", ledger.AppStateCompleted),
		task("a", "t1", "n1", ledger.TaskStateBound), task("a", "t2", "", ledger.TaskStateScheduling),
		task("b", "t3", "n2", ledger.TaskStateBound), task("orphaned", "t4", "n2", ledger.TaskStateBound))
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r.terms = []serve.Term{
		{Epoch: 10, Incarnation: "r0_C", Started: at.Add(time.Hour), Reason: "handed over"},
		{
			Epoch: 9, Incarnation: "r1_B", Started: at.Add(100 * time.Millisecond), Ended: at.Add(time.Minute), Reason: "dead", EndReason: "handed over",
			Timings: []serve.Timing{{Step: "claimed", At: at.Add(120 * time.Millisecond)}, {Step: StepLeading, At: at.Add(250 * time.Millisecond)}},
		},
		{Epoch: 8, Incarnation: "r0_A", Started: at.Add(-time.Hour), Ended: at, EndReason: "crashed"},
	}
	return r
}

// get asks for a path.
func (r *replica) get(path string, headers ...string) (int, string) {
	req := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	r.router.ServeHTTP(w, req)
	return w.Code, strings.TrimSuffix(w.Body.String(), "\n")
}

// listed asks for a list and returns the names of what is in it.
func (r *replica) listed(t *testing.T, path, name string) (names []string, token string) {
	t.Helper()
	status, body := r.get(Prefix + path)
	var list List[map[string]any]
	if err := json.Unmarshal([]byte(body), &list); err != nil || status != http.StatusOK {
		t.Fatalf("%s: %d, %v: %s", path, status, err, body)
	}
	if list.Items == nil || list.Epoch != r.epoch || list.Revision == 0 {
		t.Fatalf("%s: %s", path, body)
	}
	for _, item := range list.Items {
		names = append(names, fmt.Sprint(item[name]))
	}
	return names, list.Continue
}

// client takes what a watch sends, in a bubble of synctest.
type client struct {
	header   http.Header
	events   chan string // one piece of a watch each
	deadline time.Time
	status   int
	done     chan struct{} // closed when the watch has ended
	close    context.CancelFunc
}

func (c *client) Header() http.Header                 { return c.header }
func (c *client) WriteHeader(status int)              { c.status = status }
func (c *client) Flush()                              {}
func (c *client) SetWriteDeadline(at time.Time) error { c.deadline = at; return nil }
func (c *client) SetReadDeadline(time.Time) error     { return nil }
func (c *client) Write(b []byte) (int, error) {
	timeout := time.NewTimer(time.Until(c.deadline))
	defer timeout.Stop()
	select {
	case c.events <- string(b):
		return len(b), nil
	case <-timeout.C:
		return 0, os.ErrDeadlineExceeded
	}
}

// watch begins a watch of which nothing is read yet.
func (r *replica) watch(t *testing.T, path string, headers ...string) *client {
	ctx, cancel := context.WithCancel(t.Context())
	c := &client{header: make(http.Header), events: make(chan string), done: make(chan struct{}), close: cancel}
	req := httptest.NewRequest(http.MethodGet, Prefix+path, nil).WithContext(ctx)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	go func() {
		defer close(c.done)
		r.router.ServeHTTP(c, req)
	}()
	return c
}

// event is one of a watch.
type received struct{ name, id, data string }

// parsed takes a piece of a watch apart.
func parsed(piece string) (events []received) {
	for text := range strings.SplitSeq(strings.TrimSuffix(piece, "\n\n"), "\n\n") {
		var e received
		for line := range strings.SplitSeq(text, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "event":
				e.name = value
			case "id":
				e.id = value
			case "data":
				e.data = value
			}
		}
		events = append(events, e)
	}
	return events
}

// read returns the events that come until one has that name.
func (c *client) read(t *testing.T, until string) (events []received) {
	t.Helper()
	for {
		select {
		case piece := <-c.events:
			events = append(events, parsed(piece)...)
			if events[len(events)-1].name == until {
				return events
			}
		case <-c.done:
			t.Fatalf("the watch has ended: %v", events)
		case <-time.After(time.Minute):
			t.Fatalf("no event %s: %v", until, events)
		}
	}
}

// copyOf is what a client has that keeps what a watch tells it.
type copyOf map[string]string

// take takes events in.
func (m copyOf) take(events ...received) {
	for _, e := range events {
		var item struct{ ID string }
		if err := json.Unmarshal([]byte(e.data), &item); err != nil {
			panic(fmt.Sprintf("%v: %+v", err, e))
		}
		switch e.name {
		case EventPut:
			m[item.ID] = e.data
		case EventDelete:
			delete(m, item.ID)
		case EventResync:
			clear(m)
		}
	}
}

func (m copyOf) equal(o copyOf) bool { return maps.Equal(m, o) }

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

// kindOf is the type of the items of a list.
func kindOf(list string) reflect.Type {
	return map[string]reflect.Type{
		"applications": reflect.TypeFor[Application](), "tasks": reflect.TypeFor[Task](), "users": reflect.TypeFor[User](), "terms": reflect.TypeFor[Term](),
		"failovers": reflect.TypeFor[Failover](), "queues": reflect.TypeFor[Queue](), "nodes": reflect.TypeFor[Node](),
		"events": reflect.TypeFor[Event](),
	}[list]
}
