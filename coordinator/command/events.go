package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/apache/yunikorn-core/pkg/webservice/dao"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	"github.com/spf13/cobra"
)

const (
	// eventBatch is how many events are asked for at once.
	eventBatch = 1000
	// eventPause is how often it is looked for new ones.
	eventPause = time.Second
)

func (c command) coreEvents() *cobra.Command {
	cmd := reading("events", "Show what the scheduling core has done with applications, pods, queues and nodes", `Show the events that the scheduling core has kept, oldest first, each with its number.
With --follow go on with those to come, at any replica. Where the numbers begin anew,
or some events are no more, that is said.`)
	flags := addRESTFlags(cmd, "table", "wide", "json")
	var follow bool
	var objects, types []string
	var start uint64
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with events to come, until interrupted")
	cmd.Flags().StringSliceVar(&objects, "object", nil, "show only events of these `IDS`: of applications, pods, queues, nodes or users")
	cmd.Flags().StringSliceVar(&types, "type", nil, "show only these `TYPES`: app, node, queue, request, usergroup")
	cmd.Flags().Uint64Var(&start, "start", 0, "begin with the event of this `NUMBER`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		want, targets, err := flags.read()
		if err != nil {
			return err
		}
		reader := &eventReader{targets: targets, timeout: flags.timeout, next: start, say: func(format string, args ...any) {
			fmt.Fprintf(c.err, "! "+format+"\n", args...)
		}}
		return reader.run(cmd.Context(), follow, func(id uint64, e *si.EventRecord) error {
			if len(objects) > 0 && !slices.Contains(objects, e.ObjectID) && !slices.Contains(objects, e.ReferenceID) ||
				len(types) > 0 && !slices.Contains(types, strings.ToLower(e.Type.String())) {
				return nil
			}
			return printEvent(c.out, id, e, want)
		})
	}
	return cmd
}

// eventReader reads events in the order of their numbers, from whichever replica answers.
type eventReader struct {
	targets []answer
	timeout time.Duration
	say     func(format string, args ...any)
	// next is the number of the event to come, of the numbering of instance.
	next     uint64
	instance string
	silent   bool // nobody has answered last
}

// run calls take with events. It returns once there are no more, or if it follows when ctx ends.
// Who never answers is an error.
func (r *eventReader) run(ctx context.Context, follow bool, take func(uint64, *si.EventRecord) error) error {
	for {
		more, err := r.batch(ctx, take)
		switch {
		case over(ctx): // that is how it ends
			return nil
		case err != nil && (!follow || r.instance == ""):
			return err
		case err != nil:
			if !r.silent {
				r.say("%s; trying again", err)
			}
			r.silent = true
		case more:
			continue
		case !follow:
			return nil
		}
		select {
		case <-time.After(eventPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// batch reads the next events. It reports whether there may be more at once.
func (r *eventReader) batch(ctx context.Context, take func(uint64, *si.EventRecord) error) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	found, err := readAs[dao.EventRecordDAO](ctx, r.targets, fmt.Sprintf("/ws/v1/events/batch?start=%d&count=%d", r.next, eventBatch))
	if err != nil {
		return false, err
	}
	r.silent = false
	switch {
	case r.instance != "" && r.instance != found.InstanceUUID:
		r.say("another lead numbers its events anew, from %d on", found.LowestID)
		r.instance, r.next = found.InstanceUUID, found.LowestID
		return true, nil
	case r.next < found.LowestID:
		if r.next > 0 {
			r.say("the events %d to %d are no more", r.next, found.LowestID-1)
		}
		r.instance, r.next = found.InstanceUUID, found.LowestID
		return true, nil
	}
	r.instance = found.InstanceUUID
	for _, e := range found.EventRecords {
		if err := take(r.next, e); err != nil {
			return false, err
		}
		r.next++
	}
	return len(found.EventRecords) > 0, nil
}

// numbered is an event in JSON.
type numbered struct {
	ID uint64 `json:"id"`
	*si.EventRecord
}

func printEvent(w io.Writer, id uint64, e *si.EventRecord, format string) error {
	if format == "json" {
		return json.NewEncoder(w).Encode(numbered{id, e})
	}
	cells := []string{
		fmt.Sprint(id), time.Unix(0, e.TimestampNano).Local().Format(time.DateTime), strings.ToLower(e.Type.String()), e.ObjectID,
		strings.ToLower(e.EventChangeType.String()), e.EventChangeDetail.String(),
	}
	if format == "wide" {
		cells = append(cells, e.ReferenceID)
	}
	_, err := fmt.Fprintln(w, strings.TrimSpace(strings.Join(cells, "  ")+"  "+e.Message))
	return err
}
