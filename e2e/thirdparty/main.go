// Command batches is understudy with one more app manager, as anybody may write it in a
// module of their own: pods that name a batch in an annotation are one application for
// each batch.
package main

import (
	"maps"
	"os"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator"
	"github.com/understudy-ha/understudy/coordinator/command"
	"github.com/understudy-ha/understudy/protocol"
)

func main() {
	managers := maps.Clone(coordinator.Managers())
	managers["batches"] = newBatches
	os.Exit(command.Main(managers))
}

const annotation = "example.com/batch"

// batches is the app manager. It keeps nothing: what it has reported is not lost.
type batches struct {
	coordinator.ManagerDeps
	queue string
	watch cache.ResourceEventHandlerRegistration
}

var _ protocol.AppManager = (*batches)(nil)

func newBatches(deps coordinator.ManagerDeps) (protocol.AppManager, error) {
	settings := struct {
		Queue string `yaml:"queue"`
	}{"root.default"}
	err := deps.Settings(&settings)
	return &batches{ManagerDeps: deps, queue: settings.Queue}, err
}

func (b *batches) Name() string       { return b.ManagerDeps.Name }
func (b *batches) ServiceInit() error { return nil }

// Claims has a manager that comes later in the configuration leave these pods alone.
func (b *batches) Claims(pod *v1.Pod) bool { return pod.Annotations[annotation] != "" }

func (b *batches) Start() (err error) {
	b.watch, err = b.Cluster.PodInformer().AddEventHandler(cache.FilteringResourceEventHandler{
		FilterFunc: func(obj any) bool {
			pod, ok := obj.(*v1.Pod)
			return ok && pod.Spec.SchedulerName == b.SchedulerName && b.Claims(pod)
		},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { b.seen(obj.(*v1.Pod)) },
			UpdateFunc: func(_, obj any) { b.seen(obj.(*v1.Pod)) },
			DeleteFunc: func(obj any) {
				if pod, ok := obj.(*v1.Pod); ok {
					b.Protocol.RemoveTask(appOf(pod), string(pod.UID))
				}
			},
		},
	})
	return err
}

func (b *batches) Stop() {
	if b.watch != nil {
		_ = b.Cluster.PodInformer().RemoveEventHandler(b.watch) // it fails only once that is stopped
	}
}

func (b *batches) seen(pod *v1.Pod) {
	app, task := appOf(pod), string(pod.UID)
	if pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed {
		b.Protocol.NotifyTaskComplete(app, task)
		return
	}
	if b.Protocol.GetApplication(app) == nil {
		b.Protocol.AddApplication(&protocol.AddApplicationRequest{Metadata: protocol.ApplicationMetadata{
			ApplicationID: app, QueueName: b.queue, User: "nobody",
			Tags: map[string]string{"namespace": pod.Namespace}, CreationTime: pod.CreationTimestamp.Unix(),
		}})
	}
	b.Protocol.AddTask(&protocol.AddTaskRequest{Metadata: protocol.TaskMetadata{ApplicationID: app, TaskID: task, Pod: pod}})
}

func appOf(pod *v1.Pod) string { return pod.Namespace + "." + pod.Annotations[annotation] }
