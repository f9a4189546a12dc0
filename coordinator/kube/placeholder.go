package kube

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

const (
	placeholderContainer = "pause"
	placeholderUser      = int64(1000)
	placeholderGroup     = int64(3000)
)

// placeholder builds the pod that holds the place of one member of a gang. Its
// labels and annotations are such that the gang can be told from its
// placeholders alone, should every record and every other pod be lost.
func placeholder(e ledger.CreatePlaceholder, cfg PodsConfig) (*v1.Pod, error) {
	namespace := e.App.Tags[workload.TagNamespace]
	if namespace == "" {
		return nil, errors.New("the namespace of the application is not known")
	}
	group := taskGroup(e.App, e.Group)
	if group == nil {
		return nil, fmt.Errorf("the application has no task group %q", e.Group)
	}
	labels, annotations, err := placeholderMeta(e.App, group)
	if err != nil {
		return nil, err
	}
	// Records are shared; what goes into the pod is a copy.
	group = group.DeepCopy()
	owners := make([]metav1.OwnerReference, len(e.App.OwnerReferences))
	for i := range e.App.OwnerReferences {
		e.App.OwnerReferences[i].DeepCopyInto(&owners[i])
	}
	requests, limits := placeholderResources(group)
	no, yes, user, usersGroup, grace := false, true, placeholderUser, placeholderGroup, int64(0)
	meta := metav1.ObjectMeta{
		Namespace: namespace, Name: e.Name,
		Labels: labels, Annotations: annotations, OwnerReferences: owners,
	}
	cfg.Tenure.sign(&meta)
	return &v1.Pod{
		ObjectMeta: meta,
		Spec: v1.PodSpec{
			SchedulerName:                 cfg.SchedulerName,
			RestartPolicy:                 v1.RestartPolicyNever,
			TerminationGracePeriodSeconds: &grace,
			AutomountServiceAccountToken:  &no,
			PriorityClassName:             e.App.Tags[workload.TagPriorityClass],
			ImagePullSecrets:              pullSecrets(e.App.Tags[workload.TagImagePullSecrets]),
			NodeSelector:                  group.NodeSelector,
			Tolerations:                   group.Tolerations,
			Affinity:                      group.Affinity,
			TopologySpreadConstraints:     group.TopologySpreadConstraints,
			SecurityContext: &v1.PodSecurityContext{
				RunAsNonRoot: &yes, RunAsUser: &user, RunAsGroup: &usersGroup,
				SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []v1.Container{{
				Name:            placeholderContainer,
				Image:           cfg.Image,
				ImagePullPolicy: v1.PullIfNotPresent,
				Resources:       v1.ResourceRequirements{Requests: requests, Limits: limits},
				SecurityContext: &v1.SecurityContext{
					AllowPrivilegeEscalation: &no,
					Capabilities:             &v1.Capabilities{Drop: []v1.Capability{"ALL"}},
				},
			}},
		},
	}, nil
}

func taskGroup(app *ledger.App, name string) *v1alpha1.TaskGroup {
	for i := range app.TaskGroups {
		if app.TaskGroups[i].Name == name {
			return &app.TaskGroups[i]
		}
	}
	return nil
}

// placeholderMeta returns the group's labels and annotations with those that
// make the pod a placeholder on top, under their old names too, by which tools
// select pods.
func placeholderMeta(app *ledger.App, group *v1alpha1.TaskGroup) (labels, annotations map[string]string, err error) {
	labels, annotations = map[string]string{}, map[string]string{}
	maps.Copy(labels, group.Labels)
	maps.Copy(annotations, group.Annotations)

	queue := app.Queue
	if queue == "" {
		queue = app.PlacedQueue
	}
	for _, fact := range []struct{ key, old, value string }{
		{workload.KeyAppID, workload.LabelOldAppID, app.ID},
		{workload.KeyQueue, workload.LabelOldQueue, queue},
	} {
		switch {
		case fact.value == "":
		case len(validation.IsValidLabelValue(fact.value)) == 0:
			labels[fact.key], labels[fact.old] = fact.value, fact.value
		default: // what fits no label is read from the annotation
			annotations[fact.key] = fact.value
			delete(labels, fact.key)
		}
	}
	labels[workload.LabelPlaceholder] = "true"
	annotations[workload.AnnotationPlaceholder] = "true"
	annotations[workload.AnnotationPlaceholderInternal] = "true"
	annotations[workload.AnnotationTaskGroupName] = group.Name
	for _, key := range []string{workload.AnnotationTaskGroups, workload.AnnotationPolicy} {
		if value := app.Tags[key]; value != "" {
			annotations[key] = value
		}
	}
	if app.User != "" {
		if annotations[workload.AnnotationUserInfo], err = workload.FormatUserInfo(app.User, app.Groups); err != nil {
			return nil, nil, fmt.Errorf("user: %w", err)
		}
	}
	return labels, annotations, nil
}

// placeholderResources returns what one member of the group requests. The API
// server wants a limit for everything that cannot be overcommitted.
func placeholderResources(group *v1alpha1.TaskGroup) (requests, limits v1.ResourceList) {
	requests, limits = v1.ResourceList{}, v1.ResourceList{}
	for key, quantity := range group.MinResource {
		name := v1.ResourceName(key)
		requests[name] = quantity
		switch name {
		case v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage:
		default:
			limits[name] = quantity
		}
	}
	return requests, limits
}

func pullSecrets(names string) []v1.LocalObjectReference {
	var refs []v1.LocalObjectReference
	for name := range strings.SplitSeq(names, ",") {
		if name != "" {
			refs = append(refs, v1.LocalObjectReference{Name: name})
		}
	}
	return refs
}
