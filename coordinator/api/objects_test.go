package api_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	_ "unsafe" // for the core's own conversions

	"github.com/apache/yunikorn-core/pkg/common/resources"
	"github.com/apache/yunikorn-core/pkg/common/security"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/coordinator/api"
)

//go:linkname coreApplication github.com/apache/yunikorn-core/pkg/webservice.getApplicationDAO
func coreApplication(*objects.Application) *dao.ApplicationDAOInfo

//go:linkname coreNode github.com/apache/yunikorn-core/pkg/webservice.getNodeDAO
func coreNode(*objects.Node) *dao.NodeDAOInfo

//go:linkname coreAsk github.com/apache/yunikorn-core/pkg/webservice.getAllocationAskDAO
func coreAsk(*objects.Allocation) *dao.AllocationAskDAOInfo

//go:linkname corePlaceholder github.com/apache/yunikorn-core/pkg/webservice.getPlaceholderDAO
func corePlaceholder(*objects.PlaceholderData) *dao.PlaceholderDAOInfo

// TestRareFields compares what objects of the core say in states that the others do not come
// into: what was preempted, has triggered preemption or an autoscaler, backs off, or was
// rejected, and a node in a rack.
func TestRareFields(t *testing.T) {
	resource := func(n int64) *si.Resource {
		return &si.Resource{Resources: map[string]*si.Quantity{"vcore": {Value: n}, "memory": {Value: n}}}
	}
	app := objects.NewApplication(&si.AddApplicationRequest{ApplicationID: "a", QueueName: "root.q", PartitionName: "[rm]default"},
		security.UserGroup{User: "u", Groups: []string{"g"}}, nil, "rm")
	app.SetBackoffDeadline(time.Unix(1000, 0))
	if err := app.RejectApplication("no room"); err != nil {
		t.Fatal(err)
	}
	node := objects.NewNode(&si.NodeInfo{NodeID: "n", Attributes: map[string]string{"si/rackname": "r", "si/hostname": "h"}, SchedulableResource: resource(100)})
	taken := objects.NewAllocationFromSI(&si.Allocation{AllocationKey: "taken", ApplicationID: "a", NodeID: "n", ResourcePerAlloc: resource(10), Priority: 3})
	if err := taken.MarkPreempted(); err != nil {
		t.Fatal(err)
	}
	node.AddAllocation(taken)
	ask := objects.NewAllocationFromSI(&si.Allocation{
		AllocationKey: "ask", ApplicationID: "a", ResourcePerAlloc: resource(10), Placeholder: true, TaskGroupName: "g", Originator: true,
	})
	ask.MarkTriggeredPreemption()
	ask.SetScaleUpTriggered(true)
	same := func(what string, got, want any, fields ...string) {
		t.Helper()
		ours, _ := json.Marshal(got)
		cores, _ := json.Marshal(want)
		if string(ours) != string(cores) {
			t.Errorf("%s\ngot  %s\nwant %s", what, ours, cores)
		}
		for _, field := range fields {
			if !strings.Contains(string(ours), `"`+field+`"`) {
				t.Errorf("%s: nothing is compared of %s: %s", what, field, ours)
			}
		}
	}
	same("application", api.ApplicationOf(app), coreApplication(app), "backoffDeadline", "rejectedMessage")
	same("node", api.NodeOf(node), coreNode(node), "rackName", "preempted")
	used := objects.NewApplication(&si.AddApplicationRequest{ApplicationID: "used", QueueName: "root.q", PartitionName: "[rm]default"},
		security.UserGroup{User: "u", Groups: []string{"g"}}, nil, "rm")
	for _, tracked := range []string{"usedResource", "preemptedResource", "placeholderResource"} {
		of := (*resources.TrackedResource)(reflect.ValueOf(used).Elem().FieldByName(tracked).UnsafePointer())
		of.AggregateTrackedResource("m5", resources.NewResourceFromMap(map[string]resources.Quantity{"vcore": 10}), time.Now().Add(-time.Hour))
	}
	same("usage", api.ApplicationOf(used), coreApplication(used), "resourceUsage", "preemptedResource", "placeholderResource")
	same("ask", api.AskOf(ask), coreAsk(ask), "triggeredPreemption", "triggeredScaleUp", "placeholder", "taskGroupName", "originator")
	group := &objects.PlaceholderData{TaskGroupName: "g", Count: 3, Replaced: 1, TimedOut: 2}
	same("placeholders", api.PlaceholderOf(group), corePlaceholder(group), "timedout")
}
