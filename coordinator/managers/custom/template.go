package custom

import (
	"errors"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/understudy-ha/understudy/coordinator/workload"
)

// podTemplate returns what a pod template says that counts here; an empty one for
// nothing.
func (e *evaluator) podTemplate(x *expression) *v1.PodTemplateSpec {
	given := e.dictionary(x)
	if given == nil {
		return &v1.PodTemplateSpec{}
	}
	template, err := decodeTemplate(given)
	if err != nil {
		e.fail(x.field, err)
		return &v1.PodTemplateSpec{}
	}
	return template
}

// decodeTemplate reads those fields of a pod template that count. Others may be wrong
// without harm, and many are not worth their cost: a CRD may leave templates unchecked.
func decodeTemplate(given map[string]any) (*v1.PodTemplateSpec, error) {
	metadata, _ := given["metadata"].(map[string]any)
	spec, _ := given["spec"].(map[string]any)
	kept := map[string]any{"metadata": pick(metadata, "labels", "annotations")}
	trimmed := pick(spec, "nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "overhead", "resources",
		"schedulerName", "priorityClassName", "imagePullSecrets", "schedulingGroup")
	for _, key := range []string{"containers", "initContainers"} {
		containers, ok := spec[key].([]any)
		if !ok {
			continue
		}
		var list []any
		for _, c := range containers {
			container, ok := c.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("%s of the pod template: not a list of containers", key)
			}
			list = append(list, pick(container, "resources", "restartPolicy"))
		}
		trimmed[key] = list
	}
	kept["spec"] = trimmed
	if err := checkQuantities(trimmed); err != nil {
		return nil, err
	}
	template := &v1.PodTemplateSpec{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(kept, template); err != nil {
		return nil, fmt.Errorf("the pod template: %w", err)
	}
	defaultRequests(&template.Spec)
	return template, nil
}

func pick(from map[string]any, keys ...string) map[string]any {
	out := make(map[string]any, len(keys))
	for _, key := range keys {
		if value, ok := from[key]; ok && value != nil {
			out[key] = value
		}
	}
	return out
}

// checkQuantities looks at all quantities before they are parsed: some cost minutes.
func checkQuantities(spec map[string]any) error {
	lists := []any{spec["overhead"]}
	bearers := []any{spec}
	for _, key := range []string{"containers", "initContainers"} {
		if containers, ok := spec[key].([]any); ok {
			bearers = append(bearers, containers...)
		}
	}
	for _, b := range bearers {
		bearer, _ := b.(map[string]any)
		resources, _ := bearer["resources"].(map[string]any)
		lists = append(lists, resources["requests"], resources["limits"])
	}
	for _, l := range lists {
		if l == nil {
			continue
		}
		list, ok := l.(map[string]any)
		if !ok {
			return errors.New("the pod template: resources are not a map")
		}
		for name, value := range list {
			if _, err := workload.ParseQuantity(fmt.Sprint(value)); err != nil {
				return fmt.Errorf("the pod template: %s: %s: %w", name, shown(fmt.Sprint(value)), err)
			}
		}
	}
	return nil
}

// defaultRequests does what the API server does with a pod: what has a limit and no
// request requests its limit.
func defaultRequests(spec *v1.PodSpec) {
	for _, containers := range [][]v1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			resources := &containers[i].Resources
			for name, limit := range resources.Limits {
				if _, ok := resources.Requests[name]; ok {
					continue
				}
				if resources.Requests == nil {
					resources.Requests = make(v1.ResourceList)
				}
				resources.Requests[name] = limit
			}
		}
	}
}

// maxShown bounds how much of a value a message repeats.
const maxShown = 64

func shown(value string) string {
	if len(value) > maxShown {
		return fmt.Sprintf("%.*q...", maxShown, value)
	}
	return fmt.Sprintf("%q", value)
}

// maxLabel is how long the value of a label may be. IDs that fit are written on
// placeholders, by which tools find them.
const maxLabel = 63

// generatedID makes an application ID of an object that names none: readable, and unique
// by a piece of the UID.
func generatedID(kind, namespace, name, uid string) string {
	unique, _, _ := strings.Cut(uid, "-")
	id := strings.ToLower(kind) + "-" + namespace + "-" + name
	if most := maxLabel - len(unique) - 1; len(id) > most {
		id = strings.TrimRight(id[:most], "-.")
	}
	if unique == "" {
		return id
	}
	return id + "-" + unique
}
