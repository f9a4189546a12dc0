package managerstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	discoveryfake "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/dynamic"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/openapi"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	cachetesting "k8s.io/client-go/tools/cache/testing"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/workload"
)

// World is a cluster with a lead.
type World struct {
	Lead

	// Write is asked before a status is written, if it is not nil; its error is the
	// answer. It may wait.
	Write func(name string) error
	// Prune drops of a status what the schema does not know, if it is not nil.
	Prune func(status map[string]any)

	dynamic   *dynamicfake.FakeDynamicClient
	discovery *discoveryfake.FakeDiscovery
	source    *cachetesting.FakeControllerSource
	informer  cache.SharedIndexInformer

	mu       sync.Mutex
	version  int
	events   []string
	problems []string
	writes   []string
	absent   map[schema.GroupVersionResource]bool
	watches  map[schema.GroupVersionResource][]watch.Interface
}

// New makes a world that has the kinds of the given resources, and no object.
func New(t *testing.T, kinds map[schema.GroupVersionResource]string) *World {
	lists := make(map[schema.GroupVersionResource]string, len(kinds))
	w := &World{
		discovery: &discoveryfake.FakeDiscovery{Fake: &clienttesting.Fake{}},
		source:    cachetesting.NewFakeControllerSource(), version: 100,
		absent: make(map[schema.GroupVersionResource]bool), watches: make(map[schema.GroupVersionResource][]watch.Interface),
	}
	offered := make(map[string]*metav1.APIResourceList) // by group and version
	for gvr, kind := range kinds {
		lists[gvr] = kind + "List"
		version := gvr.GroupVersion().String()
		if offered[version] == nil {
			offered[version] = &metav1.APIResourceList{GroupVersion: version}
			w.discovery.Resources = append(w.discovery.Resources, offered[version])
		}
		offered[version].APIResources = append(offered[version].APIResources, metav1.APIResource{Name: gvr.Resource, Kind: kind})
	}
	w.dynamic = dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists)
	w.serves()
	w.informer = cache.NewSharedIndexInformer(w.source, &v1.Pod{}, 0, cache.Indexers{})
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { w.informer.Run(stop) })
	t.Cleanup(func() {
		close(stop)
		running.Wait()
		w.source.Shutdown()
	})
	synctest.Wait()
	return w
}

// Deps returns what a manager of that name is made from.
func (w *World) Deps(name string) managers.Deps {
	return managers.Deps{
		Name: name, Settings: func(any) error { return nil },
		Protocol: &w.Lead, Cluster: w, Reads: w.dynamic, Discovery: offer{w.discovery, w}, Writes: w.Client(func() error { return nil }),
		SchedulerName: workload.DefaultSchedulerName, UserLabel: workload.DefaultUserLabel,
		Resources: func(*v1.Pod) map[string]int64 { return map[string]int64{"pods": 1} },
		Problems: func(pod *v1.Pod, found []workload.Problem) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, p := range found {
				w.problems = append(w.problems, pod.Name+" "+p.Key)
			}
		},
		Event: func(about v1.ObjectReference, warning bool, reason, message string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, fmt.Sprintf("%s/%s %s: %s", about.Kind, about.Name, reason, message))
			if about.UID == "" || about.APIVersion == "" {
				w.events = append(w.events, "an event about nobody")
			}
		},
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
}

// Serve has the API server serve a kind, or not: its watches end then, and its objects
// cannot be read.
func (w *World) Serve(gvr schema.GroupVersionResource, served bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.absent[gvr] = !served
	for _, one := range w.watches[gvr] {
		one.Stop()
	}
	delete(w.watches, gvr)
}

// missing returns the answer about a kind that is not served, nil for one that is.
func (w *World) missing(gvr schema.GroupVersionResource) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.absent[gvr] {
		return apierrors.NewNotFound(gvr.GroupResource(), "")
	}
	return nil
}

// serves has the fake client know what is served.
func (w *World) serves() {
	w.dynamic.PrependReactor("list", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		err := w.missing(a.GetResource())
		return err != nil, nil, err
	})
	w.dynamic.PrependWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		gvr := a.GetResource()
		if err := w.missing(gvr); err != nil {
			return true, nil, err
		}
		var opts metav1.ListOptions
		if of, ok := a.(clienttesting.WatchActionImpl); ok {
			opts = of.ListOptions
		}
		events, err := w.dynamic.Tracker().Watch(gvr, a.GetNamespace(), opts)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.watches[gvr] = append(w.watches[gvr], events)
		return true, events, err
	})
}

// offer is the discovery of an API server that publishes no schemas.
type offer struct {
	discovery.DiscoveryInterface
	w *World
}

func (o offer) ServerResourcesForGroupVersion(version string) (*metav1.APIResourceList, error) {
	list, err := o.DiscoveryInterface.ServerResourcesForGroupVersion(version)
	if err != nil {
		return nil, err
	}
	gv, err := schema.ParseGroupVersion(version)
	served := &metav1.APIResourceList{GroupVersion: version}
	for _, r := range list.APIResources {
		if o.w.missing(gv.WithResource(r.Name)) == nil {
			served.APIResources = append(served.APIResources, r)
		}
	}
	return served, err
}

func (offer) OpenAPIV3() openapi.Client { return noPaths{} }

type noPaths struct{}

func (noPaths) Paths() (map[string]openapi.GroupVersion, error) {
	return nil, errors.New("no schemas are published")
}

// PodInformer implements managers.Cluster.
func (w *World) PodInformer() cache.SharedIndexInformer { return w.informer }

// Namespace implements managers.Cluster.
func (w *World) Namespace(string) *v1.Namespace { return nil }

// Events returns the Events since it was called last, Problems what could not be read of
// pods, Writes the statuses that were written.
func (w *World) Events() string { return w.take(&w.events) }

// Problems is like Events.
func (w *World) Problems() string { return w.take(&w.problems) }

// Writes is like Events.
func (w *World) Writes() string { return w.take(&w.writes) }

func (w *World) take(from *[]string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := *from
	*from = nil
	return strings.Join(lines, "; ")
}

// next returns the next resource version.
func (w *World) next() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.version++
	return strconv.Itoa(w.version)
}

// AddPod creates a pod, ChangePod changes it, DeletePod deletes it.
func (w *World) AddPod(pod *v1.Pod) { w.source.Add(pod); synctest.Wait() }

// ChangePod is like AddPod.
func (w *World) ChangePod(pod *v1.Pod) { w.source.Modify(pod); synctest.Wait() }

// DeletePod is like AddPod.
func (w *World) DeletePod(pod *v1.Pod) { w.source.Delete(pod); synctest.Wait() }

// Create creates an object.
func (w *World) Create(t *testing.T, gvr schema.GroupVersionResource, object *unstructured.Unstructured) {
	t.Helper()
	object.SetResourceVersion(w.next())
	if err := w.dynamic.Tracker().Create(gvr, object, object.GetNamespace()); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// Change changes an object, as a user does.
func (w *World) Change(t *testing.T, gvr schema.GroupVersionResource, namespace, name string, change func(*unstructured.Unstructured)) {
	t.Helper()
	w.ChangeUnseen(t, gvr, namespace, name, change)
	synctest.Wait()
}

// ChangeUnseen is like Change, and does not wait until it has been seen.
func (w *World) ChangeUnseen(t *testing.T, gvr schema.GroupVersionResource, namespace, name string, change func(*unstructured.Unstructured)) {
	t.Helper()
	object := w.Object(t, gvr, namespace, name)
	change(object)
	object.SetResourceVersion(w.next())
	if err := w.dynamic.Tracker().Update(gvr, object, namespace); err != nil {
		t.Fatal(err)
	}
}

// Delete deletes an object.
func (w *World) Delete(t *testing.T, gvr schema.GroupVersionResource, namespace, name string) {
	t.Helper()
	if err := w.dynamic.Tracker().Delete(gvr, namespace, name); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// Object returns an object as the API server has it.
func (w *World) Object(t *testing.T, gvr schema.GroupVersionResource, namespace, name string) *unstructured.Unstructured {
	t.Helper()
	object, err := w.Lookup(gvr, namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	return object
}

// Lookup is like Object for an object that may not exist.
func (w *World) Lookup(gvr schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	object, err := w.dynamic.Tracker().Get(gvr, namespace, name)
	if err != nil {
		return nil, err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, err
	}
	return (&unstructured.Unstructured{Object: content}).DeepCopy(), nil
}

// Client returns a client for writes: it can patch a status, and nothing else, and asks
// may before it does. The fake that it stands before answers one request at a time.
func (w *World) Client(may func() error) dynamic.Interface { return client{w.dynamic, w, may} }

type client struct {
	dynamic.Interface
	w   *World
	may func() error
}

func (c client) Resource(gvr schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return namespaceable{c.Interface.Resource(gvr), c, gvr}
}

type namespaceable struct {
	dynamic.NamespaceableResourceInterface
	client
	gvr schema.GroupVersionResource
}

func (n namespaceable) Namespace(namespace string) dynamic.ResourceInterface {
	return statuses{n.NamespaceableResourceInterface.Namespace(namespace), n.client, n.gvr, namespace}
}

type statuses struct {
	dynamic.ResourceInterface
	client
	gvr       schema.GroupVersionResource
	namespace string
}

// Patch patches the status of an object if it is still the one, in the version, that the
// patch names.
func (s statuses) Patch(
	_ context.Context, name string, kind types.PatchType, data []byte, _ metav1.PatchOptions, subresources ...string,
) (*unstructured.Unstructured, error) {
	w := s.w
	if err := s.may(); err != nil {
		return nil, err
	}
	if kind != types.MergePatchType || !slices.Equal(subresources, []string{"status"}) {
		return nil, fmt.Errorf("unexpected patch of %s %v", kind, subresources)
	}
	if w.Write != nil {
		if err := w.Write(name); err != nil {
			return nil, err
		}
	}
	object, err := w.Lookup(s.gvr, s.namespace, name)
	if err != nil {
		return nil, err
	}
	var patch struct {
		Metadata struct{ UID, ResourceVersion string }
		Status   map[string]any
	}
	if err := json.Unmarshal(data, &patch); err != nil {
		return nil, err
	}
	if patch.Metadata.UID != string(object.GetUID()) || patch.Metadata.ResourceVersion != object.GetResourceVersion() {
		return nil, apierrors.NewConflict(s.gvr.GroupResource(), name, errors.New("it has changed"))
	}
	w.mu.Lock()
	w.writes = append(w.writes, fmt.Sprintf("%s %v %v", name, patch.Status["applicationState"], patch.Status["message"]))
	w.mu.Unlock()
	if w.Prune != nil {
		w.Prune(patch.Status)
	}
	object.Object["status"] = patch.Status
	object.SetResourceVersion(w.next())
	return object, w.dynamic.Tracker().Update(s.gvr, object, s.namespace)
}
