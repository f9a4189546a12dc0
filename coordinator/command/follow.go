package command

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
)

const (
	// silence is how long a watch may say nothing before another replica is asked: several of
	// the marks that it gives when nothing happens.
	silence = 40 * time.Second
	// againAfter is the pause before all replicas are asked once more.
	againAfter = time.Second
	// longestEvent bounds one line of a watch, in bytes.
	longestEvent = 16 << 20
)

// sse is an event of a watch.
type sse struct{ name, id, data string }

// watch prints what there is, and then what changes, until ctx ends. It goes on at any replica
// where it was; only if nobody answers at the beginning it fails.
func (l listing[T]) watch(ctx context.Context, c command, targets []answer, chosen map[string]string, format string, patience time.Duration) error {
	path := apiv1.Prefix + l.list + "?" + query(chosen, "watch", "true")
	shown := &shownChanges[T]{listing: l, format: format, table: tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0), out: c.out, beginning: true}
	last, begun := "", false
	for {
		var failed []error
		for _, target := range targets {
			answered, again, err := follow(ctx, target.Server+path, last, patience, func(e sse) error {
				last = cmp.Or(e.id, last)
				return shown.take(e)
			})
			begun = begun || answered
			if over(ctx) { // that is how a watch ends
				return nil
			}
			failed = append(failed, fmt.Errorf("%s: %w", cmp.Or(target.name, target.Server), err))
			if !again {
				return errors.Join(failed...)
			}
		}
		if !begun {
			return errors.Join(failed...)
		}
		select {
		case <-time.After(againAfter):
		case <-ctx.Done():
			return nil
		}
	}
}

func over(ctx context.Context) bool { return ctx.Err() != nil }

// follow calls take with the events after the last one. It reports whether the replica has
// answered, and whether it is worth to ask again.
func follow(ctx context.Context, url, last string, patience time.Duration, take func(sse) error) (answered, again bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	quiet := time.AfterFunc(patience, cancel)
	defer quiet.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, false, err
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return false, true, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxStatus)) // what there is of it
		again, err = refusedBy(resp, body)
		return false, again, err
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, longestEvent)
	var e sse
	for lines.Scan() {
		quiet.Reset(silence)
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data = value
		case "":
			if err := take(e); err != nil {
				return true, false, err
			}
			e = sse{}
		}
	}
	return true, true, cmp.Or(lines.Err(), io.ErrUnexpectedEOF)
}

// shownChanges prints the events of a watch.
type shownChanges[T any] struct {
	listing[T]
	format string
	out    io.Writer
	table  *tabwriter.Writer
	// beginning lasts until all that there is has been told.
	beginning, titled bool
}

func (s *shownChanges[T]) take(e sse) error {
	switch e.name {
	case apiv1.EventMark:
		s.beginning = false
		return s.table.Flush()
	case apiv1.EventResync:
		s.beginning = true
		return s.line("resync", nil, apiv1.Gone{})
	case apiv1.EventPut:
		item := new(T)
		if err := json.Unmarshal([]byte(e.data), item); err != nil {
			return fmt.Errorf("what came is no event of a replica: %w", err)
		}
		return s.line("put", item, apiv1.Gone{})
	case apiv1.EventDelete:
		var gone apiv1.Gone
		if err := json.Unmarshal([]byte(e.data), &gone); err != nil {
			return fmt.Errorf("what came is no event of a replica: %w", err)
		}
		return s.line("delete", nil, gone)
	}
	return nil // of a newer version
}

// change is what JSON has of an event.
type change struct {
	Event string      `json:"event"`
	Item  any         `json:"item,omitempty"`
	Gone  *apiv1.Gone `json:"gone,omitempty"`
}

func (s *shownChanges[T]) line(event string, item *T, gone apiv1.Gone) error {
	switch s.format {
	case "json":
		out := change{Event: event}
		if item != nil {
			out.Item = item
		}
		if gone.ID != "" {
			out.Gone = &gone
		}
		return json.NewEncoder(s.out).Encode(out)
	case "name":
		name := gone.ID
		if item != nil {
			name = s.name(*item)
		}
		fmt.Fprintln(s.out, strings.TrimSpace(event+" "+name))
		return nil
	}
	if !s.titled {
		s.titled = true
		row(s.table, append([]string{"EVENT"}, s.titles(s.format)...)...)
	}
	cells := []string{event, gone.ID}
	if item != nil {
		cells = append(cells[:1], s.cells(*item, s.format)...)
	}
	row(s.table, cells...)
	if s.beginning {
		return nil // more lines to align with
	}
	return s.table.Flush()
}
