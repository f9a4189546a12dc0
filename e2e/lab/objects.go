package lab

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"
)

const fieldManager = "understudy-lab"

// ReadManifests returns the objects in a file of YAML documents, or in all such files of a
// directory, in order.
func ReadManifests(path string) ([]*unstructured.Unstructured, error) {
	files := []string{path}
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*.yaml")); err != nil {
			return nil, err
		}
	}
	var objects []*unstructured.Unstructured
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				document, err = yaml.YAMLToJSONStrict(document)
			}
			if err == nil && string(document) == "null" {
				continue
			}
			object := &unstructured.Unstructured{}
			if err == nil {
				err = object.UnmarshalJSON(document)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			objects = append(objects, object)
		}
	}
	return objects, nil
}

// Objects writes objects by server-side apply, as `kubectl apply --server-side` does, and
// reads them. One that names no namespace is in the namespace default, if its kind has
// namespaces. To be used by one goroutine.
type Objects struct {
	client dynamic.Interface
	disco  discovery.DiscoveryInterface
	mapper meta.RESTMapper
}

// Objects returns what writes as an administrator.
func (l *Lab) Objects() (*Objects, error) { return newObjects(l.config) }

func newObjects(cfg *rest.Config) (*Objects, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.ContentType, cfg.AcceptContentTypes = "", ""
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	a := &Objects{client: client, disco: disco}
	return a, a.discover()
}

func (a *Objects) discover() error {
	groups, err := restmapper.GetAPIGroupResources(a.disco)
	if err != nil {
		return err
	}
	a.mapper = restmapper.NewDiscoveryRESTMapper(groups)
	return nil
}

// order in which kinds must exist; all others come last, as they are listed.
var order = map[string]int{
	"Namespace": 1, "CustomResourceDefinition": 2, "ServiceAccount": 3,
	"Role": 4, "ClusterRole": 4, "RoleBinding": 5, "ClusterRoleBinding": 5, "ConfigMap": 6,
}

const unordered = 7

// runsPods says which kinds only make sense where their controllers run. The
// lab's API server has to accept them, which a dry run shows.
func runsPods(kind string) bool {
	switch kind {
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Pod", "PodDisruptionBudget", "Service":
		return true
	}
	return false
}

// deploy applies the objects, as a dry run those of kinds that are only to be checked. It
// returns how many were applied and how many were checked.
func (a *Objects) deploy(ctx context.Context, objects []*unstructured.Unstructured, check func(kind string) bool) (applied, checked int, err error) {
	for stage := 1; stage <= unordered; stage++ {
		for _, o := range objects {
			at := order[o.GetKind()]
			if at == 0 {
				at = unordered
			}
			if at != stage {
				continue
			}
			dry := check(o.GetKind())
			if err := a.apply(ctx, o, dry); err != nil {
				return applied, checked, fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
			}
			if dry {
				checked++
				continue
			}
			applied++
			if o.GetKind() == "CustomResourceDefinition" {
				if err := a.served(ctx, o); err != nil {
					return applied, checked, err
				}
			}
		}
	}
	return applied, checked, nil
}

// target is where an object is, or is to be.
func (a *Objects) target(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	gvk := o.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return a.client.Resource(mapping.Resource).Namespace(cmp.Or(o.GetNamespace(), metav1.NamespaceDefault)), nil
	}
	return a.client.Resource(mapping.Resource), nil
}

func (a *Objects) apply(ctx context.Context, o *unstructured.Unstructured, dry bool) error {
	target, err := a.target(o)
	if err != nil {
		return err
	}
	opts := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	if dry {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	_, err = target.Apply(ctx, o.GetName(), o, opts)
	return err
}

// Apply writes objects in an order in which they can exist, and waits until the API server
// serves the kinds that they define.
func (a *Objects) Apply(ctx context.Context, objects ...*unstructured.Unstructured) error {
	_, _, err := a.deploy(ctx, objects, func(string) bool { return false })
	return err
}

// ApplyStatus writes the status of an object, as its controller would. It has to name its
// fields in full: what is left out is removed.
func (a *Objects) ApplyStatus(ctx context.Context, o *unstructured.Unstructured, status map[string]any) error {
	target, err := a.target(o)
	if err != nil {
		return err
	}
	says := &unstructured.Unstructured{Object: map[string]any{"status": status}}
	says.SetGroupVersionKind(o.GroupVersionKind())
	says.SetName(o.GetName())
	says.SetNamespace(o.GetNamespace())
	_, err = target.ApplyStatus(ctx, o.GetName(), says, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	return err
}

// Get returns an object as the API server has it.
func (a *Objects) Get(ctx context.Context, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	target, err := a.target(o)
	if err != nil {
		return nil, err
	}
	return target.Get(ctx, o.GetName(), metav1.GetOptions{})
}

// Delete deletes an object.
func (a *Objects) Delete(ctx context.Context, o *unstructured.Unstructured) error {
	target, err := a.target(o)
	if err != nil {
		return err
	}
	return target.Delete(ctx, o.GetName(), metav1.DeleteOptions{})
}

// served waits until the API server serves the kind that a CustomResourceDefinition
// defines, in each of its versions.
func (a *Objects) served(ctx context.Context, crd *unstructured.Unstructured) error {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
	all, _, _ := unstructured.NestedFieldNoCopy(crd.Object, "spec", "versions")
	versions, _ := all.([]any)
	return until(ctx, nil, "the kind of "+crd.GetName(), func(ctx context.Context) error {
		if err := a.discover(); err != nil {
			return err
		}
		for _, v := range versions {
			version, ok := v.(map[string]any)
			if !ok || version["served"] != true {
				continue
			}
			mapping, err := a.mapper.RESTMapping(schema.GroupKind{Group: group, Kind: kind}, fmt.Sprint(version["name"]))
			if err == nil { // it is found a little earlier than it is served
				_, err = a.client.Resource(mapping.Resource).List(ctx, metav1.ListOptions{Limit: 1})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
