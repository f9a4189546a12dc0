package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/apache/yunikorn-core/pkg/common"
	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/events"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"
)

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

// eventBatch answers with past events, from one on.
func (c *core) eventBatch(w http.ResponseWriter, r *http.Request) {
	system := events.GetEventSystem()
	if !system.IsEventTrackingEnabled() {
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
	c.turns.write(w, r, func() any {
		records, lowest, highest := system.GetEventsFromID(start, min(count, limit))
		return dao.EventRecordDAO{
			InstanceUUID: c.cluster().GetUUID(), LowestID: lowest, HighestID: highest, EventRecords: records,
		}
	})
}

// streamDeadline is how long a client may take for one event.
const streamDeadline = 5 * time.Second

// eventStream answers with events as they come, one a line, until the client goes or takes
// too long. The core gives a stream that falls behind up by itself.
func (c *core) eventStream(w http.ResponseWriter, r *http.Request) {
	system := events.GetEventSystem()
	if !system.IsEventTrackingEnabled() {
		noEvents().write(w)
		return
	}
	control := http.NewResponseController(w)
	if !c.streams.AddHost(r.Host) {
		(&refusal{http.StatusServiceUnavailable, "Too many streaming connections"}).write(w)
		return
	}
	defer c.streams.RemoveHost(r.Host)
	count, bad := queryNumber(r, "count", 0)
	if bad != nil {
		bad.write(w)
		return
	}
	if err := endless(control); err != nil {
		failed(fmt.Sprintf("Cannot set write deadline: %v", err)).write(w)
		return
	}
	stream := system.CreateEventStream(r.Host, count)
	defer system.RemoveStream(stream)

	out := json.NewEncoder(w)
	err := out.Encode(dao.YunikornID{InstanceUUID: c.cluster().GetUUID()})
	for err == nil {
		if err = control.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-c.over:
			return
		case event, ok := <-stream.Events:
			if err = control.SetWriteDeadline(time.Now().Add(streamDeadline)); err != nil {
				return
			}
			if !ok { // the status has been sent already
				_ = out.Encode(dao.NewYAPIError(nil, http.StatusOK, "Event stream was closed by the producer"))
				return
			}
			err = out.Encode(event)
		}
	}
}

// endless lets a request last.
func endless(control *http.ResponseController) error {
	if err := control.SetWriteDeadline(time.Time{}); err != nil {
		return err
	}
	return control.SetReadDeadline(time.Time{})
}
