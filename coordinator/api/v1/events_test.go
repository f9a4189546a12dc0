package v1

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/replica/chronicle"
	"github.com/understudy-ha/understudy/replica/mirror"
)

// silent is a core that says nothing, and a mirror that is not asked.
type silent struct{}

func (silent) Read(int) ([]*si.EventRecord, uint64) { return nil, 0 }
func (silent) PutNotes([]mirror.Note, func())       {}

// TestEventsOfAllLeads: events have the numbers of the chronicle, which begins where what is
// not kept any more ends; before a new lead knows it there is no answer.
func TestEventsOfAllLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := unknown(t)
		r := populated()
		r.events = log
		r.serve()
		if code, body := r.get(Prefix + "events"); code != http.StatusServiceUnavailable || !strings.Contains(body, errNoEvents.Error()) {
			t.Errorf("before it is known: %d %s", code, body)
		}
		now := time.Now().UnixNano()
		past := chronicle.Past{ID: "c", Runs: []chronicle.Run{{First: 5, Last: 7, Events: []*si.EventRecord{
			{TimestampNano: now, Type: si.EventRecord_APP, ObjectID: "a", EventChangeType: si.EventRecord_ADD, EventChangeDetail: si.EventRecord_APP_NEW},
			{TimestampNano: now, Message: "our own"},
			{TimestampNano: now, Type: si.EventRecord_NODE, ObjectID: "n", ReferenceID: "t", Resource: &si.Resource{Resources: map[string]*si.Quantity{"vcore": {Value: 1500}}}},
		}}}}
		know(t, log, past)
		ids := func(r *replica, query string) string {
			names, _ := r.listed(t, query, "id")
			return strings.Join(names, " ")
		}
		for query, want := range map[string]string{
			"events?fields=id":                "5 6 7",
			"events?fields=id&object=n":       "7",
			"events?fields=id&kind=APP,NODE":  "5 7",
			"events?fields=id&limit=2":        "5 6",
			"events?fields=id&reference=none": "",
		} {
			if got := ids(r, query); got != want {
				t.Errorf("%s: %s, want %s", query, got, want)
			}
		}
		if names, token := r.listed(t, "events?limit=2", "id"); strings.Join(names, " ") != "5 6" || token == "" {
			t.Errorf("a page: %v, %q", names, token)
		} else if got := ids(r, "events?limit=2&continue="+token); got != "7" {
			t.Errorf("the next page: %s", got)
		}
		if code, body := r.get(Prefix + "events/7"); code != http.StatusOK || !strings.Contains(body, `"cpu":"1500m"`) || !strings.Contains(body, `"kind":"NODE"`) {
			t.Errorf("one: %d %s", code, body)
		}
		for _, none := range []string{"events/4", "events/8", "events/x"} {
			if code, _ := r.get(Prefix + none); code != http.StatusNotFound {
				t.Errorf("%s: %d", none, code)
			}
		}
	})
}

// TestManyEvents: a list is made in pieces, and has each event once.
func TestManyEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := populated()
		run := chronicle.Run{Last: 2*pieceItems + 2}
		for range run.Last + 1 {
			run.Events = append(run.Events, &si.EventRecord{TimestampNano: time.Now().UnixNano()})
		}
		r.events = unknown(t)
		know(t, r.events, chronicle.Past{ID: "c", Runs: []chronicle.Run{run}})
		r.serve()
		names, _ := r.listed(t, "events?fields=id", "id")
		if len(names) != len(run.Events) || names[len(names)-1] != fmt.Sprint(run.Last) {
			t.Errorf("%d events of %d, up to %s", len(names), len(run.Events), names[len(names)-1])
		}
	})
}

func unknown(t *testing.T) *chronicle.Log {
	t.Helper()
	cfg := chronicle.Default()
	cfg.Prefix = "/p"
	log, err := chronicle.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// know has a chronicle know a past.
func know(t *testing.T, log *chronicle.Log, past chronicle.Past) {
	t.Helper()
	go log.Keep(t.Context(), chronicle.Lead{
		Writer: silent{}, Events: silent{}, Count: func() (int, int, bool) { return 0, 0, false },
		Load: func(context.Context) (chronicle.Past, error) { return past, nil },
	})
	synctest.Wait()
}
