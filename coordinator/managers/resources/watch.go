package resources

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/serve"
)

// Kind says what to watch.
type Kind struct {
	Group, Kind string
	// Versions are those that the manager can read, the one that it likes best first.
	// None selects those of the API server, its preferred one first.
	Versions []string
}

// Handler is told of objects, one call at a time. They are shared and must not be
// changed. A field that is nil is not called.
type Handler struct {
	// Added is told of an object that exists; initial says that it did so before the
	// watch began or its kind came back.
	Added   func(object *unstructured.Unstructured, initial bool)
	Changed func(old, object *unstructured.Unstructured)
	// Deleted gets the last version that is known.
	Deleted func(object *unstructured.Unstructured)
	// Synced is called when all objects that existed have been told, and when the kind
	// is known to be absent.
	Synced func()
	// Failed says that one of the others panicked over an object.
	Failed func(object *unstructured.Unstructured, err error)
}

// Config tunes a Watch.
type Config struct {
	// Trim takes away what the manager does not read, before an object is stored. The
	// object belongs to it. It may be called twice for one object.
	Trim func(object *unstructured.Unstructured)
	// Absent says how long to wait between two look-ups of a kind that is not there.
	Absent wait.Backoff
	// Grace is for how long a kind has to be denied until its objects count as gone.
	Grace time.Duration
}

// Default returns the configuration of a watch that trims nothing.
func Default() Config {
	return Config{
		Absent: wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.2, Steps: 100, Cap: 30 * time.Second},
		Grace:  10 * time.Second,
	}
}

// Status is how a watch stands.
type Status struct {
	Group, Kind string
	// Resource is what is watched, empty while the kind is not known to be there.
	Resource schema.GroupVersionResource
	// Present says whether the kind is there, Synced whether all that exists has been
	// told; of a kind that is known to be absent that is so too.
	Present, Synced bool
	// Objects is how many there are, Skipped how often a handler panicked over one.
	Objects, Skipped int
	// Err is what went wrong last, at ErrAt; empty if nothing has since the kind was
	// found.
	Err   string
	ErrAt time.Time
}

// Describe says for operators how a watch stands.
func (s Status) Describe() serve.Resource {
	kind := schema.GroupVersionKind{Group: s.Group, Version: s.Resource.Version, Kind: s.Kind}
	return serve.Resource{Name: kind.String(), Served: s.Present, Objects: s.Objects, LastError: s.Err}
}

// Watch follows the objects of one kind.
type Watch struct {
	kind      Kind
	reads     dynamic.Interface
	discovery discovery.DiscoveryInterfaceWithContext
	cfg       Config
	handler   Handler
	now       func() time.Time
	log       *slog.Logger

	cancel  context.CancelFunc
	running sync.WaitGroup

	// turn is held while the handler is called. It guards told: the objects that the
	// handler knows, by namespace and name.
	turn sync.Mutex
	told map[string]*unstructured.Unstructured

	handling atomic.Bool
	handled  atomic.Uint64

	mu       sync.Mutex
	status   Status
	informer cache.SharedIndexInformer // nil while the kind is absent
}

// New makes a watch, which Start begins.
func New(
	kind Kind, reads dynamic.Interface, disc discovery.DiscoveryInterface, handler Handler, cfg Config,
	now func() time.Time, log *slog.Logger,
) *Watch {
	return &Watch{
		kind: kind, reads: reads, discovery: discovery.ToDiscoveryInterfaceWithContext(disc),
		cfg: cfg, handler: handler, now: now, log: log.With("group", kind.Group, "kind", kind.Kind),
		told:   make(map[string]*unstructured.Unstructured),
		status: Status{Group: kind.Group, Kind: kind.Kind},
	}
}

// Start begins to watch. It can be called once.
func (w *Watch) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.running.Go(func() { w.run(ctx) })
}

// Stop ends the watch and waits until nothing of it runs, a call of the handler
// included. Stop without Start does nothing.
func (w *Watch) Stop() {
	if w.cancel != nil {
		w.cancel()
	}
	w.running.Wait()
}

// Status returns how the watch stands.
func (w *Watch) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	status := w.status
	if w.informer != nil {
		status.Objects = len(w.informer.GetStore().ListKeys())
	}
	return status
}

// HasSynced reports whether the handler has been told of all that exists, or the kind
// is known to be absent.
func (w *Watch) HasSynced() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status.Synced
}

// Get returns an object as it is known now, nil if it is not.
func (w *Watch) Get(namespace, name string) *unstructured.Unstructured {
	w.mu.Lock()
	informer := w.informer
	w.mu.Unlock()
	if informer == nil {
		return nil
	}
	found, _, err := informer.GetStore().GetByKey(cache.ObjectName{Namespace: namespace, Name: name}.String())
	if err != nil {
		return nil
	}
	object, _ := found.(*unstructured.Unstructured)
	return object
}

// Progress reports whether the handler is being called, and how often it has been. It
// does not wait.
func (w *Watch) Progress() (busy bool, done uint64) {
	done = w.handled.Load()
	return w.handling.Load(), done
}

// run looks for the kind and watches it while it is there.
func (w *Watch) run(ctx context.Context) {
	pause := w.cfg.Absent
	for ctx.Err() == nil {
		resource, err := w.find(ctx)
		switch {
		case err != nil:
			w.trouble("the API server does not say whether the kind is there", err)
		case resource.Empty():
			w.absent()
		default:
			w.follow(ctx, resource)
			pause = w.cfg.Absent
			if ctx.Err() != nil {
				return
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause.Step()):
		}
	}
}

// absent notes that the kind is not there. What was told of it is gone.
func (w *Watch) absent() {
	w.mu.Lock()
	was := w.status
	w.status.Resource, w.status.Present, w.status.Synced = schema.GroupVersionResource{}, false, true
	w.informer = nil
	w.mu.Unlock()
	if was.Synced && !was.Present {
		return
	}
	w.log.Info("the kind is not there; it is waited for")
	w.turn.Lock()
	defer w.turn.Unlock()
	for key := range w.told {
		w.deleted(key)
	}
	w.sync()
}

// follow watches a resource until ctx ends or the resource is gone.
func (w *Watch) follow(ctx context.Context, resource schema.GroupVersionResource) {
	ctx, cancel := context.WithCancel(ctx)
	informer := dynamicinformer.NewFilteredDynamicInformer(
		w.reads, resource, metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()
	failures := make(chan error, 1)
	t := &teller{w: w, missed: maps.Clone(w.told)}
	registration, err := w.prepare(informer, failures, t)
	if err != nil { // it can only fail on one that runs
		cancel()
		w.trouble("the watch could not be set up", err)
		return
	}
	w.mu.Lock()
	w.informer = informer
	w.status.Resource, w.status.Present, w.status.Synced = resource, true, false
	w.status.Err, w.status.ErrAt = "", time.Time{}
	w.mu.Unlock()
	w.log.Info("watching", "version", resource.Version, "resource", resource.Resource)

	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { informer.RunWithContext(ctx) })
	running.Go(func() {
		select {
		case <-ctx.Done():
		case <-registration.HasSyncedChecker().Done():
			t.synced()
		}
	})
	w.untilGone(ctx, resource, failures)
}

// prepare sets up what has to be before an informer starts.
func (w *Watch) prepare(informer cache.SharedIndexInformer, failures chan<- error, t *teller) (cache.ResourceEventHandlerRegistration, error) {
	if err := informer.SetTransform(w.trim); err != nil {
		return nil, err
	}
	if err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		select {
		case failures <- err:
		default: // one is being looked at
		}
	}); err != nil {
		return nil, err
	}
	return informer.AddEventHandler(t)
}

// untilGone returns when ctx ends, or when the resource has been denied for as long as
// the grace, by its own path and by discovery. The informer tries again by itself, at
// growing intervals.
func (w *Watch) untilGone(ctx context.Context, resource schema.GroupVersionResource, failures <-chan error) {
	var since time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-failures:
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || apierrors.IsResourceExpired(err) {
				continue // it lists anew, as is usual
			}
			w.trouble("the objects cannot be watched; tried again", err)
			if !apierrors.IsNotFound(err) {
				since = time.Time{}
				continue
			}
			found, err := w.find(ctx)
			switch now := w.now(); {
			case err != nil || found == resource:
				since = time.Time{}
			case since.IsZero():
				since = now
			case now.Sub(since) >= w.cfg.Grace:
				return
			}
		}
	}
}

// trouble notes what went wrong, and logs what is new.
func (w *Watch) trouble(what string, err error) {
	w.mu.Lock()
	said := w.status.Err == err.Error()
	w.status.Err, w.status.ErrAt = err.Error(), w.now()
	w.mu.Unlock()
	if !said {
		w.log.Warn(what, "err", err)
	}
}

// find returns the resource of the kind in the version that is liked best of those
// that the API server has, and an empty one if it has none.
func (w *Watch) find(ctx context.Context) (schema.GroupVersionResource, error) {
	versions, err := w.versions(ctx)
	if err != nil {
		return schema.GroupVersionResource{}, err
	}
	for _, version := range versions {
		gv := schema.GroupVersion{Group: w.kind.Group, Version: version}
		list, err := w.discovery.ServerResourcesForGroupVersionWithContext(ctx, gv.String())
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return schema.GroupVersionResource{}, fmt.Errorf("looking for %s in %s: %w", w.kind.Kind, gv, err)
		}
		for _, r := range list.APIResources {
			if r.Kind == w.kind.Kind && !strings.Contains(r.Name, "/") { // no subresource
				return gv.WithResource(r.Name), nil
			}
		}
	}
	return schema.GroupVersionResource{}, nil
}

// versions returns the versions to look in.
func (w *Watch) versions(ctx context.Context) ([]string, error) {
	if len(w.kind.Versions) > 0 {
		return w.kind.Versions, nil
	}
	groups, err := w.discovery.ServerGroupsWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking for the versions of %s: %w", w.kind.Group, err)
	}
	for i := range groups.Groups {
		if group := &groups.Groups[i]; group.Name == w.kind.Group {
			versions := []string{group.PreferredVersion.Version}
			for _, v := range group.Versions {
				if v.Version != group.PreferredVersion.Version {
					versions = append(versions, v.Version)
				}
			}
			return versions, nil
		}
	}
	return nil, nil
}
