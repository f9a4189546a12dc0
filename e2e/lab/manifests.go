package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/understudy-ha/understudy/coordinator/kube"
)

const fieldManager = "understudy-lab"

// render returns what `kubectl kustomize dir` prints, as objects.
func render(dir string) ([]*unstructured.Unstructured, error) {
	if _, err := os.Stat(filepath.Join(dir, "kustomization.yaml")); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no kustomization.yaml", dir)
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("kustomize %s: %w", dir, err)
	}
	var objects []*unstructured.Unstructured
	for _, r := range resources.Resources() {
		m, err := r.Map()
		if err != nil {
			return nil, fmt.Errorf("kustomize %s: %w", dir, err)
		}
		objects = append(objects, &unstructured.Unstructured{Object: m})
	}
	return objects, nil
}

// applier writes objects by server-side apply, as `kubectl apply --server-side`
// does.
type applier struct {
	client dynamic.Interface
	disco  discovery.DiscoveryInterface
	mapper meta.RESTMapper
}

func newApplier(cfg *rest.Config) (*applier, error) {
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
	a := &applier{client: client, disco: disco}
	return a, a.discover()
}

func (a *applier) discover() error {
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

// deploy applies the objects, workloads as a dry run. It returns how many were
// applied and how many were checked.
func (a *applier) deploy(ctx context.Context, objects []*unstructured.Unstructured) (applied, checked int, err error) {
	for stage := 1; stage <= unordered; stage++ {
		crds := 0
		for _, o := range objects {
			at := order[o.GetKind()]
			if at == 0 {
				at = unordered
			}
			if at != stage {
				continue
			}
			dry := runsPods(o.GetKind())
			if err := a.apply(ctx, o, dry); err != nil {
				return applied, checked, fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
			}
			if dry {
				checked++
				continue
			}
			applied++
			if o.GetKind() == "CustomResourceDefinition" {
				crds++
				if err := a.established(ctx, o.GetName()); err != nil {
					return applied, checked, err
				}
			}
		}
		if crds > 0 {
			if err := a.discover(); err != nil {
				return applied, checked, err
			}
		}
	}
	return applied, checked, nil
}

func (a *applier) apply(ctx context.Context, o *unstructured.Unstructured, dry bool) error {
	gvk := o.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return err
	}
	var target dynamic.ResourceInterface = a.client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		target = a.client.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	opts := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	if dry {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	_, err = target.Apply(ctx, o.GetName(), o, opts)
	return err
}

// established waits until the API server serves the kind.
func (a *applier) established(ctx context.Context, name string) error {
	crds := a.client.Resource(schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
	})
	return until(ctx, nil, "the kind of "+name, func(ctx context.Context) error {
		crd, err := crds.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
		for _, c := range conditions {
			if c, ok := c.(map[string]any); ok && c["type"] == "Established" && c["status"] == "True" {
				return nil
			}
		}
		return errors.New("not established")
	})
}

// withoutFence takes the admission policies and their bindings out.
func withoutFence(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	return slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool {
		return strings.HasPrefix(o.GetKind(), "ValidatingAdmissionPolicy")
	})
}

// awaitFence waits until the API server enforces the policies, some tenths of a
// second after they have been created.
func (l *Lab) awaitFence(ctx context.Context, who identity) error {
	cfg := l.RESTConfig()
	cfg.Impersonate.UserName = "system:serviceaccount:" + who.namespace + ":" + who.serviceAccount
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	return until(ctx, nil, "the fence", func(ctx context.Context) error {
		enforced, err := kube.ProbeFence(ctx, client, who.namespace)
		if err == nil && !enforced {
			err = errors.New("the API server lets pass what it should refuse")
		}
		return err
	})
}

// ensureNamespace creates a namespace that the manifests leave to the user.
func (a *applier) ensureNamespace(ctx context.Context, name string) error {
	ns := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name},
	}}
	_, err := a.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).
		Create(ctx, ns, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
