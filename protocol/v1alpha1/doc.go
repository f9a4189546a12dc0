// Package v1alpha1 holds the types of the Application custom resource
// (applications.yunikorn.apache.org/v1alpha1) and of the task groups that gang
// workloads declare. Field names and JSON are those that YuniKorn workloads
// already use, so that no manifest has to change.
//
// zz_generated.deepcopy.go is made by k8s.io/code-generator's deepcopy-gen.
//
// +k8s:deepcopy-gen=package
package v1alpha1
