package admission

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/understudy-ha/understudy/coordinator/workload"
)

// Workload is a kind of objects that hold what their pods will be annotated with.
type Workload struct {
	// Name is that of the preset by which an app manager takes the kind, and otherwise the
	// kind's own in lower case.
	Name string
	// Group, Version and Resource are as the API server serves the kind.
	Group, Version, Resource string
	// Annotations are where the annotations of pods are.
	Annotations []Place
}

// Place leads to a map of annotations. What Within names has to be there; what Below names
// is made if it is not.
type Place struct{ Within, Below []string }

// What stands in Place.Within for every element of a list, and of a map.
const (
	everyItem = "*"
	everyKey  = "@"
)

func place(within, below string) Place {
	return Place{strings.Fields(within), strings.Fields(below)}
}

// template is the place in a pod template.
func template(within string) Place { return place(within, "metadata annotations") }

// BuiltIn are Kubernetes' own workloads, which YuniKorn's admission controller knows.
func BuiltIn() []Workload {
	of := func(group, resource, name, within string) Workload {
		return Workload{Name: name, Group: group, Version: "v1", Resource: resource, Annotations: []Place{template(within)}}
	}
	return []Workload{
		of("apps", "deployments", "deployment", "spec template"),
		of("apps", "replicasets", "replicaset", "spec template"),
		of("apps", "statefulsets", "statefulset", "spec template"),
		of("apps", "daemonsets", "daemonset", "spec template"),
		of("batch", "jobs", "job", "spec template"),
		of("batch", "cronjobs", "cronjob", "spec jobTemplate spec template"),
	}
}

// Custom are the custom resources that app managers take. A TrainJob is not among them: its
// pods are made from a template in another object, and its JobSet is.
func Custom() []Workload {
	const ray = "ray.io"
	cluster := func(within string) []Place {
		return []Place{template(within + " headGroupSpec template"), template(within + " workerGroupSpecs * template")}
	}
	return []Workload{
		{"jobset", "jobset.x-k8s.io", "v1alpha2", "jobsets", []Place{template("spec replicatedJobs * template spec template")}},
		{"raycluster", ray, "v1", "rayclusters", cluster("spec")},
		{"rayjob", ray, "v1", "rayjobs", append(cluster("spec rayClusterSpec"), template("spec submitterPodTemplate"))},
		{"pytorchjob", "kubeflow.org", "v1", "pytorchjobs", []Place{template("spec pytorchReplicaSpecs @ template")}},
		{"mpijob-v1", "kubeflow.org", "v1", "mpijobs", []Place{template("spec mpiReplicaSpecs @ template")}},
		{"mpijob-v2beta1", "kubeflow.org", "v2beta1", "mpijobs", []Place{template("spec mpiReplicaSpecs @ template")}},
		{"leaderworkerset", "leaderworkerset.x-k8s.io", "v1", "leaderworkersets", []Place{
			template("spec leaderWorkerTemplate leaderTemplate"), template("spec leaderWorkerTemplate workerTemplate"),
		}},
		{"workflow", "argoproj.io", "v1alpha1", "workflows", []Place{place("spec", "podMetadata annotations")}},
		{"flinkdeployment", "flink.apache.org", "v1beta1", "flinkdeployments", []Place{place("spec", "podTemplate metadata annotations")}},
		{"spark-operator", "sparkoperator.k8s.io", "v1beta2", "sparkapplications", []Place{
			place("spec driver", "annotations"), place("spec executor", "annotations"),
		}},
	}
}

// Choose returns the built-in workloads, and of the others those that are named.
func Choose(names []string) ([]Workload, error) {
	chosen := BuiltIn()
	for _, name := range names {
		i := slices.IndexFunc(Custom(), func(w Workload) bool { return w.Name == name })
		if i < 0 {
			var known []string
			for _, w := range Custom() {
				known = append(known, w.Name)
			}
			return nil, fmt.Errorf("admission.workloads: %q is no workload, want one of %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, Custom()[i])
	}
	return chosen, nil
}

func (r Rules) workload(group, resource string) *Workload {
	for i, w := range r.Workloads {
		if w.Group == group && w.Resource == resource {
			return &r.Workloads[i]
		}
	}
	return nil
}

// holder is a map of annotations in an object, or where it would be.
type holder struct {
	// path leads to the annotations. had is how much of it is there.
	path []string
	had  int
	// annotations is nil if there are none. around has all that is there besides: the
	// template, for a pod template.
	annotations map[string]string
	around      any
}

func (h holder) key() string { return strings.Join(h.path, "\x00") }

// set adds user.info.
func (h holder) set(p *patch, value string) {
	entry := map[string]string{workload.AnnotationUserInfo: value}
	if h.had == len(h.path) {
		p.set(h.annotations, entry, h.path...)
		return
	}
	// Not even the map is there: neither, perhaps, what holds it.
	var add any = entry
	for i := len(h.path) - 1; i > h.had; i-- {
		add = map[string]any{h.path[i]: add}
	}
	p.add(add, h.path[:h.had+1]...)
}

// holders finds the places of annotations in an object.
func (w Workload) holders(raw []byte) ([]holder, error) {
	var object map[string]any
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, fmt.Errorf("%w: the %s: %w", errObject, w.Name, err)
	}
	var found []holder
	for _, p := range w.Annotations {
		if err := walk(object, nil, p.Within, func(path []string, at map[string]any) error {
			h, err := hold(path, at, p.Below)
			found = append(found, h)
			return err
		}); err != nil {
			return nil, fmt.Errorf("%w: the %s: %w", errObject, w.Name, err)
		}
	}
	return found, nil
}

// walk visits every map that a path leads to. What is not there is not visited.
func walk(at any, path, rest []string, visit func([]string, map[string]any) error) error {
	if len(rest) == 0 {
		if here, ok := at.(map[string]any); ok {
			return visit(path, here)
		}
		return nil
	}
	step := func(key string, next any) error {
		return walk(next, append(slices.Clone(path), key), rest[1:], visit)
	}
	switch here := at.(type) {
	case map[string]any:
		if rest[0] != everyKey {
			return step(rest[0], here[rest[0]])
		}
		for _, key := range slices.Sorted(maps.Keys(here)) {
			if err := step(key, here[key]); err != nil {
				return err
			}
		}
	case []any:
		if rest[0] != everyItem {
			return nil
		}
		for i, next := range here {
			if err := step(index(i), next); err != nil {
				return err
			}
		}
	}
	return nil
}

// hold reads the annotations below a map.
func hold(path []string, at map[string]any, below []string) (holder, error) {
	h := holder{path: append(slices.Clone(path), below...), had: len(path), around: at}
	for i, key := range below {
		next, ok := at[key]
		if !ok || next == nil {
			return h, nil
		}
		inner, ok := next.(map[string]any)
		if !ok {
			return h, fmt.Errorf("%s is no map", pointer(h.path[:h.had+1]))
		}
		h.had++
		if i < len(below)-1 {
			at = inner
			continue
		}
		h.annotations = make(map[string]string, len(inner))
		for k, v := range inner {
			text, ok := v.(string)
			if !ok {
				return h, fmt.Errorf("%s is no text", pointer(append(h.path, k)))
			}
			h.annotations[k] = text
		}
	}
	return h, nil
}

func (d *deciding) workload(ctx context.Context, w Workload) error {
	if d.Settings.BypassAuth {
		d.step(keyBypassAuth, "user.info is left alone")
		return nil
	}
	is, err := w.holders(d.req.Object.Raw)
	if err != nil {
		return err
	}
	was := make(map[string]holder)
	if d.req.Operation == admissionv1.Update {
		old, err := w.holders(d.req.OldObject.Raw)
		if err != nil {
			return err
		}
		for _, h := range old {
			was[h.key()] = h
		}
	}
	missing, ok := d.check(is, was)
	if !ok || len(missing) == 0 {
		return nil
	}
	// To change what a controller makes of a template would have it make another, for ever.
	if d.Settings.SystemUsers.match(d.req.UserInfo.Username) && (d.req.Operation == admissionv1.Update || w.Resource == "replicasets") {
		d.step(keySystem, "the %s of a controller is left alone", w.Name)
		return nil
	}
	t, err := d.treat(ctx)
	if err != nil {
		return err
	}
	for _, h := range missing {
		if !t.process || !t.label && !namesApp(h.around) {
			d.step("user.info", "is not added: neither the namespace nor %s has pods that are labelled", pointer(h.path))
			continue
		}
		d.step("user.info", "%s names the requester, %s", pointer(h.path), d.req.UserInfo.Username)
		h.set(&d.patch, userInfo(d.req.UserInfo))
	}
	return nil
}

// check keeps the users that templates name, and returns the templates that are to be told
// one; it reports false for a refusal.
func (d *deciding) check(is []holder, was map[string]holder) (missing []holder, ok bool) {
	for _, h := range is {
		value, named := h.annotations[workload.AnnotationUserInfo]
		old, existed := was[h.key()]
		kept, had := old.annotations[workload.AnnotationUserInfo]
		switch {
		case named && had && value == kept:
			d.step("user.info", "%s is unchanged", pointer(h.path))
		case named:
			why, refusal := d.mayName(d.req.UserInfo, value)
			if refusal != "" {
				d.refuse("user.info", refusal)
				return nil, false
			}
			d.step("user.info", "%s is kept: %s", pointer(h.path), why)
		case had:
			// Whoever replaces an object without it must not have its pods nobody's.
			d.step("user.info", "%s is put back", pointer(h.path))
			h.set(&d.patch, kept)
		case existed && reflect.DeepEqual(h.around, old.around):
			// To add it would start all pods anew, and some templates cannot change.
			d.step("user.info", "%s is unchanged", pointer(h.path))
		default:
			missing = append(missing, h)
		}
	}
	return missing, true
}

// namesApp reports whether a pod template has the label of an application.
func namesApp(template any) bool {
	spec, _ := template.(map[string]any)
	metadata, _ := spec["metadata"].(map[string]any)
	labels, _ := metadata["labels"].(map[string]any)
	for _, key := range []string{workload.KeyAppID, workload.LabelOldAppID, workload.LabelSparkAppID} {
		if id, _ := labels[key].(string); id != "" {
			return true
		}
	}
	return false
}
