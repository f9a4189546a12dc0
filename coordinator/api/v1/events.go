package v1

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
)

var errNoEvents = errors.New("the events of older leads are not known yet")

func events() *kind[Event] {
	return &kind[Event]{
		name: "events", one: "event",
		about: "what the scheduling cores of all leads have said, oldest first, as far as it is kept",
		key:   func(x Event) string { return numberKey(x.ID) }, id: func(x Event) string { return strconv.FormatUint(x.ID, 10) },
		walk: func(ctx context.Context, a *API, after string, yield func([]Event) error) error {
			if !a.Events.Ready(ctx) {
				return errNoEvents
			}
			next := uint64(0)
			if n, err := strconv.ParseUint(after, 10, 64); err == nil {
				next = n + 1
			}
			for {
				next = max(next, a.Events.Lowest())
				items := a.eventsFrom(next, pieceItems)
				if len(items) == 0 {
					return nil
				}
				if err := yield(items); err != nil {
					return err
				}
				next = items[len(items)-1].ID + 1
			}
		},
		find: func(ctx context.Context, a *API, id string) (*Event, error) {
			if !a.Events.Ready(ctx) {
				return nil, errNoEvents
			}
			if n, err := strconv.ParseUint(id, 10, 64); err == nil {
				if found := a.eventsFrom(n, 1); len(found) > 0 {
					return &found[0], nil
				}
			}
			return nil, nil
		},
	}
}

// eventsFrom are at most most events from an ID on, none if that is not kept.
func (a *API) eventsFrom(first uint64, most int) []Event {
	records, _, _ := a.Events.After(first, most)
	items := make([]Event, 0, len(records))
	for i, record := range records {
		items = append(items, eventIn(first+uint64(i), record))
	}
	return items
}

func eventIn(id uint64, r *si.EventRecord) Event {
	x := Event{ID: id, At: time.Unix(0, r.TimestampNano).UTC(), Object: r.ObjectID, Reference: r.ReferenceID, Message: r.Message}
	if r.Type != si.EventRecord_UNKNOWN_EVENTRECORD_TYPE {
		x.Kind, x.Change, x.Detail = r.Type.String(), r.EventChangeType.String(), r.EventChangeDetail.String()
	}
	if of := r.GetResource().GetResources(); len(of) > 0 {
		amounts := make(map[string]int64, len(of))
		for name, q := range of {
			amounts[name] = q.GetValue()
		}
		x.Resources = resources(amounts)
	}
	return x
}
