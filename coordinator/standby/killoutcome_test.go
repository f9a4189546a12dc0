package standby

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// outcome is what has come of everything, without times. Placeholders have no number: they
// are named after when their application was submitted. What is told on them is left out:
// it depends on which of two events is heard first, with a kill or without.
type outcome struct {
	// state is what there is: records, statuses of objects, and pods.
	state, events []string
	// written are the states that were written into statuses, in order, but for the first
	// ones, which pass.
	written []string
}

func (w *killWorld) outcome() outcome {
	w.t.Helper()
	var o outcome
	w.mu.Lock()
	for key, value := range w.etcd {
		o.state = append(o.state, unnumbered("record "+timeless(w.t, decoded(w.t, key, value))))
	}
	o.state = append(o.state, fmt.Sprint("placeholders made: ", len(w.made)))
	w.mu.Unlock()
	pods, err := w.tracker.List(podResource, v1.SchemeGroupVersion.WithKind("Pod"), "")
	w.do(err)
	for _, pod := range pods.(*v1.PodList).Items {
		o.state = append(o.state, unnumbered(fmt.Sprint("pod ", pod.Name, " ", pod.Spec.NodeName, " ", pod.Status.Phase, " ", pod.Status.Reason)))
	}
	events, err := w.tracker.List(eventResource, v1.SchemeGroupVersion.WithKind("Event"), "")
	w.do(err)
	for _, e := range events.(*v1.EventList).Items {
		if placeholders.MatchString(e.InvolvedObject.Name) {
			continue
		}
		o.events = append(o.events, unnumbered(fmt.Sprintf("%s %s %s: %s", e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)))
	}
	if object, err := w.Lookup(v1alpha1.Resource(), "ns", "report"); err == nil {
		status, _ := object.Object["status"].(map[string]any)
		o.state = append(o.state, fmt.Sprint("status ", status["appID"], " ", status["applicationState"], " ", status["message"]))
	}
	if object, err := w.Lookup(podGroups, "ns", "crew"); err == nil {
		found, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
		for _, one := range found {
			c, _ := one.(map[string]any)
			o.state = append(o.state, fmt.Sprint("condition ", c["type"], " ", c["status"], " ", c["reason"], " ", c["message"]))
		}
	}
	slices.Sort(o.state)
	slices.Sort(o.events)
	o.written = slices.Compact(slices.DeleteFunc(strings.Split(w.Writes(), "; "), func(one string) bool {
		return strings.Contains(one, " New ") || strings.Contains(one, " Accepted ")
	}))
	return o
}

// timeless returns a record as text, without what depends on when something happened and
// how often it was tried.
func timeless(t *testing.T, c ledger.Change) string {
	t.Helper()
	var text []byte
	var err error
	if c.App != nil {
		app := *c.App
		app.StateLog = slices.Clone(app.StateLog)
		for i := range app.StateLog {
			app.StateLog[i].At = 0
		}
		app.Crews = slices.Clone(app.Crews)
		for i := range app.Crews {
			app.Crews[i].Until, app.Crews[i].Retries = 0, 0
		}
		app.Consumed = slices.Clone(app.Consumed)
		for i := range app.Consumed {
			app.Consumed[i].ResourceSeconds = nil
		}
		app.Submitted, app.PlaceholderDeadline, app.Started, app.Finished, app.Idle, app.Trace = 0, 0, 0, 0, 0, ""
		text, err = json.Marshal(app)
	} else {
		task := *c.Task
		task.Submitted, task.Allocated, task.Bound, task.NextAttempt, task.Retries, task.Trace = 0, 0, 0, 0, 0, ""
		text, err = json.Marshal(task)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	placeholders  = regexp.MustCompile(`(tg-[a-z0-9-]+?)(-[a-z0-9]{10}){1,2}\b`)
	recordedNodes = regexp.MustCompile(`\bnode-[0-9]{4}\b`)
)

// unnumbered leaves out the numbers of placeholders, and of nodes: the core draws which of the
// placeholders of a task group it gives up for which pod.
func unnumbered(text string) string {
	return recordedNodes.ReplaceAllString(placeholders.ReplaceAllString(text, "$1"), "n")
}
