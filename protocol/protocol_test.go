// The package is an app manager as a third party would write it against the
// seed interfaces: it compiles only while every name and signature is there.
package protocol_test

import (
	"testing"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

type thirdParty struct {
	amp  protocol.ApplicationManagementProtocol
	pods []*v1.Pod
}

var (
	_ protocol.AppManager  = (*thirdParty)(nil)
	_ protocol.Recoverable = (*thirdParty)(nil)

	_ protocol.ApplicationManagementProtocol = (*coordinator)(nil)
	_ protocol.ManagedApp                    = (*app)(nil)
	_ protocol.ManagedTask                   = (*task)(nil)

	_ func(int64, string) *protocol.SchedulingPolicyParameters = protocol.NewSchedulingPolicyParameters
	_ func(*protocol.SchedulingPolicyParameters) int64         = (*protocol.SchedulingPolicyParameters).GetPlaceholderTimeout
	_ func(*protocol.SchedulingPolicyParameters) string        = (*protocol.SchedulingPolicyParameters).GetGangSchedulingStyle
)

func (m *thirdParty) Name() string       { return "third-party" }
func (m *thirdParty) ServiceInit() error { return nil }
func (m *thirdParty) Stop()              {}

func (m *thirdParty) Start() error {
	for _, pod := range m.pods {
		id := pod.Labels["applicationId"]
		if m.amp.GetApplication(id) == nil {
			m.amp.AddApplication(&protocol.AddApplicationRequest{Metadata: m.metadata(pod)})
		}
		m.amp.AddTask(&protocol.AddTaskRequest{Metadata: protocol.TaskMetadata{
			ApplicationID: id,
			TaskID:        string(pod.UID),
			Pod:           pod,
			Placeholder:   false,
			TaskGroupName: "workers",
		}})
	}
	return nil
}

func (m *thirdParty) metadata(pod *v1.Pod) protocol.ApplicationMetadata {
	return protocol.ApplicationMetadata{
		ApplicationID:              pod.Labels["applicationId"],
		QueueName:                  "root.default",
		User:                       "alice",
		Tags:                       map[string]string{"namespace": pod.Namespace},
		TaskGroups:                 []v1alpha1.TaskGroup{{Name: "workers", MinMember: 2}},
		OwnerReferences:            []metav1.OwnerReference{{UID: pod.UID}},
		SchedulingPolicyParameters: protocol.NewSchedulingPolicyParameters(30, "Hard"),
		CreationTime:               pod.CreationTimestamp.Unix(),
	}
}

func (m *thirdParty) ListApplications() (map[string]protocol.ApplicationMetadata, error) {
	apps := map[string]protocol.ApplicationMetadata{}
	for _, pod := range m.pods {
		apps[pod.Labels["applicationId"]] = m.metadata(pod)
	}
	return apps, nil
}

func (m *thirdParty) GetExistingAllocation(pod *v1.Pod) *si.Allocation {
	return &si.Allocation{AllocationKey: string(pod.UID), NodeID: pod.Spec.NodeName}
}

// coordinator, app and task implement the other side, as a third party's tests
// would.
type coordinator struct{ apps map[string]*app }

func (c *coordinator) GetApplication(appID string) protocol.ManagedApp {
	if a, ok := c.apps[appID]; ok {
		return a
	}
	return nil
}

func (c *coordinator) AddApplication(request *protocol.AddApplicationRequest) protocol.ManagedApp {
	a := &app{meta: request.Metadata, tasks: map[string]*task{}}
	c.apps[a.meta.ApplicationID] = a
	return a
}

func (c *coordinator) RemoveApplication(appID string) error { delete(c.apps, appID); return nil }

func (c *coordinator) AddTask(request *protocol.AddTaskRequest) protocol.ManagedTask {
	t := &task{meta: request.Metadata}
	c.apps[t.meta.ApplicationID].tasks[t.meta.TaskID] = t
	return t
}

func (c *coordinator) RemoveTask(appID, taskID string)         { delete(c.apps[appID].tasks, taskID) }
func (c *coordinator) NotifyApplicationComplete(string)        {}
func (c *coordinator) NotifyApplicationFail(string)            {}
func (c *coordinator) NotifyTaskComplete(appID, taskID string) {}

type app struct {
	meta  protocol.ApplicationMetadata
	tasks map[string]*task
}

func (a *app) GetApplicationID() string                        { return a.meta.ApplicationID }
func (a *app) GetTask(id string) (protocol.ManagedTask, error) { return a.tasks[id], nil }
func (a *app) GetApplicationState() string                     { return "New" }
func (a *app) GetQueue() string                                { return a.meta.QueueName }
func (a *app) GetUser() string                                 { return a.meta.User }
func (a *app) SetState(string)                                 {}
func (a *app) TriggerAppRecovery() error                       { return nil }

type task struct{ meta protocol.TaskMetadata }

func (t *task) GetTaskID() string    { return t.meta.TaskID }
func (t *task) GetTaskState() string { return "New" }
func (t *task) GetTaskPod() *v1.Pod  { return t.meta.Pod }

func TestThirdPartyManager(t *testing.T) {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{
		UID: "uid-1", Namespace: "ns", Name: "driver", Labels: map[string]string{"applicationId": "app-1"},
	}}
	c := &coordinator{apps: map[string]*app{}}
	m := &thirdParty{amp: c, pods: []*v1.Pod{pod}}
	if err := m.ServiceInit(); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	defer m.Stop()
	got, err := c.GetApplication("app-1").GetTask("uid-1")
	if err != nil || got.GetTaskPod() != pod {
		t.Fatalf("GetTask = %v, %v; want the pod that was added", got, err)
	}
	policy := c.apps["app-1"].meta.SchedulingPolicyParameters
	if policy.GetPlaceholderTimeout() != 30 || policy.GetGangSchedulingStyle() != "Hard" {
		t.Errorf("policy = %d, %q; want 30, Hard", policy.GetPlaceholderTimeout(), policy.GetGangSchedulingStyle())
	}
}
