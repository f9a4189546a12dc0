package kube

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

const placeholderContainer = "pause"

// placeholder builds the pod that holds the place of one member of a gang, as the shim
// of YuniKorn 1.9 does (pkg/cache/placeholder.go): tools look at them. It is in the
// namespace of the originator, who owns it.
// Labels and annotations are such that the gang can be told from its placeholders
// alone, should every record and every other pod be lost; but for the user, whom
// YuniKorn's admission webhook lets nobody name who is not a system user.
func placeholder(e ledger.CreatePlaceholder, cfg PodsConfig) (*v1.Pod, error) {
	if e.Originator == nil {
		return nil, errors.New("the application has no pod to hold a place for")
	}
	namespace := e.Originator.Namespace
	group := taskGroup(e.App, e.Group)
	if group == nil {
		return nil, fmt.Errorf("the application has no task group %q", e.Group)
	}
	labels, annotations := placeholderMeta(e.App, group)
	// Records are shared; what goes into the pod is a copy.
	group = group.DeepCopy()
	no, yes, grace := false, true, int64(0)
	meta := metav1.ObjectMeta{
		Namespace: namespace, Name: e.Name, Labels: labels, Annotations: annotations,
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "v1", Kind: "Pod", Name: e.Originator.Name, UID: types.UID(e.Originator.ID),
			Controller: &no, BlockOwnerDeletion: &yes,
		}},
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
				RunAsNonRoot: &yes, RunAsUser: unlessZero(cfg.RunAsUser), RunAsGroup: unlessZero(cfg.RunAsGroup),
				FSGroup:        unlessZero(cfg.FSGroup),
				SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []v1.Container{{
				Name:            placeholderContainer,
				Image:           cfg.Image,
				ImagePullPolicy: v1.PullIfNotPresent,
				Resources:       v1.ResourceRequirements{Requests: resourcesOf(group), Limits: resourcesOf(group)},
				SecurityContext: &v1.SecurityContext{
					Privileged:               &no,
					AllowPrivilegeEscalation: &no,
					ReadOnlyRootFilesystem:   &yes,
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
func placeholderMeta(app *ledger.App, group *v1alpha1.TaskGroup) (labels, annotations map[string]string) {
	labels, annotations = map[string]string{}, map[string]string{}
	maps.Copy(labels, group.Labels)
	maps.Copy(annotations, group.Annotations)

	for _, fact := range []struct{ key, old, value string }{
		{workload.KeyAppID, workload.LabelOldAppID, app.ID},
		{workload.KeyQueue, workload.LabelOldQueue, app.Queue},
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
	// A group's own may name a user.
	delete(annotations, workload.AnnotationUserInfo)
	return labels, annotations
}

// resourcesOf returns what one member of the group requests, which is its limit too.
func resourcesOf(group *v1alpha1.TaskGroup) v1.ResourceList {
	list := make(v1.ResourceList, len(group.MinResource))
	for name, quantity := range group.MinResource {
		list[v1.ResourceName(name)] = quantity.DeepCopy()
	}
	return list
}

func unlessZero(id int64) *int64 {
	if id == 0 {
		return nil
	}
	return &id
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
