package admission

import (
	"context"
	"errors"
	"fmt"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/understudy-ha/understudy/coordinator/settings"
)

// Manifest is what is known without a cluster.
type Manifest struct {
	// Config has the names of the ConfigMaps, the scheduler, and the namespace of the replicas.
	Config Config
	// Namespaces, Classes and Maps are by name.
	namespaces map[string]*v1.Namespace
	classes    map[string]*schedulingv1.PriorityClass
	maps       map[string]*v1.ConfigMap
	// asked are the objects to explain.
	asked []*unstructured.Unstructured
}

// Explained is what becomes of one object.
type Explained struct {
	Object string
	Decision
	// Warnings are on a ConfigMap.
	Warnings []string
}

// NewManifest sorts objects: Namespaces, PriorityClasses, and the ConfigMaps of the
// configuration are what the decisions rest on, and the ConfigMaps are judged as well.
func NewManifest(cfg Config, objects []*unstructured.Unstructured) (*Manifest, error) {
	m := &Manifest{
		Config: cfg, namespaces: make(map[string]*v1.Namespace),
		classes: make(map[string]*schedulingv1.PriorityClass), maps: make(map[string]*v1.ConfigMap),
	}
	for _, o := range objects {
		var err error
		switch o.GetKind() {
		case "Namespace":
			err = into(o, m.namespaces)
		case "PriorityClass":
			err = into(o, m.classes)
		case "ConfigMap":
			err = into(o, m.maps)
			m.asked = append(m.asked, o)
		default:
			m.asked = append(m.asked, o)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return m, nil
}

func into[T any](o *unstructured.Unstructured, held map[string]*T) error {
	typed := new(T)
	held[o.GetName()] = typed
	return runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, typed)
}

// Namespace is that of the manifest; one without annotations for others.
func (m *Manifest) Namespace(_ context.Context, name string) (*v1.Namespace, error) {
	return m.namespaces[name], nil
}

// PriorityClass is that of the manifest.
func (m *Manifest) PriorityClass(_ context.Context, name string) (*schedulingv1.PriorityClass, error) {
	return m.classes[name], nil
}

// Explain says what would become of every object that the user creates.
func (m *Manifest) Explain(ctx context.Context, who authenticationv1.UserInfo) ([]Explained, error) {
	maps := Maps{Names: m.Config.ConfigMaps}
	for _, name := range maps.Names {
		maps.Held = append(maps.Held, m.maps[name])
	}
	merged, err := settings.Merge(maps.Held...)
	if err != nil {
		merged.Data = nil // said of the ConfigMap
	}
	read, _ := ReadSettings(merged.Data)
	rules := Rules{Settings: read, SchedulerName: m.Config.SchedulerName, Workloads: m.Config.Workloads, Facts: m}
	var list []Explained
	for _, o := range m.asked {
		encoded, err := o.MarshalJSON()
		if err != nil {
			return nil, err
		}
		plural, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
		req := &admissionv1.AdmissionRequest{
			Namespace: o.GetNamespace(), Name: o.GetName(), Operation: admissionv1.Create, UserInfo: who, Object: runtime.RawExtension{Raw: encoded},
			Resource: metav1.GroupVersionResource{Group: plural.Group, Version: plural.Version, Resource: plural.Resource},
			Kind:     metav1.GroupVersionKind{Group: plural.Group, Version: plural.Version, Kind: o.GetKind()},
		}
		x := Explained{Object: strings.ToLower(o.GetKind()) + " " + o.GetNamespace() + "/" + o.GetName()}
		if x.Decision, x.Warnings, err = m.decide(ctx, rules, maps, req); errors.Is(err, errObject) {
			x.Refusal, err = err.Error(), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", x.Object, err)
		}
		list = append(list, x)
	}
	return list, nil
}

func (m *Manifest) decide(ctx context.Context, rules Rules, maps Maps, req *admissionv1.AdmissionRequest) (d Decision, warnings []string, err error) {
	switch {
	case req.Resource.Resource == "configmaps":
		d.Refusal, warnings, err = maps.Judge(req)
		d.Steps = []Step{{"configuration", either(d.Refusal == "", "the scheduler takes it", d.Refusal)}}
		return d, warnings, err
	case req.Namespace == metav1.NamespaceSystem || req.Namespace == m.Config.Namespace:
		d.Steps = []Step{{"namespaceSelector", "nobody is asked about namespace " + req.Namespace}}
		return d, nil, nil
	case req.UserInfo.Username == m.Config.account():
		d.Steps = []Step{{"matchConditions", "nobody is asked about what the replicas do"}}
		return d, nil, nil
	}
	d, err = rules.Mutate(ctx, req)
	return d, nil, err
}
