package electiontest

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
)

var resource = schema.GroupResource{Group: coordinationv1.GroupName, Resource: "leases"}

// Store holds the Lease. It answers as the API server does: an update of a
// version that is not the current one conflicts, and so does one that names the
// UID of a deleted Lease.
type Store struct {
	mu       sync.Mutex
	version  uint64
	uids     uint64
	lease    *coordinationv1.Lease // nil if there is none
	events   []event
	oldest   uint64 // watches from before it have expired
	watchers map[*watcher]struct{}
}

type event struct {
	version uint64
	watch.Event
}

// NewStore returns a store without a Lease.
func NewStore() *Store {
	return &Store{watchers: map[*watcher]struct{}{}}
}

// Lease returns a copy of the Lease, nil if there is none.
func (s *Store) Lease() *coordinationv1.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease.DeepCopy()
}

// Holder returns the Lease's holder, empty if there is none.
func (s *Store) Holder() string {
	if lease := s.Lease(); lease != nil {
		return ptr.Deref(lease.Spec.HolderIdentity, "")
	}
	return ""
}

// Edit changes the Lease past all clients, as another tool would. It does
// nothing if there is no Lease.
func (s *Store) Edit(change func(*coordinationv1.Lease)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil {
		return
	}
	lease := s.lease.DeepCopy()
	change(lease)
	s.commit(watch.Modified, lease)
}

// Wipe empties the spec of the Lease, leaving its metadata.
func (s *Store) Wipe() {
	s.Edit(func(lease *coordinationv1.Lease) { lease.Spec = coordinationv1.LeaseSpec{} })
}

// WipeAll empties spec and annotations of the Lease.
func (s *Store) WipeAll() {
	s.Edit(func(lease *coordinationv1.Lease) {
		lease.Spec = coordinationv1.LeaseSpec{}
		lease.Annotations = nil
	})
}

// Delete deletes the Lease.
func (s *Store) Delete() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease != nil {
		s.commit(watch.Deleted, s.lease.DeepCopy())
	}
}

// Plant creates or replaces the Lease, held by somebody who never renews it.
// Now is what that holder's clock says.
func (s *Store) Plant(holder string, transitions int32, duration time.Duration, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lease := s.lease.DeepCopy()
	verb := watch.Modified
	if lease == nil {
		lease, verb = s.fresh(), watch.Added
	}
	lease.Spec = coordinationv1.LeaseSpec{
		HolderIdentity:       ptr.To(holder),
		LeaseDurationSeconds: ptr.To(int32(duration / time.Second)),
		AcquireTime:          ptr.To(metav1.NewMicroTime(now)),
		RenewTime:            ptr.To(metav1.NewMicroTime(now)),
		LeaseTransitions:     ptr.To(transitions),
	}
	s.commit(verb, lease)
}

// Compact forgets the history: watches from before now expire. Other objects
// have been written meanwhile, so even the Lease's own version is too old.
func (s *Store) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.events, s.oldest = nil, s.version
}

// Rewind lets versions start over from a lower one, as a control plane that was
// restored from a backup does; the Lease stays. Watches end.
func (s *Store) Rewind(version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events, s.version, s.oldest = nil, version, version
	if s.lease != nil {
		s.lease.ResourceVersion = strconv.FormatUint(version, 10)
	}
	for w := range s.watchers {
		w.close()
	}
}

// fresh is called with the lock held.
func (s *Store) fresh() *coordinationv1.Lease {
	s.uids++
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: "lease", UID: types.UID(fmt.Sprintf("lease-%d", s.uids)),
	}}
}

// commit is called with the lock held.
func (s *Store) commit(verb watch.EventType, lease *coordinationv1.Lease) {
	s.version++
	lease.ResourceVersion = strconv.FormatUint(s.version, 10)
	s.lease = lease
	if verb == watch.Deleted {
		s.lease = nil
	}
	ev := event{s.version, watch.Event{Type: verb, Object: lease}}
	s.events = append(s.events, ev)
	for w := range s.watchers {
		w.add(ev.Event)
	}
}

func (s *Store) get(name string) (*coordinationv1.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil {
		return nil, apierrors.NewNotFound(resource, name)
	}
	return s.lease.DeepCopy(), nil
}

func (s *Store) write(lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lease = lease.DeepCopy()
	if lease.ResourceVersion == "" {
		if s.lease != nil {
			return nil, apierrors.NewAlreadyExists(resource, lease.Name)
		}
		lease.UID = s.fresh().UID
		s.commit(watch.Added, lease)
		return lease.DeepCopy(), nil
	}
	switch {
	case s.lease == nil && lease.UID == "":
		return nil, apierrors.NewNotFound(resource, lease.Name)
	case s.lease == nil || lease.UID != "" && lease.UID != s.lease.UID:
		return nil, apierrors.NewConflict(resource, lease.Name, fmt.Errorf("precondition failed: UID %q", lease.UID))
	case lease.ResourceVersion != s.lease.ResourceVersion:
		return nil, apierrors.NewConflict(resource, lease.Name,
			fmt.Errorf("version %s is not %s", lease.ResourceVersion, s.lease.ResourceVersion))
	}
	lease.UID = s.lease.UID
	s.commit(watch.Modified, lease)
	return lease.DeepCopy(), nil
}

// watch returns a watcher of the changes after version, or of the present state
// and all changes if it is empty. An expired version is an error event, as it is
// on the wire.
func (s *Store) remove(uid types.UID, version string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.lease == nil:
		return apierrors.NewNotFound(resource, "lease")
	case uid != s.lease.UID || version != s.lease.ResourceVersion:
		return apierrors.NewConflict(resource, s.lease.Name, fmt.Errorf("precondition failed: UID %q, version %s", uid, version))
	}
	s.commit(watch.Deleted, s.lease.DeepCopy())
	return nil
}

func (s *Store) watch(version string) (*watcher, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := newWatcher()
	if version == "" || version == "0" {
		if s.lease != nil {
			w.add(watch.Event{Type: watch.Added, Object: s.lease.DeepCopy()})
		}
	} else {
		from, err := strconv.ParseUint(version, 10, 64)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if from < s.oldest || from > s.version {
			w.add(watch.Event{Type: watch.Error, Object: ptr.To(
				apierrors.NewResourceExpired(fmt.Sprintf("version %d is not available", from)).Status())})
		}
		for _, ev := range s.events {
			if ev.version > from {
				w.add(ev.Event)
			}
		}
	}
	s.watchers[w] = struct{}{}
	return w, nil
}

func (s *Store) unwatch(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watchers, w)
	w.close()
}
