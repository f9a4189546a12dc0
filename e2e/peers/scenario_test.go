package peers

import (
	"encoding/json"
	"testing"

	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// made returns the pods of the only load of a scenario.
func made(t *testing.T, name string, n int) []*v1.Pod {
	t.Helper()
	for _, s := range Scenarios() {
		if s.Name != name {
			continue
		}
		o := Default()
		o.Pods = n
		cfg := s.loads(o, o.pods(name))[0]
		var pods []*v1.Pod
		for i := range n {
			pod := &v1.Pod{}
			pod.Labels = map[string]string{}
			pod.Spec.Containers = make([]v1.Container, 1)
			cfg.Shape(i, pod)
			pods = append(pods, pod)
		}
		return pods
	}
	t.Fatalf("there is no scenario %s", name)
	return nil
}

// A gang that waited for a member that never comes would be no load.
func TestGangsAreWhole(t *testing.T) {
	members, wanted := map[string]int{}, map[string]int{}
	for _, pod := range made(t, "gangs", 3*gangSize+4) {
		var groups []struct{ MinMember int }
		if err := json.Unmarshal([]byte(pod.Annotations["yunikorn.apache.org/task-groups"]), &groups); err != nil || len(groups) != 1 {
			t.Fatalf("%v: %v", pod.Annotations, err)
		}
		app := pod.Labels["applicationId"]
		members[app]++
		wanted[app] = groups[0].MinMember
	}
	if len(members) != 4 {
		t.Errorf("%d gangs", len(members))
	}
	for app, n := range members {
		if n != wanted[app] {
			t.Errorf("%s has %d members of %d", app, n, wanted[app])
		}
	}
}

func TestShapesDiffer(t *testing.T) {
	shapes := map[string]int{}
	for _, pod := range made(t, "shapes", 2*shapeCount) {
		raw, err := json.Marshal(pod.Spec.Containers[0].Resources.Requests)
		if err != nil {
			t.Fatal(err)
		}
		shapes[string(raw)]++
	}
	if len(shapes) != shapeCount {
		t.Errorf("%d shapes", len(shapes))
	}
}

// Every queue that a scenario puts pods into is configured.
func TestQueuesAreThere(t *testing.T) {
	asked := map[string]bool{}
	for _, pod := range made(t, "mixed", 100) {
		asked[pod.Labels["queue"]] = true
	}
	if len(asked) != 2*mixedQueues {
		t.Errorf("pods are in %d queues", len(asked))
	}
	type level struct {
		Name   string
		Queues []level
	}
	there := map[string]bool{}
	var walk func(string, []level)
	walk = func(prefix string, queues []level) {
		for _, q := range queues {
			there[prefix+q.Name] = true
			walk(prefix+q.Name+".", q.Queues)
		}
	}
	for _, s := range Scenarios() {
		var file struct{ Partitions []level }
		if err := yaml.Unmarshal([]byte(allQueues(s.queues)), &file); err != nil || len(file.Partitions) != 1 {
			t.Fatalf("%s: %v", s.Name, err)
		}
		walk("", file.Partitions[0].Queues)
	}
	for name := range asked {
		if !there[name] {
			t.Errorf("%s is not configured", name)
		}
	}
	if !there["root."+heldQueue] {
		t.Errorf("%s is not configured", heldQueue)
	}
}
