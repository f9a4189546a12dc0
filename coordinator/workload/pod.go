package workload

import (
	"fmt"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"

	"github.com/understudy-ha/understudy/protocol"
)

// Ours reports whether a pod is to be scheduled here. One that is not only
// occupies its node.
func Ours(pod *v1.Pod, schedulerName string) bool {
	if pod.Spec.SchedulerName != schedulerName {
		return false
	}
	ignore, err := strconv.ParseBool(pod.Annotations[AnnotationIgnore])
	return err != nil || !ignore
}

// Over reports whether a pod needs no place any more: it has terminated, or is
// being deleted before it got one, and the API server refuses to bind it. A
// finalizer may keep it for long.
func Over(pod *v1.Pod) bool {
	return Terminated(pod) || pod.Spec.NodeName == "" && pod.DeletionTimestamp != nil
}

// NamedAppID returns the ID of the application that a pod names, empty if it names none.
func NamedAppID(pod *v1.Pod) string {
	return first(pod.Labels[KeyAppID], pod.Annotations[KeyAppID], pod.Labels[LabelOldAppID], pod.Labels[LabelSparkAppID])
}

// AppID returns the ID of the application that a pod belongs to. A pod that
// names none belongs to the one generated for its namespace.
func AppID(pod *v1.Pod) string {
	if id := NamedAppID(pod); id != "" {
		return id
	}
	return generatedAppIDPrefix + pod.Namespace + generatedAppIDSuffix
}

// UniqueAppID returns the ID of the application of a pod that belongs to one of its own unless it
// names another: the namespace, cut to 26 characters, and the UID, as YuniKorn makes it.
func UniqueAppID(pod *v1.Pod) string {
	if id := NamedAppID(pod); id != "" {
		return id
	}
	return fmt.Sprintf("%.63s", fmt.Sprintf("%.26s-%s", pod.Namespace, pod.UID))
}

// Queue returns the queue that a pod asks for, empty if it leaves the choice to
// the placement rules.
func Queue(pod *v1.Pod) string {
	return first(pod.Labels[KeyQueue], pod.Annotations[KeyQueue], pod.Labels[LabelOldQueue])
}

// AllowPreemption reports whether the pod may be preempted: its own annotation
// counts, else that of its PriorityClass, which may be nil.
func AllowPreemption(pod *v1.Pod, class *schedulingv1.PriorityClass) bool {
	if allow, err := strconv.ParseBool(pod.Annotations[AnnotationAllowPreemption]); err == nil {
		return allow
	}
	if class == nil {
		return true
	}
	allow, err := strconv.ParseBool(class.Annotations[AnnotationAllowPreemption])
	return err != nil || allow
}

// ParseTask reads what a pod says about itself as a task.
func ParseTask(pod *v1.Pod) (protocol.TaskMetadata, []Problem) {
	var found problems
	meta := protocol.TaskMetadata{
		ApplicationID: AppID(pod),
		TaskID:        string(pod.UID),
		Pod:           pod,
		Placeholder:   placeholder(pod, &found),
		TaskGroupName: strings.TrimSpace(pod.Annotations[AnnotationTaskGroupName]),
	}
	for _, key := range []string{AnnotationIgnore, AnnotationAllowPreemption} {
		if value, ok := pod.Annotations[key]; ok {
			if _, err := strconv.ParseBool(value); err != nil {
				found.add(key, "%s is neither true nor false and is ignored", shown(value))
			}
		}
	}
	return meta, found
}

// placeholder reports whether the pod only holds a place.
func placeholder(pod *v1.Pod, found *problems) bool {
	for _, source := range []struct {
		values map[string]string
		key    string
	}{
		{pod.Annotations, AnnotationPlaceholderInternal},
		{pod.Annotations, AnnotationPlaceholder},
		{pod.Labels, LabelPlaceholder},
	} {
		value, ok := source.values[source.key]
		if !ok {
			continue
		}
		held, err := strconv.ParseBool(value)
		if err == nil {
			return held
		}
		found.add(source.key, "%s is neither true nor false and is ignored", shown(value))
	}
	return false
}

// first returns the first value that is not blank.
func first(values ...string) string {
	for _, v := range values {
		if v = strings.TrimSpace(v); v != "" {
			return v
		}
	}
	return ""
}

// Terminated reports whether a pod has ended: it takes nothing of its node any more.
func Terminated(pod *v1.Pod) bool {
	return pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
}
