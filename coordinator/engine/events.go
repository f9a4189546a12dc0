package engine

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/apache/yunikorn-core/pkg/events"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
)

// EventReader reads what the core has said since the engine was engaged, each event once and in
// order. What a held core says is an echo of what it is fed. One goroutine may use it.
type EventReader struct {
	// mark is the event that was put into the core when the engine was engaged, nil once it has
	// been found; it came after from, at that time.
	mark *si.EventRecord
	from uint64
	at   time.Time
	now  func() time.Time
	// next is the core's own number of the event to read next.
	next uint64
}

// markPatience is how long the mark may be on its way through the core, which drops events when
// it has too many. After that, what came after from is taken for new.
const markPatience = 5 * time.Second

// mark has an event that tells what the core has said before from what it says after. The core
// does not wait for it.
func (e *Engine) mark() {
	system := events.GetEventSystem()
	r := &EventReader{mark: &si.EventRecord{TimestampNano: e.cfg.Now().UnixNano()}, from: end(system), at: e.cfg.Now(), now: e.cfg.Now}
	r.next = r.from
	system.AddEvent(r.mark)
	e.spoken = r
}

// Events returns the reader of the core's events, nil before the engine has been engaged. There
// is one: who reads takes the events from others.
func (e *Engine) Events() *EventReader {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.spoken
}

// end is the number that the core will give its next event.
func end(system events.EventSystem) uint64 {
	_, _, highest := system.GetEventsFromID(math.MaxUint64, 1)
	if highest == 0 { // or there is none
		first, _, _ := system.GetEventsFromID(0, 1)
		return uint64(len(first))
	}
	return highest + 1
}

// Read returns the next events, at most most, and how many were dropped before them because
// they were not read in time. Those about our own barriers are left out.
func (r *EventReader) Read(most int) (records []*si.EventRecord, lost uint64) {
	system := events.GetEventSystem()
	if r.mark != nil && !r.find(system) {
		return nil, 0
	}
	records, lost = r.rest(system)
	records = records[:min(most, len(records))]
	r.next += uint64(len(records))
	return slices.DeleteFunc(slices.Clone(records), ofBarrier), lost
}

// ofBarrier reports whether an event is about one of our own barriers: the watchdog sends one a
// second.
func ofBarrier(r *si.EventRecord) bool { return strings.HasPrefix(r.ObjectID, barrierPrefix) }

// rest returns all events from the next on. Of fewer the core would tell the wrong ones, once
// it has as many as it keeps.
func (r *EventReader) rest(system events.EventSystem) (records []*si.EventRecord, lost uint64) {
	records, lowest, _ := system.GetEventsFromID(r.next, math.MaxUint64)
	if records == nil && lowest > r.next {
		lost, r.next = lowest-r.next, lowest
		records, _, _ = system.GetEventsFromID(r.next, math.MaxUint64)
	}
	return records, lost
}

// find goes on to what came after the mark. It reports false while that is on its way.
func (r *EventReader) find(system events.EventSystem) bool {
	records, _ := r.rest(system)
	for i, record := range records {
		if record == r.mark {
			r.next += uint64(i) + 1
			r.mark = nil
			return true
		}
	}
	r.next += uint64(len(records))
	if r.now().Sub(r.at) < markPatience {
		return false
	}
	r.mark, r.next = nil, r.from
	return true
}
