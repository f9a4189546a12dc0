package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// follower lists one kind of object and then follows its changes without a gap
// for as long as the server can give them. Its functions are called from one
// goroutine.
type follower[T metav1.Object] struct {
	what  string
	list  func(context.Context, metav1.ListOptions) ([]T, string, error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
	log   *slog.Logger

	// listed receives the whole state: at first, and again after a gap.
	listed func(objs []T, revision uint64)
	event  func(kind watch.EventType, obj T, revision uint64)
	gap    func(after, until uint64, reason string)
	// missed, if not nil, returns the changes after a revision that the server
	// cannot give any more, and up to which revision that is all.
	missed func(ctx context.Context, after uint64) ([]change[T], uint64, error)

	// pause is the delay after a failed request.
	pause time.Duration
}

// start takes the first listing; run follows it.
func (f *follower[T]) start(ctx context.Context) (uint64, error) {
	objs, rev, err := f.list(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, fmt.Errorf("list %s: %w", f.what, err)
	}
	n, err := revision(rev)
	if err != nil {
		return 0, fmt.Errorf("list %s: %w", f.what, err)
	}
	f.listed(objs, n)
	return n, nil
}

// run follows changes after rev until ctx ends.
func (f *follower[T]) run(ctx context.Context, rev uint64) {
	for ctx.Err() == nil {
		next, err := f.once(ctx, rev)
		rev = next
		switch {
		case ctx.Err() != nil:
			return
		case apierrors.IsResourceExpired(err) || apierrors.IsGone(err):
			next, rerr := f.resume(ctx, rev, err)
			if rev = next; rerr != nil {
				f.log.Debug("cannot resume yet", "what", f.what, "revision", rev, "err", rerr)
				f.wait(ctx)
			}
		case err != nil:
			f.log.Debug("watch broke; resuming", "what", f.what, "revision", rev, "err", err)
			f.wait(ctx)
		}
	}
}

// resume gets past the changes after rev that the server does not have any more:
// it reads them elsewhere, or else lists anew and notes the gap. It returns the
// revision to follow from.
func (f *follower[T]) resume(ctx context.Context, rev uint64, expired error) (uint64, error) {
	if f.missed != nil {
		changes, until, err := f.missed(ctx, rev)
		if err == nil {
			for _, c := range changes {
				f.event(c.kind, c.obj, c.revision)
			}
			return until, nil
		}
		if !errors.Is(err, errForgotten) {
			return rev, err
		}
		expired = errors.Join(expired, err)
	}
	n, err := f.start(ctx)
	if err != nil {
		return rev, err
	}
	f.gap(rev, n, expired.Error())
	return n, nil
}

// once watches from rev and returns the last revision that it has seen.
func (f *follower[T]) once(ctx context.Context, rev uint64) (uint64, error) {
	w, err := f.watch(ctx, metav1.ListOptions{
		ResourceVersion:     strconv.FormatUint(rev, 10),
		AllowWatchBookmarks: true,
	})
	if err != nil {
		return rev, err
	}
	defer w.Stop()
	for {
		var ev watch.Event
		var ok bool
		select {
		case <-ctx.Done():
			return rev, ctx.Err()
		case ev, ok = <-w.ResultChan():
		}
		if !ok {
			return rev, nil
		}
		if ev.Type == watch.Error {
			return rev, apierrors.FromObject(ev.Object)
		}
		obj, ok := ev.Object.(T)
		if !ok {
			return rev, fmt.Errorf("watch %s: unexpected %T", f.what, ev.Object)
		}
		n, err := revision(obj.GetResourceVersion())
		if err != nil {
			return rev, err
		}
		rev = n
		if ev.Type != watch.Bookmark {
			f.event(ev.Type, obj, n)
		}
	}
}

func (f *follower[T]) wait(ctx context.Context) {
	t := time.NewTimer(f.pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

var errRevision = errors.New("resource version is not a number")

func revision(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %q", errRevision, s)
	}
	return n, nil
}
