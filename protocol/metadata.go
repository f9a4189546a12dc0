package protocol

import (
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// ApplicationMetadata describes an application. Maps and slices belong to the
// receiver once they have been handed over.
type ApplicationMetadata struct {
	// ApplicationID is unique in the cluster.
	ApplicationID string
	// QueueName is the full name of the queue asked for; empty leaves the
	// choice to the placement rules.
	QueueName string
	// User is who the application is accounted to.
	User string
	// Tags are passed to the scheduling engine; among them is the namespace.
	Tags map[string]string
	// TaskGroups makes a gang of the application if it is not empty.
	TaskGroups []v1alpha1.TaskGroup
	// OwnerReferences is who owns the placeholder pods made for the gang.
	OwnerReferences []metav1.OwnerReference
	// SchedulingPolicyParameters tunes gang scheduling; nil selects defaults.
	SchedulingPolicyParameters *SchedulingPolicyParameters
	// CreationTime orders the application in its queue: seconds since the Unix
	// epoch, zero for unknown.
	CreationTime int64
}

// TaskMetadata describes one task: a pod.
type TaskMetadata struct {
	ApplicationID string
	// TaskID is the UID of the pod.
	TaskID string
	// Pod is shared with the informers' caches and must not be changed.
	Pod *v1.Pod
	// Placeholder says that the pod only holds the place of a gang's member.
	Placeholder bool
	// TaskGroupName is the task group the pod belongs to, empty for none.
	TaskGroupName string
}
