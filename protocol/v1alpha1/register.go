package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion returns the API group and version of the types here.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: GroupName, Version: Version}
}

// Resource returns the resource that Application objects are served as.
func Resource() schema.GroupVersionResource {
	return GroupVersion().WithResource("applications")
}

// AddToScheme registers the types, so that clients, informers and event
// recorders know them by kind.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion(), &Application{}, &ApplicationList{})
	metav1.AddToGroupVersion(scheme, GroupVersion())
	return nil
}
