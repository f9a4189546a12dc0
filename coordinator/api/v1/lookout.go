package v1

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/coordinator/changes"
	"github.com/understudy-ha/understudy/replica/ledger"
)

const (
	// lookEvery is how often a lookout looks, at most; and of its time it spends looking at most
	// one part in lookShare.
	lookEvery = time.Second
	lookShare = 10
	// lookMemory is for how long a lookout remembers what it has seen when nobody watches any more,
	// so that a client that comes back goes on.
	lookMemory = time.Minute
	// lookEpoch is how many numbers there are in an epoch: one for each look that finds something.
	lookEpoch = 1 << 32
)

// lookout sees what changes of a list that no record tells of, one for all who watch it: it looks
// at all items now and then, and notes which are not as they were. It does so while somebody
// watches, on the goroutines of those who do, and costs nothing else but what it remembers for a
// while.
//
// What it notes has numbers of its own, which no other lead gives: those of a higher epoch are
// higher. So it knows whether it has seen all since a client was told.
type lookout[T any] struct {
	kind *kind[T]
	// turn is held by whoever uses what follows.
	turn    chan struct{}
	watches int
	log     *changes.Log
	items   map[string]T // as they were last seen; nil if nobody has looked
	due     time.Time    // when to look again
	left    time.Time    // when somebody last went
	newest  int64        // the last number
}

// lookingAt has changes of a kind looked for.
func lookingAt[T any](k *kind[T]) *kind[T] {
	k.followed = &lookout[T]{kind: k, turn: make(chan struct{}, 1), log: changes.New(changes.Limit)}
	return k
}

func (o *lookout[T]) take(ctx context.Context) error {
	select {
	case o.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (o *lookout[T]) give() { <-o.turn }

func (o *lookout[T]) join(ctx context.Context, a *API) (following[T], error) {
	if err := o.take(ctx); err != nil {
		return following[T]{}, err
	}
	o.watches++
	o.give()
	if _, err := o.look(ctx, a); err != nil {
		o.leave()
		return following[T]{}, err
	}
	return following[T]{o.log, o.walk, o.leave}, nil
}

// walk has the items as they were last seen. As they are by now they must not be told: they could be
// as before when they are looked at next, and nobody would be told of that.
func (o *lookout[T]) walk(ctx context.Context, _ *API, after string, yield func([]T) error) error {
	if err := o.take(ctx); err != nil {
		return err
	}
	all := make([]T, 0, len(o.items))
	for _, key := range slices.Sorted(maps.Keys(o.items)) {
		if key > after {
			all = append(all, o.items[key])
		}
	}
	o.give()
	for piece := range slices.Chunk(all, pieceItems) {
		if err := yield(piece); err != nil {
			return err
		}
	}
	return nil
}

func (o *lookout[T]) leave() {
	o.turn <- struct{}{}
	defer o.give()
	o.left = time.Now()
	if o.watches--; o.watches == 0 {
		time.AfterFunc(lookMemory, o.forget)
	}
}

// forget lets go of what was seen if nobody has watched for a while.
func (o *lookout[T]) forget() {
	o.turn <- struct{}{}
	defer o.give()
	if o.watches == 0 && time.Since(o.left) >= lookMemory {
		o.items = nil
		o.log.Begin(o.newest)
	}
}

func (o *lookout[T]) look(ctx context.Context, a *API) (time.Duration, error) {
	if err := o.take(ctx); err != nil {
		return 0, err
	}
	defer o.give()
	if left := time.Until(o.due); left > 0 {
		return left, nil
	}
	begun := time.Now()
	seen := make(map[string]T, len(o.items))
	var changed []ledger.Change
	note := func(key string) { changed = append(changed, ledger.Change{Key: ledger.Key{AppID: key}}) }
	err := o.kind.walk(ctx, a, "", func(items []T) error {
		if !a.Turn(ctx, func() {
			for _, item := range items {
				key := o.kind.key(item)
				if was, known := o.items[key]; !known || !reflect.DeepEqual(was, item) {
					note(key)
				}
				seen[key] = item
			}
		}) {
			return ctx.Err()
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for key := range o.items {
		if _, here := seen[key]; !here {
			note(key)
		}
	}
	_, epoch := a.Standing()
	next := max(o.newest+1, int64(epoch)*lookEpoch)
	switch {
	case o.items == nil:
		o.newest = next
		o.log.Begin(next)
	case len(changed) > 0:
		o.newest = next
		o.log.Note(changed, next, true)
	}
	o.items = seen
	pause := max(lookEvery, (lookShare-1)*time.Since(begun))
	o.due = time.Now().Add(pause)
	return pause, nil
}

func (o *lookout[T]) found(ctx context.Context, _ *API, keys []ledger.Key) ([]current[T], error) {
	if err := o.take(ctx); err != nil {
		return nil, err
	}
	defer o.give()
	all := make([]current[T], 0, len(keys))
	for _, key := range keys {
		item, here := o.items[key.AppID]
		all = append(all, current[T]{item, here, Gone{ID: key.AppID}})
	}
	return all, nil
}
