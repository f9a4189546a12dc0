package admission

import (
	"context"
	"fmt"
	"strconv"

	admissionv1 "k8s.io/api/admission/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/understudy-ha/understudy/coordinator/workload"
)

// changeRefused is what YuniKorn says to whoever changes user.info of a pod.
const changeRefused = "user info annotation change is not allowed"

// labelApp marks YuniKorn's own pods.
const labelApp = "app"

// readPod reads what the rules look at, and nothing else: the rest of a pod is not theirs
// to judge. It reads a map first, as whoever applies a patch does: of a key that is there
// twice both take the last.
func readPod(raw []byte) (*v1.Pod, error) {
	var object map[string]any
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, fmt.Errorf("%w: the pod: %w", errObject, err)
	}
	metadata, hasMetadata := object["metadata"].(map[string]any)
	spec, hasSpec := object["spec"].(map[string]any)
	if !hasMetadata || !hasSpec {
		return nil, fmt.Errorf("%w: the pod lacks metadata or spec", errObject)
	}
	pod := &v1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(map[string]any{
		"metadata": pick(metadata, "namespace", "uid", "labels", "annotations"), "spec": pick(spec, "schedulerName", "priorityClassName"),
	}, pod); err != nil {
		return nil, fmt.Errorf("%w: the pod: %w", errObject, err)
	}
	return pod, nil
}

func pick(from map[string]any, keys ...string) map[string]any {
	picked := make(map[string]any)
	for _, key := range keys {
		if value, ok := from[key]; ok {
			picked[key] = value
		}
	}
	return picked
}

func (d *deciding) pod(ctx context.Context) error {
	pod, err := readPod(d.req.Object.Raw)
	if err != nil {
		return err
	}
	if pod.Namespace == "" {
		pod.Namespace = d.req.Namespace
	}
	switch d.req.Operation {
	case admissionv1.Create:
		return d.createPod(ctx, pod)
	case admissionv1.Update:
		return d.updatePod(ctx, pod)
	default:
		d.step("operation", "%s is left alone", d.req.Operation)
		return nil
	}
}

func (d *deciding) createPod(ctx context.Context, pod *v1.Pod) error {
	annotations := make(map[string]string)
	user, refused := d.user(pod.Annotations)
	if refused {
		return nil
	}
	own := pod.Labels[labelApp] == "yunikorn"
	var t treatment
	if own {
		d.step("label app=yunikorn", "the pod is one of YuniKorn's own")
	} else {
		var err error
		if t, err = d.treat(ctx); err != nil {
			return err
		}
	}
	if own || !t.process {
		// YuniKorn names no user here. A pod that asks for this scheduler all the same
		// would be accounted to whomever its labels name.
		if pod.Spec.SchedulerName == d.SchedulerName && user != "" {
			d.step("schedulerName", "the pod asks for %s itself and is told its user", d.SchedulerName)
			d.patch.set(pod.Annotations, map[string]string{workload.AnnotationUserInfo: user}, "metadata", "annotations")
		}
		return nil
	}
	if user != "" {
		annotations[workload.AnnotationUserInfo] = user
	}
	if pod.Spec.SchedulerName != d.SchedulerName {
		d.step("schedulerName", "becomes %s", d.SchedulerName)
		d.patch.add(d.SchedulerName, "spec", "schedulerName")
	}
	if t.label {
		d.patch.set(pod.Labels, d.labels(pod), "metadata", "labels")
		allow, err := d.allowPreemption(ctx, pod)
		if err != nil {
			return err
		}
		if allow != "" {
			annotations[workload.AnnotationAllowPreemption] = allow
		}
	} else {
		d.step("ignore-application", "the scheduler leaves the pod to others")
		annotations[workload.AnnotationIgnore] = "true"
	}
	d.patch.set(pod.Annotations, annotations, "metadata", "annotations")
	return nil
}

// user checks the annotation that names the user. It returns the one to write if there is
// none.
func (d *deciding) user(annotations map[string]string) (write string, refused bool) {
	if d.Settings.BypassAuth {
		d.step(keyBypassAuth, "user.info is left alone")
		return "", false
	}
	value, named := annotations[workload.AnnotationUserInfo]
	if !named {
		d.step("user.info", "names the requester, %s", d.req.UserInfo.Username)
		return userInfo(d.req.UserInfo), false
	}
	why, refusal := d.mayName(d.req.UserInfo, value)
	if refusal != "" {
		d.refuse("user.info", refusal)
		return "", true
	}
	d.step("user.info", "is kept: %s", why)
	return "", false
}

// labels are those that the pod gets: its application, if it names none one that is
// generated, and its queue, under the keys of old and new.
func (d *deciding) labels(pod *v1.Pod) map[string]string {
	labels := make(map[string]string)
	canonical := pod.Labels[workload.KeyAppID]
	switch {
	case workload.NamedAppID(pod) == "":
		rule := either(d.Settings.GenerateUniqueAppID, keyUnique, "app ID")
		id := generated(pod, d.Settings.GenerateUniqueAppID)
		if id == "" {
			d.step(rule, "is left to the scheduler: no label can hold it")
			break
		}
		labels[workload.KeyAppID], labels[workload.LabelOldAppID] = id, id
		d.step(rule, "%s is generated", id)
	case canonical != "":
		labels[workload.LabelOldAppID] = canonical
		d.step("app ID", "%s, by label %s", canonical, workload.KeyAppID)
	default:
		d.step("app ID", "%s, named by the pod", workload.NamedAppID(pod))
	}
	if queue := pod.Labels[workload.KeyQueue]; queue != "" {
		labels[workload.LabelOldQueue] = queue
		d.step("queue", "%s, by label %s", queue, workload.KeyQueue)
	}
	return labels
}

// maxAppID is how long the value of a label may be.
const maxAppID = 63

// generated is the ID of the application of a pod that names none, empty if no label can
// hold it. YuniKorn cuts it off, so that namespaces of long names share an application; the
// scheduler makes the same ID of a pod without a label, and uncut.
func generated(pod *v1.Pod, unique bool) string {
	id := workload.AppID(pod)
	if unique {
		id = workload.UniqueAppID(pod)
	}
	if len(id) > maxAppID || unique && pod.UID == "" {
		return ""
	}
	return id
}

// allowPreemption is the annotation that the pod gets, empty if it says so itself.
func (d *deciding) allowPreemption(ctx context.Context, pod *v1.Pod) (string, error) {
	if says := pod.Annotations[workload.AnnotationAllowPreemption]; says == "true" || says == "false" {
		d.step("allow-preemption", "%s, as the pod says", says)
		return "", nil
	}
	without := &v1.Pod{}
	name := pod.Spec.PriorityClassName
	if name == "" {
		return strconv.FormatBool(workload.AllowPreemption(without, nil)), nil
	}
	class, err := d.Facts.PriorityClass(ctx, name)
	if err != nil {
		return "", fmt.Errorf("priority class %s: %w", name, err)
	}
	allow := strconv.FormatBool(workload.AllowPreemption(without, class))
	d.step("allow-preemption", "%s, by PriorityClass %s", allow, name)
	return allow, nil
}

// updatePod keeps user.info as it is.
func (d *deciding) updatePod(ctx context.Context, pod *v1.Pod) error {
	old, err := readPod(d.req.OldObject.Raw)
	if err != nil {
		return err
	}
	is, named := pod.Annotations[workload.AnnotationUserInfo]
	if was, had := old.Annotations[workload.AnnotationUserInfo]; named == had && is == was {
		d.step("user.info", "is unchanged")
		return nil
	}
	t, err := d.treat(ctx)
	if err != nil {
		return err
	}
	if t.process && (t.label || pod.Labels[workload.KeyAppID] != "") {
		d.refuse("user.info", changeRefused)
		return nil
	}
	// YuniKorn lets this pass. The pod may ask for this scheduler itself.
	if named {
		d.user(pod.Annotations)
	}
	return nil
}
