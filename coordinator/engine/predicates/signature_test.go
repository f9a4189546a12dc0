package predicates

import (
	"fmt"
	"log/slog"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// nodeWithRoom is a node with room for so many pods.
func nodeWithRoom(name string, pods int64) *v1.Node {
	return &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1.LabelHostname: name}},
		Status:     v1.NodeStatus{Allocatable: v1.ResourceList{v1.ResourcePods: *resource.NewQuantity(pods, resource.DecimalSI)}},
	}
}

// What was found out for pods of a signature is kept while there are such pods that ask,
// and hardly longer: applications that spread their pods by a label of their own would
// leave something of each node behind, each of them.
func TestSignaturesGoWithTheirPods(t *testing.T) {
	c, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c.SetNode(nodeWithRoom("n", 1000))
	pod := func(app, i int) *v1.Pod {
		labels := map[string]string{"app": fmt.Sprint(app)}
		return &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint(app, "-", i), UID: types.UID(fmt.Sprint(app, "-", i)), Labels: labels},
			Spec: v1.PodSpec{TopologySpreadConstraints: []v1.TopologySpreadConstraint{{
				MaxSkew: 1, TopologyKey: v1.LabelHostname, WhenUnsatisfiable: v1.DoNotSchedule,
				LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
			}}},
		}
	}
	const apps = 3 * keptSignatures
	for app := range apps {
		for i := range 2 {
			p := pod(app, i)
			c.SetPod(p)
			if err := c.Fits(string(p.UID), "n", true); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := len(c.signatures.states); got != apps {
		t.Errorf("%d signatures of %d applications", got, apps)
	}
	for app := range apps {
		bound := pod(app, 0)
		bound.Spec.NodeName = "n"
		c.SetPod(bound)
		if c.signatures.states[signature(bound)] == nil {
			t.Fatal("forgotten with a pod that asks still")
		}
		c.RemovePod(string(pod(app, 1).UID))
	}
	if got := len(c.signatures.states); got > keptSignatures {
		t.Errorf("%d signatures of which no pod asks", got)
	}
	for _, state := range c.signatures.states {
		if state.pods != 0 {
			t.Errorf("a signature has %d pods that ask", state.pods)
		}
	}
}

// Pods that all differ leave no more behind than some: what was found out for the one that was
// asked about long ago is found out again.
func TestStatesAreBounded(t *testing.T) {
	c, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c.SetNode(nodeWithRoom("n", 10))
	const pods = 2 * keptStates
	fits := func(i int) error { return c.Fits(fmt.Sprint(i), "n", true) }
	for i := range pods {
		labels := map[string]string{"app": "web", "index": fmt.Sprint(i)}
		c.SetPod(&v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint(i), UID: types.UID(fmt.Sprint(i)), Labels: labels},
			Spec: v1.PodSpec{TopologySpreadConstraints: []v1.TopologySpreadConstraint{{
				MaxSkew: 1, TopologyKey: v1.LabelHostname, WhenUnsatisfiable: v1.DoNotSchedule,
				LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			}}},
		})
		if err := fits(i); err != nil {
			t.Fatal(err)
		}
	}
	kept := 0
	for _, s := range c.signatures.states {
		if s.spread.valid {
			kept++
		}
	}
	if kept != keptStates {
		t.Errorf("the states of %d of %d signatures are kept", kept, pods)
	}
	c.Assume("0", "n")
	c.SetNode(nodeWithRoom("empty", 10))
	for i := 1; i < pods; i++ {
		if fits(i) == nil {
			t.Fatalf("pod %d fits beside another of its kind", i)
		}
	}
}
