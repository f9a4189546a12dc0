package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GroupName and Version name the API group of the Application resource.
const (
	GroupName = "yunikorn.apache.org"
	Version   = "v1alpha1"
)

// TaskGroup describes pods of one application that are alike and that a gang
// needs together: MinMember of them, each asking for MinResource. Placeholder
// pods made for the group carry its labels, annotations and placement rules.
type TaskGroup struct {
	// Name is unique within the application.
	Name string `json:"name"`
	// MinMember is how many members the gang needs before it runs; above zero.
	MinMember int32 `json:"minMember"`
	// MinResource is what one member requests, by Kubernetes resource name.
	MinResource map[string]resource.Quantity `json:"minResource,omitempty"`
	Labels      map[string]string            `json:"labels,omitempty"`
	Annotations map[string]string            `json:"annotations,omitempty"`

	NodeSelector              map[string]string                 `json:"nodeSelector,omitempty"`
	Tolerations               []corev1.Toleration               `json:"tolerations,omitempty"`
	Affinity                  *corev1.Affinity                  `json:"affinity,omitempty"`
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// Application is the custom resource by which a user describes an application
// and reads back what became of it.
type Application struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ApplicationSpec   `json:"spec"`
	Status ApplicationStatus `json:"status,omitempty"`
}

// ApplicationSpec is what the user asks for.
type ApplicationSpec struct {
	SchedulingPolicy SchedulingPolicy `json:"schedulingPolicy"`
	Queue            string           `json:"queue"`
	TaskGroups       []TaskGroup      `json:"taskGroups,omitempty"`
}

// SchedulingPolicy selects how often and how insistently an application is tried.
type SchedulingPolicy struct {
	Type SchedulingPolicyType `json:"type"`
	// Parameters tune the policy, as in the pod annotation of the same purpose.
	Parameters map[string]string `json:"parameters,omitempty"`
}

// SchedulingPolicyType is one of the four policies below.
type SchedulingPolicyType string

// The scheduling policies.
const (
	TryOnce    SchedulingPolicyType = "TryOnce"
	MaxRetry   SchedulingPolicyType = "MaxRetry"
	TryReserve SchedulingPolicyType = "TryReserve"
	TryPreempt SchedulingPolicyType = "TryPreempt"
)

// ApplicationStatus is written by the lead only.
type ApplicationStatus struct {
	AppID            string               `json:"appID,omitempty"`
	ApplicationState ApplicationStateType `json:"applicationState,omitempty"`
	Message          string               `json:"message,omitempty"`
	LastUpdate       metav1.Time          `json:"lastUpdate,omitempty"`
}

// ApplicationStateType is the state of an application as its users see it;
// coarser than the states of the ledger.
type ApplicationStateType string

// The states that ApplicationStatus may show.
const (
	NewApplicationState       ApplicationStateType = "New"
	AcceptedApplicationState  ApplicationStateType = "Accepted"
	StartingApplicationState  ApplicationStateType = "Starting"
	RunningApplicationState   ApplicationStateType = "Running"
	WaitingApplicationState   ApplicationStateType = "Waiting"
	RejectedApplicationState  ApplicationStateType = "Rejected"
	CompletedApplicationState ApplicationStateType = "Completed"
	KilledApplicationState    ApplicationStateType = "Killed"
	FailedApplicationState    ApplicationStateType = "Failed"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// ApplicationList is what a LIST of applications returns.
type ApplicationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []Application `json:"items"`
}
