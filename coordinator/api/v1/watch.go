package v1

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/understudy-ha/understudy/coordinator/changes"
	"github.com/understudy-ha/understudy/replica/ledger"
)

const eventStream = "text/event-stream"

const (
	// maxWatches is how many watches a replica serves.
	maxWatches = 256
	// watchPiece is how many changes are told at once.
	watchPiece = 256
	// pace is how long a watch waits for more changes to come along with one.
	pace = 200 * time.Millisecond
	// markEvery is how often a watch of which nothing changes says how far it is.
	markEvery = 15 * time.Second
	// watchDeadline is how long a client may take for a piece.
	watchDeadline = 5 * time.Second
)

// The events of a watch.
const (
	// EventPut has an item that is new or has changed.
	EventPut = "put"
	// EventDelete names an item that is no more, or that the filters leave out now.
	EventDelete = "delete"
	// EventResync says that changes were missed: everything begins anew, with all items.
	EventResync = "resync"
	// EventMark says up to where a watch is: after all items at the beginning, and now and then.
	EventMark = "mark"
)

// watching is one watch.
type watching[T any] struct {
	kind  *kind[T]
	api   *API
	query *query
	following[T]
	w http.ResponseWriter
	// control sets deadlines, and flushes.
	control *http.ResponseController
	at      changes.Position
	told    int64 // the newest id
}

// watch answers with changes until the client goes, or takes too long, or this replica is not the
// one to ask any more.
func (k *kind[T]) watch(a *API, w http.ResponseWriter, r *http.Request, q *query) {
	select {
	case a.watches <- struct{}{}:
		defer func() { <-a.watches }()
	default:
		Unavailable("this replica serves " + strconv.Itoa(maxWatches) + " watches already").Write(w)
		return
	}
	followed, err := k.followed.join(r.Context(), a)
	if err != nil {
		Unavailable(err.Error()).Write(w)
		return
	}
	defer followed.leave()
	s := &watching[T]{kind: k, api: a, query: q, following: followed, w: w, control: http.NewResponseController(w)}
	_ = s.control.SetReadDeadline(time.Time{}) // a server that has none need not be told
	h := w.Header()
	h.Set("Content-Type", eventStream)
	h.Set("Cache-Control", "no-cache")
	ctx, cancel := context.WithCancel(r.Context())
	ended := make(chan struct{})
	defer func() { cancel(); <-ended }()
	go func() {
		defer close(ended)
		select {
		case <-a.Over:
			cancel()
		case <-ctx.Done():
		}
	}()
	_ = s.follow(ctx) // that the client has gone is nobody's concern
}

// follow tells of changes until ctx or something else ends.
func (s *watching[T]) follow(ctx context.Context) error {
	known := false
	if s.query.from != nil {
		if s.at, known = s.log.From(*s.query.from); !known {
			if err := s.send(event(EventResync, struct{}{})); err != nil {
				return err
			}
		}
		s.told = s.at.Revision
	}
	if !known {
		if err := s.begin(ctx); err != nil {
			return err
		}
	}
	timer := time.NewTimer(markEvery)
	defer timer.Stop()
	for s.answers() {
		again, err := s.kind.followed.look(ctx, s.api)
		if err != nil {
			return err
		}
		more := s.log.Changed()
		told, err := s.next(ctx)
		switch {
		case err != nil:
			return err
		case told:
			timer.Reset(markEvery)
			continue
		}
		select {
		case <-more:
			if !sleep(ctx, pace) {
				return ctx.Err()
			}
		case <-after(again):
		case <-timer.C:
			if err := s.mark(); err != nil {
				return err
			}
			timer.Reset(markEvery)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// after is time.After, or never if d is zero.
func after(d time.Duration) <-chan time.Time {
	if d == 0 {
		return nil
	}
	return time.After(d)
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// answers reports whether this replica is still the one to ask.
func (s *watching[T]) answers() bool {
	leads, _ := s.api.Standing()
	return leads || s.query.stale
}

// begin tells of everything that there is.
func (s *watching[T]) begin(ctx context.Context) error {
	s.at = s.log.Newest() // before the items, which have all of it
	s.told = 0
	err := s.walk(ctx, s.api, "", func(items []T) error {
		var body []byte
		var failed error
		if !s.api.Turn(ctx, func() {
			for _, item := range items {
				if s.query.judge(item) == matches && failed == nil {
					failed = s.put(&body, item)
				}
			}
		}) {
			return ctx.Err()
		}
		if failed != nil {
			return failed
		}
		return s.send(body)
	})
	if err != nil {
		return err
	}
	return s.mark()
}

// next tells of the changes that have come, some at a time. It reports false if there are none.
func (s *watching[T]) next(ctx context.Context) (bool, error) {
	keys, to, ok := s.log.After(s.at, watchPiece)
	if !ok {
		if err := s.send(event(EventResync, struct{}{})); err != nil {
			return false, err
		}
		return true, s.begin(ctx)
	}
	if len(keys) == 0 {
		s.at = to
		return false, nil
	}
	body, err := s.changed(ctx, keys)
	if err != nil {
		return false, err
	}
	s.at = to
	if len(body) > 0 && to.Revision > s.told {
		// With the last event alone: who has come to it has all of its revision.
		s.told = to.Revision
		body = append(bytes.TrimSuffix(body, []byte("\n")), "id: "+strconv.FormatInt(to.Revision, 10)+"\n\n"...)
	}
	return true, s.send(body)
}

// changed are the events of some changes.
func (s *watching[T]) changed(ctx context.Context, keys []ledger.Key) (body []byte, err error) {
	all, err := s.kind.followed.found(ctx, s.api, keys)
	if err != nil {
		return nil, err
	}
	if !s.api.Turn(ctx, func() {
		for _, x := range all {
			said := s.query.judge(x.gone)
			if x.here {
				said = s.query.judge(x.item)
			}
			switch {
			case err != nil:
			case x.here && said == matches:
				err = s.put(&body, x.item)
			case said != other:
				body = append(body, event(EventDelete, x.gone)...)
			}
		}
	}) {
		return nil, ctx.Err()
	}
	return body, err
}

func (s *watching[T]) put(to *[]byte, item T) error {
	one, err := encode(item, s.query.fields)
	if err == nil {
		*to = append(*to, raw(EventPut, one)...)
	}
	return err
}

// mark says how far the watch is.
func (s *watching[T]) mark() error {
	s.told = max(s.told, s.at.Revision)
	_, epoch := s.api.Standing()
	body := event(EventMark, Mark{s.told, epoch})
	return s.send(append(bytes.TrimSuffix(body, []byte("\n")), "id: "+strconv.FormatInt(s.told, 10)+"\n\n"...))
}

// event writes an event of the protocol. It has no id yet.
func event(name string, data any) []byte { return raw(name, jsonOf(data)) }

func raw(name string, data []byte) []byte {
	return append(append([]byte("event: "+name+"\ndata: "), data...), "\n\n"...)
}

// send writes whole events.
func (s *watching[T]) send(body []byte) error {
	if len(body) == 0 {
		return nil
	}
	// A server without deadlines has no clients that it waits for.
	_ = s.control.SetWriteDeadline(time.Now().Add(watchDeadline))
	if _, err := s.w.Write(body); err != nil {
		return err
	}
	return s.control.Flush()
}
