package history

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// LeaseEvent is the state of the Lease after its holder or its count of
// transitions changed, or after it was created or deleted. Renewals are not
// events.
type LeaseEvent struct {
	At       time.Time
	Revision uint64
	Kind     Kind
	// Holder is empty while nobody holds it.
	Holder      string
	Transitions int32
}

// Lease is the history of one Lease since it was started.
type Lease struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	events []LeaseEvent
	gaps   []Gap
	based  bool
}

// WatchLease reads the Lease, which need not exist yet, and returns once it
// follows its changes. It stops when ctx ends or with Close.
func WatchLease(ctx context.Context, kube kubernetes.Interface, namespace, name string, log *slog.Logger) (*Lease, error) {
	l := &Lease{}
	leases := kube.CoordinationV1().Leases(namespace)
	only := fields.OneTermEqualSelector("metadata.name", name).String()
	f := &follower[*coordinationv1.Lease]{
		what: "lease",
		list: func(ctx context.Context, o metav1.ListOptions) ([]*coordinationv1.Lease, string, error) {
			o.FieldSelector = only
			list, err := leases.List(ctx, o)
			if err != nil {
				return nil, "", err
			}
			var out []*coordinationv1.Lease
			for i := range list.Items {
				out = append(out, &list.Items[i])
			}
			return out, list.ResourceVersion, nil
		},
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			return leases.Watch(ctx, o)
		},
		log:    log,
		listed: l.listed,
		event: func(kind watch.EventType, obj *coordinationv1.Lease, rev uint64) {
			if kind == watch.Deleted {
				obj = nil
			}
			l.observe(obj, rev)
		},
		gap: func(after, until uint64, reason string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.gaps = append(l.gaps, Gap{At: time.Now(), What: "lease", After: after, Until: until, Reason: reason})
		},
		pause: 50 * time.Millisecond,
	}
	rev, err := f.start(ctx)
	if err != nil {
		return nil, fmt.Errorf("lease %s/%s: %w", namespace, name, err)
	}
	l.mu.Lock()
	l.based = true
	l.mu.Unlock()
	ctx, l.cancel = context.WithCancel(ctx)
	l.wg.Go(func() { f.run(ctx, rev) })
	return l, nil
}

// Close stops the recording; what was recorded stays readable.
func (l *Lease) Close() {
	l.cancel()
	l.wg.Wait()
}

// Events returns the events so far.
func (l *Lease) Events() []LeaseEvent {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events[:len(l.events):len(l.events)]
}

// Gaps returns the ranges of revisions that could not be observed.
func (l *Lease) Gaps() []Gap {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gaps[:len(l.gaps):len(l.gaps)]
}

func (l *Lease) listed(leases []*coordinationv1.Lease, rev uint64) {
	if len(leases) == 0 {
		l.observe(nil, rev)
		return
	}
	l.observe(leases[0], rev)
}

// observe notes the state of the Lease, nil if there is none.
func (l *Lease) observe(lease *coordinationv1.Lease, rev uint64) {
	ev := LeaseEvent{At: time.Now(), Revision: rev, Kind: Gone}
	l.mu.Lock()
	defer l.mu.Unlock()
	if lease != nil {
		ev.Kind = Changed
		if h := lease.Spec.HolderIdentity; h != nil {
			ev.Holder = *h
		}
		if t := lease.Spec.LeaseTransitions; t != nil {
			ev.Transitions = *t
		}
	}
	last := LeaseEvent{Kind: Gone}
	if n := len(l.events); n > 0 {
		last = l.events[n-1]
	}
	was, is := last.Kind != Gone, ev.Kind != Gone
	if was == is && last.Holder == ev.Holder && last.Transitions == ev.Transitions {
		return
	}
	switch {
	case !l.based:
		ev.Kind = Base
	case is && !was:
		ev.Kind = Added
	}
	l.events = append(l.events, ev)
}
