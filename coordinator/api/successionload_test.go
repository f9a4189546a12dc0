package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// Leads change under load: pods come, are bound and go all the time, of applications that are compared
// like all others. A lead dies in the midst of it, with pods asked for, placed and not bound, bound and
// not noted as such. The load goes on while the next one is promoted, and for a while after that. What
// it leaves is what was before: answers are compared when it has not begun, and when it has ended.

const (
	// loadEvery is how often a pod of the load comes, and bindingTakes how long it takes to bind one.
	loadEvery    = 5 * time.Millisecond
	bindingTakes = 25 * time.Millisecond
	// loadKeeps is how many pods of the load run at a time, and how many wait at most; loadBindings how
	// many a lead has to bind before the load ends, or the lead dies.
	loadKeeps    = 40
	loadBindings = 50
	// One pod of so many goes before it has come to anything.
	loadSpoils = 7
	// loadName begins the names of its pods, and loadOf is their label with the application.
	loadName = "pressing-"
	loadOf   = "load-of"
)

func ofLoad(pod string) bool { return strings.HasPrefix(pod, loadName) }

// load is what goes on until it is ended.
type load struct {
	l     *lead
	over  chan struct{}
	going sync.WaitGroup
}

// press begins the load: with what the lead before has left of it, of which state has the records, as
// an app manager reports it to a new lead.
func (l *lead) press(state *ledger.Ledger) *load {
	p := &load{l: l, over: make(chan struct{})}
	if state != nil {
		l.reported(state)
	}
	p.going.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-p.over:
				return
			case <-time.After(loadEvery):
			}
			bound, waiting := l.pressing()
			if len(waiting) < loadKeeps {
				app := fmt.Sprintf("load-%d", n%loadApps)
				pod := l.newPod(fmt.Sprint(loadName, now().At), "50m", on("big"), func(p *v1.Pod) { p.Labels[loadOf] = app })
				l.addTask(app, pod, "", false)
			}
			l.goes(bound[:max(0, len(bound)-loadKeeps)])
			if n%loadSpoils == 0 {
				l.goes(waiting[max(0, len(waiting)-1):])
			}
		}
	})
	return p
}

// reported has the lead told of pods of the load that no record has, and of records whose pods have gone.
func (l *lead) reported(state *ledger.Ledger) {
	bound, waiting := l.pressing()
	for _, pod := range append(bound, waiting...) {
		if state.TaskByID(pod.Name) == nil {
			l.addTask(pod.Labels[loadOf], pod, "", false)
		}
	}
	for app := range state.Apps() {
		for task := range state.Tasks(app.ID) {
			if ofLoad(task.ID) && l.Pod("", task.ID) == nil {
				l.push(ledger.RemoveTask{Stamp: now(), AppID: task.AppID, TaskID: task.ID})
			}
		}
	}
}

// pressing are the pods of the load, the oldest first.
func (l *lead) pressing() (bound, waiting []*v1.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(l.pods)) {
		switch pod := l.pods[name]; {
		case !ofLoad(name):
		case pod.Spec.NodeName != "":
			bound = append(bound, pod)
		default:
			waiting = append(waiting, pod)
		}
	}
	return bound, waiting
}

// goes lets pods of the load go.
func (l *lead) goes(pods []*v1.Pod) {
	for _, pod := range pods {
		l.removePod(&ledger.Task{AppID: pod.Labels[loadOf], ID: pod.Name})
	}
}

func (p *load) stop() {
	close(p.over)
	p.going.Wait()
}

// end ends the load once the lead has bound enough of it, and waits until nothing of it is left.
func (p *load) end(t *testing.T) {
	t.Helper()
	err := until("the new lead has bound enough under load", func() bool {
		p.l.mu.Lock()
		defer p.l.mu.Unlock()
		return p.l.bindings >= loadBindings
	})
	p.stop()
	if err != nil {
		t.Fatal(err)
	}
	bound, waiting := p.l.pressing()
	p.l.goes(append(bound, waiting...))
	left := 0
	if err := until("nothing is left of the load", func() bool {
		p.l.Read(t.Context(), func(state *ledger.Ledger) {
			left = 0
			for i := range loadApps {
				for task := range state.Tasks(fmt.Sprintf("load-%d", i)) {
					if ofLoad(task.ID) {
						left++
					}
				}
			}
		})
		return left == 0
	}); err != nil {
		t.Fatalf("%v: %d tasks", err, left)
	}
}

// dies takes what is durable and what the cluster has at a moment at which much is under way.
func (l *lead) dies(t *testing.T, own *estate) {
	t.Helper()
	own.Past = pastOf(l.chronicle)
	l.mu.Lock()
	l.bindings = 0
	l.mu.Unlock()
	if err := until("the load is in full swing", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		asked, placed := 0, 0
		for key, value := range l.records {
			switch state, of := stateOf(key, value); {
			case !ofLoad(of):
			case state == ledger.TaskStateScheduling:
				asked++
			case state == ledger.TaskStateAllocated:
				placed++
			}
		}
		if l.bindings < loadBindings || asked == 0 || placed == 0 {
			return false
		}
		own.Records, own.Pods = maps.Clone(l.records), maps.Clone(l.pods)
		fmt.Printf("it dies with %d pods asked for and %d placed\n", asked, placed)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	l.load.stop()
}

// stateOf is the state of the task that a record is about, and its name.
func stateOf(key string, value []byte) (ledger.TaskState, string) {
	entry, err := successionKeys.Decode(key, value)
	if err != nil || entry.Change().Task == nil {
		return "", ""
	}
	task := entry.Change().Task
	return task.State, task.ID
}

// passed returns where an understudy that has the lead answer does not answer what the lead does.
func (l *lead) passed(t *testing.T, own answers) []string {
	t.Helper()
	server := httptest.NewServer(l.api)
	defer server.Close()
	url := behind(server.URL).serve(t)
	through := make(answers)
	_ = until("an understudy has the lead answer the same", func() bool {
		for request := range own {
			_, path, _ := strings.Cut(request, " ")
			resp, body := send(t, http.MethodGet, url+path, "")
			through[request] = said(resp.StatusCode, string(body))
		}
		return len(differences(own, through)) == 0
	})
	return differences(own, through)
}

// missing names the stages of gangs that no record of an estate is in.
func (e estate) missing() (stages []string) {
	wanted := map[string]func(*ledger.App) bool{
		"reserving":                  func(a *ledger.App) bool { return a.State == ledger.AppStateReserving && a.Gang[0].Bound == 0 },
		"reserving, with some bound": func(a *ledger.App) bool { return a.State == ledger.AppStateReserving && a.Gang[0].Bound > 0 },
		"running, with some replaced": func(a *ledger.App) bool {
			return a.State == ledger.AppStateRunning && a.Gang[0].Replaced > 0 && a.Gang[0].Replaced < a.Gang[0].Wanted
		},
		"running, with all replaced": func(a *ledger.App) bool {
			return a.State == ledger.AppStateRunning && a.Gang[0].Replaced == a.Gang[0].Wanted
		},
	}
	for _, state := range []ledger.AppState{
		ledger.AppStateResuming, ledger.AppStateFailing, ledger.AppStateFailed, ledger.AppStateKilling, ledger.AppStateCompleted,
	} {
		wanted[string(state)] = func(a *ledger.App) bool { return a.State == state }
	}
	for key, value := range e.Records {
		entry, err := successionKeys.Decode(key, value)
		if err != nil || entry.Change().App == nil || len(entry.Change().App.Gang) == 0 {
			continue
		}
		maps.DeleteFunc(wanted, func(_ string, is func(*ledger.App) bool) bool { return is(entry.Change().App) })
	}
	return slices.Sorted(maps.Keys(wanted))
}
