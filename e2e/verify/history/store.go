package history

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
)

// Where the API server keeps what a Cluster follows.
const (
	storedPods  = "/registry/pods/"
	storedNodes = "/registry/minions/"
)

// Store is the etcd of an API server. It still holds the changes that the API
// server, once started anew, cannot tell of any more.
type Store struct{ cli *clientv3.Client }

// NewStore reads through cli, which stays the caller's.
func NewStore(cli *clientv3.Client) *Store { return &Store{cli} }

// errForgotten says that not even etcd has all changes.
var errForgotten = errors.New("etcd does not hold all changes any more")

// change is an event as a watch would have delivered it.
type change[T metav1.Object] struct {
	kind     watch.EventType
	obj      T
	revision uint64
}

// missedBy is what a follower asks for the changes below prefix, nil without a
// store.
func missedBy[T metav1.Object](s *Store, prefix string) func(context.Context, uint64) ([]change[T], uint64, error) {
	if s == nil {
		return nil
	}
	return func(ctx context.Context, after uint64) ([]change[T], uint64, error) {
		return missed[T](ctx, s, prefix, after)
	}
}

// missed returns what happened below prefix after a revision, in order, and the
// revision up to which that is all. The error is errForgotten if etcd has
// compacted some of it.
func missed[T metav1.Object](ctx context.Context, s *Store, prefix string, after uint64) ([]change[T], uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	now, err := s.cli.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return nil, after, fmt.Errorf("revision of %s: %w", prefix, err)
	}
	until := uint64(now.Header.Revision)
	events, err := s.events(ctx, prefix, after, until)
	if err != nil {
		return nil, after, err
	}
	changes := make([]change[T], 0, len(events))
	for _, ev := range events {
		c, err := decode[T](ev)
		if err != nil {
			return nil, after, fmt.Errorf("%s at revision %d: %w", ev.Kv.Key, ev.Kv.ModRevision, err)
		}
		changes = append(changes, c)
	}
	return changes, until, nil
}

const (
	// storeTimeout bounds one reading of what was missed.
	storeTimeout = 30 * time.Second
	// storePoll is how often etcd is asked whether it has told all.
	storePoll = 20 * time.Millisecond
)

// events returns those of (after, until].
func (s *Store) events(ctx context.Context, prefix string, after, until uint64) ([]*clientv3.Event, error) {
	if after >= until {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx)) // also ends the watch
	defer cancel()
	told := s.cli.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithRev(int64(after)+1))
	tick := time.NewTicker(storePoll)
	defer tick.Stop()
	var events []*clientv3.Event
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("changes of %s: %w", prefix, ctx.Err())
		case <-tick.C:
			// The answer comes on the watch, after all events before it.
			if err := s.cli.RequestProgress(ctx); err != nil {
				return nil, fmt.Errorf("changes of %s: %w", prefix, err)
			}
		case resp, ok := <-told:
			if err := resp.Err(); errors.Is(err, rpctypes.ErrCompacted) {
				return nil, fmt.Errorf("%w: %s after revision %d", errForgotten, prefix, after)
			} else if err != nil || !ok {
				return nil, fmt.Errorf("changes of %s: the watch ended: %w", prefix, err)
			}
			for _, ev := range resp.Events {
				if uint64(ev.Kv.ModRevision) > until {
					return events, nil
				}
				events = append(events, ev)
			}
			if resp.IsProgressNotify() && uint64(resp.Header.Revision) >= until {
				return events, nil
			}
		}
	}
}

// decode makes of a write what the API server would have told: a deleted object as
// it was, with the revision of the deletion.
func decode[T metav1.Object](ev *clientv3.Event) (change[T], error) {
	c := change[T]{kind: watch.Modified, revision: uint64(ev.Kv.ModRevision)}
	value := ev.Kv.Value
	switch {
	case ev.Type == clientv3.EventTypeDelete && ev.PrevKv == nil:
		return c, fmt.Errorf("%w: what was deleted", errForgotten)
	case ev.Type == clientv3.EventTypeDelete:
		c.kind, value = watch.Deleted, ev.PrevKv.Value
	case ev.IsCreate():
		c.kind = watch.Added
	}
	obj, err := runtime.Decode(scheme.Codecs.UniversalDeserializer(), value)
	if err != nil {
		return c, err
	}
	var ok bool
	if c.obj, ok = obj.(T); !ok {
		return c, fmt.Errorf("unexpected %T", obj)
	}
	c.obj.SetResourceVersion(strconv.FormatUint(c.revision, 10))
	return c, nil
}
