package general

import (
	"fmt"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/protocol"
)

// deaf is a contract that keeps nothing of what it is told.
type deaf struct{ *contract }

func (deaf) AddApplication(*protocol.AddApplicationRequest) protocol.ManagedApp { return nil }
func (deaf) AddTask(*protocol.AddTaskRequest) protocol.ManagedTask              { return nil }
func (deaf) Report(*protocol.AddTaskRequest) bool                               { return true }
func (deaf) RemoveTask(string, string)                                          {}
func (deaf) NotifyTaskComplete(string, string)                                  {}

// BenchmarkPodArrives is what the manager does for one pod of a running application: it is
// seen, bound, and gone.
func BenchmarkPodArrives(b *testing.B) {
	g := managing(deaf{&contract{}}, fakeCluster{}, nil)
	g.Resources = engine.ResourcesOf
	h := handlers{g}
	const pods = 1000
	var waiting, bound [pods]*v1.Pod
	for i := range pods {
		waiting[i] = pod(fmt.Sprintf("00000000-0000-4000-8000-%012d", i), asking("100m"))
		bound[i] = waiting[i].DeepCopy()
		bound[i].Spec.NodeName = "node-1"
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		h.OnAdd(waiting[i%pods], false)
		h.OnUpdate(waiting[i%pods], bound[i%pods])
		h.OnDelete(bound[i%pods])
		i++
	}
}
