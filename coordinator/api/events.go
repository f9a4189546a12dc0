package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/apache/yunikorn-core/pkg/common"
	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/events"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"

	"github.com/understudy-ha/understudy/replica/chronicle"
)

// HeaderEvent is set on a stream of events: the ID of the first event that follows. Each
// further one has the next ID, whoever leads.
const HeaderEvent = "X-Understudy-Event"

// noEvents says that the core does not keep events.
func noEvents() *refusal { return failed("Event tracking is disabled") }

// maxEvents bounds an answer with events, by the core's configuration.
func maxEvents() uint64 {
	limit := common.GetConfigurationUint(configs.GetConfigMap(), configs.CMRESTResponseSize, configs.DefaultRESTResponseSize)
	if limit == 0 {
		return configs.DefaultRESTResponseSize
	}
	return limit
}

// queryNumber reads a number of the query, and returns otherwise if there is none.
func queryNumber(r *http.Request, name string, otherwise uint64) (uint64, *refusal) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, badRequest(err.Error())
	}
	return n, nil
}

// recalled waits for a new lead to know what older ones have written, and refuses the request
// otherwise.
func (c *core) recalled(w http.ResponseWriter, r *http.Request) bool {
	if c.chronicle.Ready(r.Context()) {
		return true
	}
	w.Header().Set("Retry-After", retryAfter)
	(&refusal{http.StatusServiceUnavailable, "The events of older leads are not known yet"}).write(w)
	return false
}

// eventBatch answers with past events, from one on.
func (c *core) eventBatch(w http.ResponseWriter, r *http.Request) {
	if !events.GetEventSystem().IsEventTrackingEnabled() {
		noEvents().write(w)
		return
	}
	limit := maxEvents()
	count, err := queryNumber(r, "count", limit)
	if err == nil && count == 0 {
		err = badRequest(`0 is not a valid value for "count"`)
	}
	var start uint64
	if err == nil {
		start, err = queryNumber(r, "start", 0)
	}
	if err != nil {
		err.write(w)
		return
	}
	if !c.recalled(w, r) {
		return
	}
	c.turns.write(w, r, func() any {
		b := c.chronicle.Batch(start, min(count, limit))
		return dao.EventRecordDAO{InstanceUUID: b.ID, LowestID: b.Lowest, HighestID: b.Highest, EventRecords: b.Events}
	})
}

const (
	// streamDeadline is how long a client may take for one event.
	streamDeadline = 5 * time.Second
	// streamPart is how many events a stream holds at a time.
	streamPart = 64
)

// eventStream answers with events as they come, one a line, until the client goes, takes too
// long, or falls behind what is kept. Beside the core's parameter it has start, the ID of the
// event to begin with: who counts lines can go on where another stream has ended.
func (c *core) eventStream(w http.ResponseWriter, r *http.Request) {
	if !events.GetEventSystem().IsEventTrackingEnabled() {
		noEvents().write(w)
		return
	}
	if !c.streams.AddHost(r.Host) {
		(&refusal{http.StatusServiceUnavailable, "Too many streaming connections"}).write(w)
		return
	}
	defer c.streams.RemoveHost(r.Host)
	defer c.open.add(r.Host)()
	count, bad := queryNumber(r, "count", 0)
	var start uint64
	if bad == nil {
		start, bad = queryNumber(r, "start", 0)
	}
	if bad != nil {
		bad.write(w)
		return
	}
	if !c.recalled(w, r) {
		return
	}
	next, id := c.chronicle.Newest(count)
	if r.URL.Query().Has("start") {
		if end, _ := c.chronicle.Newest(0); start > end {
			badRequest(fmt.Sprintf("event %d has not been, the next is %d", start, end)).write(w)
			return
		}
		next = max(start, c.chronicle.Lowest())
	}
	control := http.NewResponseController(w)
	if err := endless(control); err != nil {
		failed(fmt.Sprintf("Cannot set write deadline: %v", err)).write(w)
		return
	}
	w.Header().Set(HeaderEvent, strconv.FormatUint(next, 10))
	s := stream{chronicle: c.chronicle, next: next, out: json.NewEncoder(w), control: control}
	if s.write(dao.YunikornID{InstanceUUID: id}) != nil {
		return
	}
	for {
		more, full, err := s.part()
		if err != nil {
			return
		}
		if full && r.Context().Err() == nil {
			continue
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		case <-c.over:
			return
		}
	}
}

// stream is a client that is told of events. It has the ID of the next one and no queue.
type stream struct {
	chronicle *chronicle.Log
	next      uint64
	out       *json.Encoder
	control   *http.ResponseController
}

func (s *stream) write(line any) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(streamDeadline)); err != nil {
		return err
	}
	return s.out.Encode(line)
}

// part writes the events that come next, and returns what tells of later ones, and whether
// there may be more already. An error ends the stream.
func (s *stream) part() (more <-chan struct{}, full bool, err error) {
	records, more, ok := s.chronicle.After(s.next, streamPart)
	if !ok { // the status has been sent already
		_ = s.write(dao.NewYAPIError(nil, http.StatusOK, "Event stream was closed by the producer"))
		return nil, false, http.ErrAbortHandler
	}
	for _, record := range records {
		if err := s.write(record); err != nil {
			return nil, false, err
		}
	}
	s.next += uint64(len(records))
	return more, len(records) == streamPart, s.control.Flush()
}

// endless lets a request last.
func endless(control *http.ResponseController) error {
	if err := control.SetWriteDeadline(time.Time{}); err != nil {
		return err
	}
	return control.SetReadDeadline(time.Time{})
}

// openStreams are the streams that are open now.
type openStreams struct {
	mu  sync.Mutex
	all map[*events.EventStreamData]struct{}
}

// add takes note of a stream, and returns what does so of its end.
func (o *openStreams) add(host string) (gone func()) {
	s := &events.EventStreamData{Name: host, CreatedAt: time.Now()}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all == nil {
		o.all = make(map[*events.EventStreamData]struct{})
	}
	o.all[s] = struct{}{}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.all, s)
	}
}

// list returns them, the oldest first, nil for none.
func (o *openStreams) list() (list []events.EventStreamData) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range slices.SortedFunc(maps.Keys(o.all), func(a, b *events.EventStreamData) int { return a.CreatedAt.Compare(b.CreatedAt) }) {
		list = append(list, *s)
	}
	return list
}
