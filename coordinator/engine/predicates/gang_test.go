package predicates_test

import (
	"log/slog"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

func TestGangProblem(t *testing.T) {
	c, err := predicates.New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"n1", "n2"} {
		c.SetNode(&v1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1.LabelHostname: name}},
			Spec:       v1.NodeSpec{Unschedulable: name == "n2"}, // which passes
			Status: v1.NodeStatus{Allocatable: v1.ResourceList{
				v1.ResourceCPU: resource.MustParse("4"), v1.ResourceMemory: resource.MustParse("8Gi"), v1.ResourcePods: resource.MustParse("10"),
			}},
		})
	}
	group := func(members int32, cpu string, edit ...func(*v1alpha1.TaskGroup)) v1alpha1.TaskGroup {
		g := v1alpha1.TaskGroup{Name: "g", MinMember: members, MinResource: map[string]resource.Quantity{"cpu": resource.MustParse(cpu)}}
		for _, e := range edit {
			e(&g)
		}
		return g
	}
	on := func(node string) func(*v1alpha1.TaskGroup) {
		return func(g *v1alpha1.TaskGroup) { g.NodeSelector = map[string]string{v1.LabelHostname: node} }
	}
	for _, tt := range []struct {
		name   string
		groups []v1alpha1.TaskGroup
		says   string
	}{
		{"fits", []v1alpha1.TaskGroup{group(8, "1")}, ""},
		{"fits in parts", []v1alpha1.TaskGroup{group(4, "1", on("n1")), group(4, "1", on("n2"))}, ""},
		{"asks for nothing", []v1alpha1.TaskGroup{group(20, "0")}, ""},
		{"one too many", []v1alpha1.TaskGroup{group(9, "1")}, "has 9 members"},
		{"no room between", []v1alpha1.TaskGroup{group(3, "2500m")}, "room for 2"},
		{"too many pods", []v1alpha1.TaskGroup{group(21, "1u")}, "room for 20"},
		{"member too big", []v1alpha1.TaskGroup{group(1, "5")}, "fits on none of 2 nodes"},
		{"more than there is anywhere", []v1alpha1.TaskGroup{group(1, "10P")}, "fits on none"},
		{"nobody has it", []v1alpha1.TaskGroup{group(1, "1", func(g *v1alpha1.TaskGroup) { g.MinResource["nvidia.com/gpu"] = resource.MustParse("1") })}, "fits on none"},
		{"one node only", []v1alpha1.TaskGroup{group(5, "1", on("n1"))}, "room for 4"},
		{"no such node", []v1alpha1.TaskGroup{group(1, "1", on("n3"))}, "fits on none"},
		{"together too big", []v1alpha1.TaskGroup{group(6, "1"), group(3, "1")}, "all members together ask for 9000 of cpu"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := c.GangProblem(tt.groups); (got == "") != (tt.says == "") || !strings.Contains(got, tt.says) {
				t.Errorf("says %q, want %q", got, tt.says)
			}
		})
	}
}
