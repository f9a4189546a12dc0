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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/understudy-ha/understudy/coordinator/kube"
)

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
func (a *Objects) ensureNamespace(ctx context.Context, name string) error {
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
