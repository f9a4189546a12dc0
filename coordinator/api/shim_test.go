package api_test

import (
	"net/http/httptest"
	"testing"

	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/api"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// TestStateDumpHasTheShimsPart: in the form in which YuniKorn's shim gives it.
func TestStateDumpHasTheShimsPart(t *testing.T) {
	w := theWorld(t)
	records := ledger.New()
	records.Apply(ledger.Change{Key: ledger.Key{AppID: "app"}, App: &ledger.App{ID: "app", State: ledger.AppStateRunning}})
	records.Apply(ledger.Change{Key: ledger.Key{AppID: "app", TaskID: "u2"}, Task: &ledger.Task{
		AppID: "app", ID: "u2", State: ledger.TaskStateAllocated, Node: "n2",
	}})
	pod := func(name, node string, phase v1.PodPhase) *v1.Pod {
		return &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("u" + name[1:])},
			Spec:       v1.PodSpec{NodeName: node, Containers: []v1.Container{{Name: "main"}}}, Status: v1.PodStatus{Phase: phase},
		}
	}
	known := api.Objects{
		Nodes:           []*v1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"zone": "a"}}}},
		Pods:            []*v1.Pod{pod("p1", "n1", v1.PodRunning), pod("p2", "", v1.PodPending), pod("p3", "", v1.PodPending)},
		PriorityClasses: []*schedulingv1.PriorityClass{{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 9}},
	}
	server := httptest.NewServer(api.New(api.Config{Scheme: "http", Objects: func() api.Objects { return known }}, explained{w, records}, discard))
	t.Cleanup(server.Close)
	type placement struct {
		UID, AssignedNode, InProgressNode string
		Assumed, AllVolumesBound          bool
	}
	status, dump := asked[struct {
		RMDiagnostics struct {
			Cache struct {
				Statistics struct {
					Nodes, Pods, PriorityClasses, Assumed, InProgressAllocations, PodsAssigned int
					Phases                                                                     map[string]int
				}
				Nodes           map[string]struct{ Labels map[string]string }
				Pods            map[string]struct{ Containers []struct{ Name string } }
				PriorityClasses map[string]struct{ Value int }
				SchedulingState map[string]placement
			}
		}
	}](t, server.URL+"/debug/fullstatedump")
	cache := dump.RMDiagnostics.Cache
	if s := cache.Statistics; status != 200 || s.Nodes != 1 || s.Pods != 3 || s.PriorityClasses != 1 || s.Assumed != 1 ||
		s.InProgressAllocations != 1 || s.PodsAssigned != 2 || s.Phases["Pending"] != 2 || s.Phases["Running"] != 1 {
		t.Errorf("%d, statistics %+v", status, s)
	}
	if cache.Nodes["n1"].Labels["zone"] != "a" || cache.PriorityClasses["high"].Value != 9 || cache.Pods["ns/p3"].Containers[0].Name != "main" {
		t.Errorf("objects: %+v", cache)
	}
	for pod, want := range map[string]placement{
		"ns/p1": {UID: "u1", AssignedNode: "n1", AllVolumesBound: true},
		"ns/p2": {UID: "u2", AssignedNode: "n2", Assumed: true, InProgressNode: "n2"},
		"ns/p3": {UID: "u3"},
	} {
		if got := cache.SchedulingState[pod]; got != want {
			t.Errorf("%s: %+v, want %+v", pod, got, want)
		}
	}
}
