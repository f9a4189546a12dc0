package custom

import (
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/workload"
)

// link leads from a pod, or from one of its owners, to the next owner.
type link struct {
	kind Kind
	name string
	// uid is empty where only the name is known.
	uid types.UID
	// object says that this is the object itself, not one on the way to it.
	object bool
}

// fromPod returns what is known of a pod's object from the pod alone, and false for a
// pod that belongs to none.
func (p *Program) fromPod(pod *v1.Pod) (link, bool) {
	if !p.selector.Matches(labels.Set(pod.Labels)) {
		return link{}, false
	}
	if key := p.definition.Pods.Label; key != "" {
		name := pod.Labels[key]
		return link{kind: p.definition.kind(), name: name, object: true}, name != ""
	}
	return p.fromOwner(metav1.GetControllerOfNoCopy(pod), 1)
}

// fromOwner returns where the n-th controller of a pod leads, and false if it does not
// lead to an object.
func (p *Program) fromOwner(controller *metav1.OwnerReference, n int) (link, bool) {
	if controller == nil || n > p.depth {
		return link{}, false
	}
	is := schema.FromAPIVersionAndKind(controller.APIVersion, controller.Kind).GroupKind()
	if is == p.definition.kind().gvk().GroupKind() {
		return link{p.definition.kind(), controller.Name, controller.UID, true}, true
	}
	if n == p.depth || p.definition.Pods.Owner == nil {
		return link{}, false
	}
	for _, kind := range p.definition.Pods.Owner.Through {
		if is == kind.gvk().GroupKind() {
			return link{kind, controller.Name, controller.UID, false}, true
		}
	}
	return link{}, false
}

// example returns a pod like those that will be the object's, with what tells whose it is.
// Where others are on the way from the object to its pods, they have no name yet.
func (p *Program) example(object *unstructured.Unstructured, template *v1.PodTemplateSpec, schedulerName string) *v1.Pod {
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: object.GetNamespace(), Labels: merged(template.Labels, nil), Annotations: merged(template.Annotations, nil),
		},
		Spec: v1.PodSpec{SchedulerName: schedulerName, SchedulingGroup: template.Spec.SchedulingGroup},
	}
	if key := p.definition.Pods.Label; key != "" {
		pod.Labels[key] = object.GetName()
	}
	if owner := p.definition.Pods.Owner; owner != nil && len(owner.Through) == 0 {
		pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(object, object.GroupVersionKind())}
	}
	return pod
}

// groupOf returns the task group that a pod says it is a member of, empty for none.
func (p *Program) groupOf(pod *v1.Pod, schedulerName string) (string, error) {
	if p.podGroup == nil {
		task, _ := workload.ParseTask(pod)
		return task.TaskGroupName, nil
	}
	e := evaluator{p: p, left: costPerObject, variables: map[string]any{
		varSchedulerName: schedulerName,
		varPod: map[string]any{"metadata": map[string]any{
			"name": pod.Name, "namespace": pod.Namespace, "labels": pod.Labels, "annotations": pod.Annotations,
		}},
	}}
	name := e.text(p.podGroup)
	if e.err != nil {
		e.err.Object = "pod " + pod.Namespace + "/" + pod.Name
		return "", e.err
	}
	return name, nil
}
