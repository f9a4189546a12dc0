package coordinator_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
)

// object is what an API server stores. One that is stored is not changed any more.
type object interface {
	runtime.Object
	metav1.Object
}

// apiServer is as much of a Kubernetes API server as a replica asks for, in memory: it
// costs a tenth of a real one, so that 200,000 pods come and go in minutes.
type apiServer struct {
	// changed is told of each change of a pod, of which it is given the last version
	// and whether it is gone. It must not wait.
	changed func(pod *v1.Pod, gone bool)

	mu      sync.Mutex
	version uint64
	stored  map[string]*collection // by resource
}

type collection struct {
	kind     schema.GroupVersionKind
	objects  map[types.NamespacedName]object
	versions map[types.NamespacedName]uint64
	watchers map[*watcher]bool
	deleted  uint64 // the version of the last deletion
}

func newAPIServer() *apiServer {
	s := &apiServer{version: 1, stored: make(map[string]*collection)}
	for _, version := range []string{"v1", "coordination.k8s.io/v1", "scheduling.k8s.io/v1", "storage.k8s.io/v1"} {
		group, err := schema.ParseGroupVersion(version)
		if err != nil {
			panic(err)
		}
		for kind := range scheme.Scheme.KnownTypes(group) {
			kind := group.WithKind(kind)
			plural, _ := meta.UnsafeGuessKindToResource(kind)
			s.stored[plural.Resource] = &collection{
				kind: kind, watchers: make(map[*watcher]bool),
				objects: make(map[types.NamespacedName]object), versions: make(map[types.NamespacedName]uint64),
			}
		}
	}
	return s
}

// watcher is one watch of a replica. What it has not read yet waits without bound.
type watcher struct {
	want  target
	mu    sync.Mutex
	queue [][]byte
	wake  chan struct{}
}

func (w *watcher) tell(frame []byte) {
	w.mu.Lock()
	w.queue = append(w.queue, frame)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func frame(kind watch.EventType, of runtime.Object) []byte {
	body, err := json.Marshal(of)
	if err != nil {
		panic(err)
	}
	return fmt.Appendf(nil, "{\"type\":%q,\"object\":%s}\n", kind, body)
}

// put stores an object under the next version.
func (s *apiServer) put(resource string, o object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(resource, o)
}

// store is put with mu held.
func (s *apiServer) store(resource string, o object) {
	c, key := s.stored[resource], types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
	kind := watch.Modified
	if c.objects[key] == nil {
		kind = watch.Added
		o.SetUID(uuid.NewUUID())
		o.SetCreationTimestamp(metav1.Now())
	}
	s.version++
	o.SetResourceVersion(strconv.FormatUint(s.version, 10))
	o.GetObjectKind().SetGroupVersionKind(c.kind)
	c.objects[key], c.versions[key] = o, s.version
	s.tell(c, kind, key, o)
}

func (s *apiServer) tell(c *collection, kind watch.EventType, key types.NamespacedName, o object) {
	var told []byte
	for w := range c.watchers {
		if w.want.covers(key) {
			if told == nil {
				told = frame(kind, o)
			}
			w.tell(told)
		}
	}
	if pod, ok := o.(*v1.Pod); ok && s.changed != nil {
		s.changed(pod, kind == watch.Deleted)
	}
}

// remove deletes an object if it is there, and if it is the one meant.
func (s *apiServer) remove(resource, namespace, name string, meant types.UID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, key := s.stored[resource], types.NamespacedName{Namespace: namespace, Name: name}
	o := c.objects[key]
	if o == nil || meant != "" && meant != o.GetUID() {
		return false
	}
	delete(c.objects, key)
	delete(c.versions, key)
	s.version++
	last := o.DeepCopyObject().(object)
	last.SetResourceVersion(strconv.FormatUint(s.version, 10))
	c.deleted = s.version
	s.tell(c, watch.Deleted, key, last)
	return true
}

// edit changes an object, unless there is none.
func edit[T object](s *apiServer, resource, namespace, name string, change func(T)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.stored[resource].objects[types.NamespacedName{Namespace: namespace, Name: name}].(T)
	if !ok {
		return false
	}
	o = o.DeepCopyObject().(T)
	change(o)
	s.store(resource, o)
	return true
}

func list[T object](s *apiServer, resource string) []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []T
	for _, o := range s.stored[resource].objects {
		all = append(all, o.(T))
	}
	return all
}

// target is what a request is about.
type target struct{ resource, namespace, name, sub string }

func (t target) covers(key types.NamespacedName) bool {
	return (t.namespace == "" || t.namespace == key.Namespace) && (t.name == "" || t.name == key.Name)
}

func (t target) key() types.NamespacedName {
	return types.NamespacedName{Namespace: t.namespace, Name: t.name}
}

func targetOf(r *http.Request) (t target) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	parts = parts[min(2, len(parts)):] // api/v1
	if strings.HasPrefix(r.URL.Path, "/apis/") {
		parts = parts[min(1, len(parts)):]
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		t.namespace, parts = parts[1], parts[2:]
	}
	for i, to := range []*string{&t.resource, &t.name, &t.sub} {
		if i < len(parts) {
			*to = parts[i]
		}
	}
	if name, ok := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name="); ok {
		t.name = name
	}
	return t
}

// ServeHTTP implements http.Handler.
func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := targetOf(r)
	c := s.stored[t.resource]
	if c == nil {
		answer(w, nil, apierrors.NewNotFound(schema.GroupResource{Resource: r.URL.Path}, ""))
		return
	}
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodGet && query.Get("watch") == "true":
		s.watch(w, r, c, t)
	case r.Method == http.MethodGet && t.key().Name != "" && !query.Has("fieldSelector"):
		s.mu.Lock()
		o := c.objects[t.key()]
		s.mu.Unlock()
		answer(w, o, nil)
	case r.Method == http.MethodGet:
		s.list(w, r, c, t)
	default:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		o, err := s.change(r, t, body)
		answer(w, o, err)
	}
}

func answer(w http.ResponseWriter, o object, err error) {
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	var refused *apierrors.StatusError
	switch {
	case err == nil && o == nil:
		refused = apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "")
	case err != nil && !errors.As(err, &refused):
		refused = apierrors.NewInternalError(err)
	}
	var what any = o
	if refused != nil {
		status := refused.Status()
		status.Kind, status.APIVersion = "Status", "v1"
		w.WriteHeader(int(status.Code))
		what = status
	}
	_ = json.NewEncoder(w).Encode(what)
}

func (s *apiServer) list(w http.ResponseWriter, r *http.Request, c *collection, t target) {
	kind := c.kind.Kind + "List"
	version := c.kind.GroupVersion().String()
	if strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadataList") {
		kind, version = "PartialObjectMetadataList", metav1.SchemeGroupVersion.String()
	}
	s.mu.Lock()
	items := []object{}
	for key, o := range c.objects {
		if t.covers(key) {
			items = append(items, o)
		}
	}
	at := strconv.FormatUint(s.version, 10)
	s.mu.Unlock()
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": kind, "apiVersion": version, "metadata": map[string]any{"resourceVersion": at}, "items": items,
	})
}

// watch sends what there is that is newer than the version asked for, and then what
// changes.
func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, c *collection, t target) {
	query, me := r.URL.Query(), &watcher{want: t, wake: make(chan struct{}, 1)}
	from, _ := strconv.ParseUint(query.Get("resourceVersion"), 10, 64)
	initial := query.Get("sendInitialEvents") == "true"
	if initial {
		from = 0
	}
	s.mu.Lock()
	if from > 0 && from < c.deleted {
		s.mu.Unlock()
		answer(w, nil, apierrors.NewResourceExpired("too old"))
		return
	}
	keys := slices.SortedFunc(maps.Keys(c.versions), func(a, b types.NamespacedName) int { return int(c.versions[a]) - int(c.versions[b]) })
	for _, key := range keys {
		if c.versions[key] > from && t.covers(key) {
			me.tell(frame(watch.Added, c.objects[key]))
		}
	}
	if initial {
		end, err := scheme.Scheme.New(c.kind)
		if err != nil {
			panic(err)
		}
		bookmark := end.(object)
		bookmark.GetObjectKind().SetGroupVersionKind(c.kind)
		bookmark.SetResourceVersion(strconv.FormatUint(s.version, 10))
		bookmark.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
		me.tell(frame(watch.Bookmark, bookmark))
	}
	c.watchers[me] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(c.watchers, me)
		s.mu.Unlock()
	}()
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	me.send(w, r)
}

func (w *watcher) send(to http.ResponseWriter, r *http.Request) {
	flush := http.NewResponseController(to)
	for {
		w.mu.Lock()
		frames := w.queue
		w.queue = nil
		w.mu.Unlock()
		for _, f := range frames {
			if _, err := to.Write(f); err != nil {
				return
			}
		}
		if flush.Flush() != nil {
			return
		}
		select {
		case <-w.wake:
		case <-r.Context().Done():
			return
		}
	}
}

// change carries out a request that changes something.
func (s *apiServer) change(r *http.Request, t target, body []byte) (object, error) {
	if r.Method == http.MethodPatch {
		return s.patch(t, body)
	}
	var sent runtime.Object
	if len(body) > 0 {
		var err error
		if sent, _, err = scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil); err != nil {
			return nil, err
		}
	}
	switch {
	case r.Method == http.MethodDelete:
		meant := types.UID("")
		if options, ok := sent.(*metav1.DeleteOptions); ok && options.Preconditions != nil && options.Preconditions.UID != nil {
			meant = *options.Preconditions.UID
		}
		if !s.remove(t.resource, t.namespace, t.name, meant) {
			return nil, nil
		}
		return &v1.Pod{}, nil
	case t.sub == "binding":
		return s.bind(t, sent.(*v1.Binding))
	case t.resource == "events":
		return sent.(object), nil // nobody reads them
	}
	o, _ := sent.(object)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.stored[t.resource]
	t.name = o.GetName()
	known := c.objects[t.key()]
	switch {
	case r.Method == http.MethodPost && known != nil:
		return nil, apierrors.NewAlreadyExists(schema.GroupResource{Resource: t.resource}, t.name)
	case r.Method == http.MethodPut && known == nil:
		return nil, nil
	case r.Method == http.MethodPut && known.GetResourceVersion() != o.GetResourceVersion():
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: t.resource}, t.name, errors.New("changed meanwhile"))
	}
	o.SetNamespace(t.namespace)
	s.store(t.resource, o)
	return o, nil
}

func (s *apiServer) bind(t target, b *v1.Binding) (object, error) {
	var taken bool
	found := edit(s, "pods", t.namespace, t.name, func(pod *v1.Pod) {
		if taken = pod.Spec.NodeName != "" || b.UID != "" && b.UID != pod.UID; taken {
			return
		}
		pod.Spec.NodeName = b.Target.Name
		if pod.Annotations == nil {
			pod.Annotations = make(map[string]string)
		}
		maps.Copy(pod.Annotations, b.Annotations)
		pod.Status.Conditions = append(pod.Status.Conditions, v1.PodCondition{
			Type: v1.PodScheduled, Status: v1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Now()),
		})
	})
	switch {
	case !found:
		return nil, nil
	case taken:
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, t.name, errors.New("assigned already"))
	}
	return &v1.Pod{}, nil
}

// patch merges what the replicas send: conditions replace conditions.
func (s *apiServer) patch(t target, patch []byte) (object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pod, ok := s.stored[t.resource].objects[t.key()].(*v1.Pod)
	if !ok {
		return nil, nil
	}
	changed := pod.DeepCopy()
	if err := json.Unmarshal(patch, changed); err != nil {
		return nil, err
	}
	if changed.ResourceVersion != pod.ResourceVersion || changed.UID != pod.UID {
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, t.name, errors.New("changed meanwhile"))
	}
	s.store(t.resource, changed)
	return changed, nil
}
