package workload

import (
	"maps"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/protocol"
)

// ParseApplication reads what a pod says about its application. namespace is
// the namespace of the pod, or nil while it is not known; userLabel is the key
// of the label that names the user.
func ParseApplication(pod *v1.Pod, namespace *v1.Namespace, userLabel string) (protocol.ApplicationMetadata, []Problem) {
	var found problems
	user, _, info := parseUser(pod, userLabel, &found)
	meta := protocol.ApplicationMetadata{
		ApplicationID:              AppID(pod),
		QueueName:                  Queue(pod),
		User:                       user,
		Tags:                       tags(pod),
		TaskGroups:                 parseTaskGroups(pod.Annotations[AnnotationTaskGroups], &found),
		OwnerReferences:            ownerReferences(pod, placeholder(pod, &problems{})),
		SchedulingPolicyParameters: parsePolicy(pod.Annotations[AnnotationPolicy], &found),
		CreationTime:               creationTime(pod),
	}
	if info != "" {
		meta.Tags[AnnotationUserInfo] = info
	}
	if namespace != nil {
		maps.Copy(meta.Tags, namespaceTags(namespace.Annotations, &found))
	}
	return meta, found
}

func creationTime(pod *v1.Pod) int64 {
	if pod.CreationTimestamp.IsZero() {
		return 0
	}
	return pod.CreationTimestamp.Unix()
}

func tags(pod *v1.Pod) map[string]string {
	out := map[string]string{TagNamespace: pod.Namespace}
	for _, key := range []string{AnnotationTaskGroups, AnnotationPolicy} {
		if value := pod.Annotations[key]; value != "" {
			out[key] = value
		}
	}
	if value := pod.Labels[LabelDisableStateAware]; value != "" {
		out[TagStateAwareDisable] = value
	}
	if class := pod.Spec.PriorityClassName; class != "" {
		out[TagPriorityClass] = class
	}
	secrets := make([]string, 0, len(pod.Spec.ImagePullSecrets))
	for _, ref := range pod.Spec.ImagePullSecrets {
		if ref.Name != "" {
			secrets = append(secrets, ref.Name)
		}
	}
	if len(secrets) > 0 {
		out[TagImagePullSecrets] = strings.Join(secrets, ",")
	}
	return out
}

// ownerReferences says who owns what is created on behalf of the pod's
// application: the pod itself, or, if it was created so, its owners. None is
// a controller, lest somebody counts a placeholder among its own.
// They are copies: the pod belongs to an informer.
func ownerReferences(pod *v1.Pod, placeholder bool) []metav1.OwnerReference {
	controller := false
	if !placeholder {
		block := true
		return []metav1.OwnerReference{{
			APIVersion:         "v1",
			Kind:               "Pod",
			Name:               pod.Name,
			UID:                pod.UID,
			Controller:         &controller,
			BlockOwnerDeletion: &block,
		}}
	}
	refs := make([]metav1.OwnerReference, len(pod.OwnerReferences))
	for i := range pod.OwnerReferences {
		pod.OwnerReferences[i].DeepCopyInto(&refs[i])
		refs[i].Controller = &controller
	}
	return refs
}
