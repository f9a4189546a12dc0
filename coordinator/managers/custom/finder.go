package custom

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/client-go/dynamic"
)

// finder finds the objects of pods. What it does not know it reads from the API server:
// the owners on the way to an object, and an object that a pod names before the watch
// has told of it, or that is not there at all. Each is read once for all its pods.
type finder struct {
	*Program
	schedulerName string
	reads         dynamic.Interface
	// known returns what is known of an object.
	known func(types.NamespacedName) (uid types.UID, matches, ok bool)
	// absent reports whether the kind of the objects is known to be absent.
	absent func() bool
	read   *cache.LRUExpireCache
	log    *slog.Logger
}

const (
	// maxRead is how many answers of the API server are remembered.
	maxRead = 10_000
	// ownersLast is for how long the controller of an owner is taken to be what it was,
	// objectsLast for how long an object that is not known is taken to be absent.
	ownersLast  = 10 * time.Minute
	objectsLast = 10 * time.Second
	// readTimeout bounds one question to the API server.
	readTimeout = 3 * time.Second
)

// found is what the API server said of an object; the zero value that there is none.
type found struct {
	uid        types.UID
	controller *metav1.OwnerReference
	matches    bool
}

// find returns the object of a pod, and false if the pod is not for this manager, or if
// that cannot be told now. It may wait for the API server.
func (f *finder) find(pod *v1.Pod) (types.NamespacedName, bool) {
	to, ok := f.fromPod(pod)
	for n := 2; ok && !to.object; n++ {
		owner, err := f.ask(to, pod.Namespace, ownersLast)
		if err != nil {
			f.log.Warn("the owner of a pod cannot be read", "pod", pod.Namespace+"/"+pod.Name, "err", err)
			return types.NamespacedName{}, false
		}
		if owner.uid != to.uid {
			return types.NamespacedName{}, false
		}
		to, ok = f.fromOwner(owner.controller, n)
	}
	if !ok {
		return types.NamespacedName{}, false
	}
	key := types.NamespacedName{Namespace: pod.Namespace, Name: to.name}
	if uid, matches, ok := f.known(key); ok && (to.uid == "" || to.uid == uid) {
		return key, matches
	}
	if f.absent() {
		return key, false
	}
	object, err := f.ask(to, pod.Namespace, objectsLast)
	if err != nil {
		f.log.Warn("the object of a pod cannot be read", "pod", pod.Namespace+"/"+pod.Name, "err", err)
		return key, false
	}
	return key, object.matches && (to.uid == "" || to.uid == object.uid)
}

// ask returns what the API server says of an object, or has said.
func (f *finder) ask(of link, namespace string, lasts time.Duration) (found, error) {
	key := fmt.Sprintf("%s/%s/%s/%s", of.kind.gvr(), namespace, of.name, of.uid)
	if said, ok := f.read.Get(key); ok {
		return said.(found), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	object, err := f.reads.Resource(of.kind.gvr()).Namespace(namespace).Get(ctx, of.name, metav1.GetOptions{})
	var said found
	switch {
	case apierrors.IsNotFound(err):
		lasts = objectsLast // it may be made yet
	case err != nil:
		return said, fmt.Errorf("%s %s/%s: %w", of.kind.Kind, namespace, of.name, err)
	default:
		said = found{uid: object.GetUID(), controller: metav1.GetControllerOf(object), matches: !of.object || f.accepts(object)}
	}
	f.read.Add(key, said, lasts)
	return said, nil
}

// accepts reports whether an object is for this manager. One that cannot be evaluated is:
// its pods wait until it can.
func (f *finder) accepts(object *unstructured.Unstructured) bool {
	is, err := f.matches(object, f.schedulerName)
	return is || err != nil
}
