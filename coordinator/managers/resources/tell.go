package resources

import (
	"fmt"
	"runtime/debug"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/kube"
)

// teller is what one informer calls.
type teller struct {
	w *Watch
	// missed are objects that an informer before this one told, and this one has not
	// seen yet. The watch's turn guards it.
	missed map[string]*unstructured.Unstructured
}

func (t *teller) OnAdd(obj any, initial bool) { t.seen(obj, initial) }

func (t *teller) OnUpdate(_, obj any) { t.seen(obj, false) }

// OnDelete also gets a DeletedFinalStateUnknown: the deletion was missed, and noticed
// by a new listing.
func (t *teller) OnDelete(obj any) {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
	if err != nil {
		t.w.log.Error("object without a name", "type", fmt.Sprintf("%T", obj), "err", err)
		return
	}
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = unknown.Obj
	}
	t.w.turn.Lock()
	defer t.w.turn.Unlock()
	if last, ok := obj.(*unstructured.Unstructured); ok && t.w.told[key] != nil {
		t.w.told[key] = last
	}
	t.w.deleted(key)
}

// seen tells of an object what it is to the handler, whatever it is to the informer.
func (t *teller) seen(obj any, initial bool) {
	object, ok := obj.(*unstructured.Unstructured)
	if !ok {
		t.w.log.Error("not an object", "type", fmt.Sprintf("%T", obj))
		return
	}
	w, key := t.w, cache.MetaObjectToName(object).String()
	w.turn.Lock()
	defer w.turn.Unlock()
	delete(t.missed, key)
	old := w.told[key]
	if old != nil && old.GetUID() != object.GetUID() { // another took the name
		w.deleted(key)
		old = nil
	}
	w.told[key] = object
	w.call(object, func() {
		switch {
		case old == nil && w.handler.Added != nil:
			w.handler.Added(object, initial)
		case old != nil && w.handler.Changed != nil:
			w.handler.Changed(old, object)
		}
	})
}

// synced notes that all objects that exist have been told.
func (t *teller) synced() {
	t.w.turn.Lock()
	defer t.w.turn.Unlock()
	for key := range t.missed {
		t.w.deleted(key)
	}
	t.w.sync()
}

// sync notes that the handler knows all there is. The caller holds turn, as for the
// methods below.
func (w *Watch) sync() {
	w.mu.Lock()
	w.status.Synced = true
	w.mu.Unlock()
	w.call(nil, func() {
		if w.handler.Synced != nil {
			w.handler.Synced()
		}
	})
}

// deleted tells that an object is gone, if the handler knows it.
func (w *Watch) deleted(key string) {
	object := w.told[key]
	if object == nil {
		return
	}
	delete(w.told, key)
	w.call(object, func() {
		if w.handler.Deleted != nil {
			w.handler.Deleted(object)
		}
	})
}

// call calls the handler about an object, which is nil for none. What panics has not
// happened to the others.
func (w *Watch) call(object *unstructured.Unstructured, handle func()) {
	w.handling.Store(true)
	defer func() {
		w.handling.Store(false)
		w.handled.Add(1)
		if reason := recover(); reason != nil {
			w.panicked(object, "the app manager", reason)
		}
	}()
	handle()
}

// panicked names the object over which something panicked.
func (w *Watch) panicked(object *unstructured.Unstructured, who string, reason any) {
	name := "no object"
	if object != nil {
		name = cache.MetaObjectToName(object).String()
	}
	err := fmt.Errorf("%s panicked over %s, which is skipped: %v", who, name, reason)
	w.mu.Lock()
	w.status.Skipped++
	w.status.Err, w.status.ErrAt = err.Error(), w.now()
	w.mu.Unlock()
	w.log.Error("object skipped", "object", name, "err", err, "stack", string(debug.Stack()))
	if w.handler.Failed == nil || object == nil {
		return
	}
	defer func() {
		if again := recover(); again != nil {
			w.log.Error("the failure could not be told", "object", name, "err", again)
		}
	}()
	w.handler.Failed(object, err)
}

// trim takes away what nobody reads. If the manager's own Trim panics, only who the
// object is is kept: what is left would not be bounded.
func (w *Watch) trim(obj any) (out any, err error) {
	object, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return obj, nil // a deletion that was missed; it has been trimmed
	}
	kube.DropWritten(object)
	if w.cfg.Trim == nil {
		return object, nil
	}
	defer func() {
		if reason := recover(); reason != nil {
			w.panicked(nil, "trimming "+cache.MetaObjectToName(object).String(), reason)
			out = &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": object.GetAPIVersion(), "kind": object.GetKind(), "metadata": object.Object["metadata"],
			}}
		}
	}()
	w.cfg.Trim(object)
	return object, nil
}
