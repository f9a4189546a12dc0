package v1

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/julienschmidt/httprouter"

	"github.com/understudy-ha/understudy/coordinator/changes"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// kind is what there is to read of one type of items.
type kind[T any] struct {
	// name is that of the list, one that of an item.
	name, one string
	about     string
	// key is that by which a list is in order, id that by which an item is found.
	key, id func(T) string
	// walk calls yield with the items after a key, in order, until it returns an error.
	walk func(ctx context.Context, a *API, after string, yield func([]T) error) error
	// find returns an item, nil if there is none; without it a list is searched.
	find func(ctx context.Context, a *API, id string) (*T, error)
	// local and stale are those of Endpoint.
	local, stale bool
	// followed is set if there can be a watch.
	followed followed[T]
	// named is the field that has the id, empty for id.
	named string
}

// followed says which items change.
type followed[T any] interface {
	// join begins a watch. An error says why there can be none now.
	join(ctx context.Context, a *API) (following[T], error)
	// look has the log know what has changed, and says how long to wait until it has to be done
	// again, zero for never.
	look(ctx context.Context, a *API) (time.Duration, error)
	// found returns the items that keys of the log are about.
	found(ctx context.Context, a *API, keys []ledger.Key) ([]current[T], error)
}

// following is what a watch follows.
type following[T any] struct {
	// log has the keys of what changes.
	log *changes.Log
	// walk has all items, at least as new as the log: as the kind's.
	walk func(ctx context.Context, a *API, after string, yield func([]T) error) error
	// leave ends the watch.
	leave func()
}

// current is an item as it is, or that there is none any more.
type current[T any] struct {
	item T
	here bool
	gone Gone
}

// resource is a kind of any type.
type resource interface {
	endpoints(*API) []Endpoint
	describe(*document)
}

// kinds are all.
func kinds() []resource {
	return []resource{applications(), tasks(), queues(), nodes(), users(), events(), terms(), failovers()}
}

var (
	// errEnough ends a walk.
	errEnough = errors.New("enough")
	// errNoView says that there is nothing to read.
	errNoView = errors.New("this replica has no view of its own at the moment")
	errNoCore = errors.New("only the lead can answer")
)

func (k *kind[T]) fields() []field { return fieldsOf(reflect.TypeFor[T]()) }

func (k *kind[T]) endpoints(a *API) []Endpoint {
	fields := k.fields()
	lists := ofLists
	if k.followed != nil {
		lists = append(lists[:len(lists):len(lists)], paramWatch)
	}
	list := func(w http.ResponseWriter, r *http.Request) {
		watch := k.followed != nil && Watches(r)
		more := lists
		if watch {
			more = ofWatches
		}
		q, bad := parse(r, fields, more, true)
		switch {
		case bad != nil:
			bad.Write(w)
		case watch:
			q.named = cmp.Or(k.named, q.named)
			k.watch(a, w, r, q)
		default:
			k.list(a, w, r, q)
		}
	}
	item := func(w http.ResponseWriter, r *http.Request) {
		q, bad := parse(r, fields, ofItems, false)
		if bad != nil {
			bad.Write(w)
			return
		}
		k.item(a, w, r, q, httprouter.ParamsFromContext(r.Context()).ByName("id"))
	}
	return []Endpoint{
		{Pattern: Prefix + k.name, Handle: list, Local: k.local, Stale: k.stale, Watch: k.followed != nil, List: true},
		{Pattern: Prefix + k.name + "/:id", Handle: item, Local: k.local, Stale: k.stale},
	}
}

// listBuffer is how much of a list is made before it is written, in bytes.
const listBuffer = 32 << 10

// list answers with a list, of which one piece at a time is made, in turn, and written.
func (k *kind[T]) list(a *API, w http.ResponseWriter, r *http.Request, q *query) {
	at := a.mark() // before the list, which has all of it
	a.sign(w, at)
	out := bufio.NewWriterSize(w, listBuffer)
	begun, n, last, token := false, 0, "", ""
	begin := func() {
		if !begun {
			begun = true
			_, _ = out.WriteString(`{"items":[`)
		}
	}
	err := k.walk(r.Context(), a, q.after, func(items []T) error {
		var body []byte
		var failed error
		if !a.Turn(r.Context(), func() {
			for _, item := range items {
				if q.judge(item) != matches {
					continue
				}
				if q.limit > 0 && n == q.limit {
					token, failed = continued(last), errEnough
					return
				}
				var one []byte
				if one, failed = encode(item, q.fields); failed != nil {
					return
				}
				if n > 0 {
					body = append(body, ',')
				}
				body = append(body, one...)
				n, last = n+1, k.key(item)
			}
		}) {
			return r.Context().Err()
		}
		begin()
		if _, err := out.Write(body); err != nil {
			return err
		}
		return failed
	})
	switch {
	case err == nil || errors.Is(err, errEnough):
	case begun:
		panic(http.ErrAbortHandler) // half of a list must not pass for all of it
	default:
		Unavailable(err.Error()).Write(w)
		return
	}
	begin()
	_, _ = out.WriteString("]")
	if token != "" {
		_, _ = out.WriteString(`,"continue":"` + token + `"`)
	}
	_, _ = out.WriteString(`,"revision":` + strconv.FormatInt(at.Revision, 10) + `,"epoch":` + strconv.FormatUint(at.Epoch, 10) + "}\n")
	_ = out.Flush() // the client has gone: nobody to tell
}

// item answers with one.
func (k *kind[T]) item(a *API, w http.ResponseWriter, r *http.Request, q *query, id string) {
	at := a.mark()
	found, err := k.lookUp(r.Context(), a, id)
	switch {
	case err != nil:
		Unavailable(err.Error()).Write(w)
		return
	case found == nil:
		NotFound("there is no %s %q", k.one, id).Write(w)
		return
	}
	var body []byte
	if !a.Turn(r.Context(), func() { body, err = encode(*found, q.fields) }) {
		return // the client has gone
	}
	if err != nil {
		(&Error{http.StatusInternalServerError, "Failed", err.Error()}).Write(w)
		return
	}
	a.sign(w, at)
	_, _ = w.Write(append(body, '\n'))
}

func (k *kind[T]) lookUp(ctx context.Context, a *API, id string) (*T, error) {
	if k.find != nil {
		return k.find(ctx, a, id)
	}
	var found *T
	err := k.walk(ctx, a, "", func(items []T) error {
		for i := range items {
			if k.id(items[i]) == id {
				found = &items[i]
				return errEnough
			}
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return found, err
}

// jsonOf is for what cannot fail to be JSON.
func jsonOf(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return body
}
