package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/e2e/lab"
)

// What a client of YuniKorn reads.
type (
	application struct {
		ApplicationID string            `json:"applicationID"`
		State         string            `json:"applicationState"`
		Used          map[string]int64  `json:"usedResource"`
		Allocations   []json.RawMessage `json:"allocations"`
	}
	node struct {
		Capacity    map[string]int64  `json:"capacity"`
		Schedulable bool              `json:"schedulable"`
		Allocations []json.RawMessage `json:"allocations"`
	}
	queue struct {
		Allocated map[string]int64 `json:"allocatedResource"`
	}
	events struct {
		InstanceUUID        string
		LowestID, HighestID uint64
		EventRecords        []json.RawMessage
	}
)

// TestREST asks every replica what YuniKorn's clients ask: all answer the same, which is
// what the lead says; after it has been killed, its successor, which says what it said.
func TestREST(t *testing.T) {
	s := onStage(t, 8*time.Second, 5*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	first, _ := s.lead()
	s.createOf(ctx, "one", "two")
	s.bound(ctx, "one", "two")
	s.judge(ctx, first, 2)
	before := s.answers(ctx, first)
	told := s.events(ctx, first, events{})

	s.do(s.Kill(first, syscall.SIGKILL))
	second, err := s.WaitLeader(ctx, first)
	s.do(err)
	s.lead() // all are ready again
	var different []string
	if until(ctx, func() bool {
		after := s.answers(ctx, second)
		different = nil
		for path, was := range before {
			if after[path] != was {
				different = append(different, fmt.Sprintf("%s\nwas %s\nis  %s", path, was, after[path]))
			}
		}
		return len(different) == 0
	}) != nil {
		t.Fatal(strings.Join(different, "\n"))
	}
	s.createOf(ctx, "three")
	s.bound(ctx, "three")
	s.judge(ctx, second, 3)
	s.events(ctx, second, told)
}

// events waits until all replicas tell more events than there were, and checks that those are
// the first.
func (s *stage) events(ctx context.Context, lead string, before events) (now events) {
	s.t.Helper()
	replicas, err := s.Replicas()
	s.do(err)
	for _, r := range replicas {
		s.do(until(ctx, func() bool {
			now, err = read[events](ctx, r, "/ws/v1/events/batch", lead)
			return err == nil && len(now.EventRecords) > len(before.EventRecords)
		}))
		first := now.EventRecords[:len(before.EventRecords)]
		switch {
		case now.LowestID != 0 || now.HighestID != uint64(len(now.EventRecords)-1):
			s.t.Errorf("%s tells %d events, from %d to %d", r.Name, len(now.EventRecords), now.LowestID, now.HighestID)
		case before.InstanceUUID != "" && now.InstanceUUID != before.InstanceUUID:
			s.t.Errorf("%s tells of %s, want %s", r.Name, now.InstanceUUID, before.InstanceUUID)
		case !reflect.DeepEqual(first, before.EventRecords) && len(first) > 0:
			s.t.Errorf("%s tells %s, want %s", r.Name, first, before.EventRecords)
		}
	}
	return now
}

// createOf creates pods of one application.
func (s *stage) createOf(ctx context.Context, names ...string) {
	s.t.Helper()
	for _, name := range names {
		_, err := s.Client().CoreV1().Pods(metav1.NamespaceDefault).Create(ctx, &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"applicationId": "rest-app", "queue": "root.default"}},
			Spec:       v1.PodSpec{SchedulerName: "yunikorn", Containers: []v1.Container{{Name: "main", Image: "none"}}},
		}, metav1.CreateOptions{})
		s.do(err)
	}
}

// ofOneLead are the fields of answers that a lead counts for itself. The table in
// coordinator/api by which TestEqualAfterFailovers compares says why.
var ofOneLead = map[string]bool{"lastStateTransitionTime": true, "allocationLog": true}

// answers are what a lead says of everything, without the order of lists.
func (s *stage) answers(ctx context.Context, lead string) map[string]string {
	s.t.Helper()
	const partition = "/ws/v1/partition/default"
	out := make(map[string]string)
	for _, path := range []string{
		"/ws/v1/partitions", partition + "/queues", partition + "/queue/root.default", partition + "/queue/root.default/applications",
		partition + "/application/rest-app", partition + "/applications/active", partition + "/applications/completed",
		partition + "/applications/rejected", partition + "/nodes", partition + "/placementrules", partition + "/usage/users",
		partition + "/usage/groups", "/api/v1/explain?application=rest-app", "/api/v1/explain?pod=default/one",
	} {
		said, err := read[any](ctx, s.Replica(lead), path, lead)
		s.do(err)
		out[path] = inOrder(said)
	}
	return out
}

// inOrder is a value as text, with lists in order and without what is of one lead.
func inOrder(value any) string {
	switch x := value.(type) {
	case map[string]any:
		maps.DeleteFunc(x, func(key string, _ any) bool { return ofOneLead[key] })
		fields := make([]string, 0, len(x))
		for _, key := range slices.Sorted(maps.Keys(x)) {
			fields = append(fields, key+": "+inOrder(x[key]))
		}
		return "{" + strings.Join(fields, ", ") + "}"
	case []any:
		elements := make([]string, 0, len(x))
		for _, element := range x {
			elements = append(elements, inOrder(element))
		}
		slices.Sort(elements)
		return "[" + strings.Join(elements, ", ") + "]"
	}
	return fmt.Sprint(value)
}

// judge waits until all replicas say of the application that it has so many pods, and that
// lead says so.
func (s *stage) judge(ctx context.Context, lead string, pods int) {
	s.t.Helper()
	replicas, err := s.Replicas()
	s.do(err)
	for _, r := range replicas {
		var said error
		err := until(ctx, func() bool {
			said = tells(ctx, r, lead, pods)
			return said == nil
		})
		if err != nil {
			s.t.Fatalf("%s: %v: %v", r.Name, err, said)
		}
	}
}

// tells checks what one replica answers.
func tells(ctx context.Context, r lab.Replica, lead string, pods int) error {
	const partition = "/ws/v1/partition/default"
	apps, err := read[[]application](ctx, r, partition+"/queue/root.default/applications", lead)
	if err != nil {
		return err
	}
	if len(apps) != 1 || apps[0].ApplicationID != "rest-app" || len(apps[0].Allocations) != pods || apps[0].State != "Running" {
		return fmt.Errorf("applications %+v", apps)
	}
	nodes, err := read[[]node](ctx, r, partition+"/nodes", lead)
	if err != nil {
		return err
	}
	if len(nodes) != 1 || len(nodes[0].Allocations) != pods || !nodes[0].Schedulable || nodes[0].Capacity["vcore"] == 0 {
		return fmt.Errorf("nodes %+v", nodes)
	}
	queues, err := read[queue](ctx, r, partition+"/queues", lead)
	if err != nil {
		return err
	}
	if queues.Allocated["pods"] != int64(pods) {
		return fmt.Errorf("the root queue has %v", queues.Allocated)
	}
	if r.Name == lead {
		return nil
	}
	stale, err := read[[]application](ctx, r, partition+"/queue/root.default/applications?stale", r.Name)
	if err != nil {
		return err
	}
	if len(stale) != 1 || len(stale[0].Allocations) != pods || stale[0].Used["pods"] != int64(pods) {
		return fmt.Errorf("the view has %+v", stale)
	}
	return nil
}

// read asks a replica, and wants to hear it from another, or from itself.
func read[T any](ctx context.Context, r lab.Replica, path, from string) (out T, err error) {
	resp, err := r.REST(ctx, path)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return out, err
	}
	if who := resp.Header.Get("X-Understudy-Replica"); resp.StatusCode != http.StatusOK || who != from {
		return out, fmt.Errorf("%s: %s by %s: %s", path, resp.Status, who, body)
	}
	return out, json.Unmarshal(body, &out)
}
