package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
)

// NewLogger returns a logger that writes records of the given level (debug,
// info, warn, error) and above to w, in the given format (json, text), each
// with the standing of the replica. It may be nil where there is none.
func NewLogger(w io.Writer, level, format string, s *Standing) (*slog.Logger, error) {
	var min slog.Level
	if err := min.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: min}
	var h slog.Handler
	switch format {
	case "json":
		h = slog.NewJSONHandler(w, options)
	case "text":
		h = slog.NewTextHandler(w, options)
	default:
		return nil, fmt.Errorf("log format %q: want json or text", format)
	}
	if s != nil {
		h = &handler{base: h, standing: s}
	}
	return slog.New(h), nil
}

// handler puts the standing of the replica on every record, outside of any
// group that a logger was given: "epoch" is found in the same place on every
// line. The chain of handlers behind it is built anew only when the standing
// has changed, so a line costs no more than with attributes that never change.
type handler struct {
	base     slog.Handler
	standing *Standing
	// then repeats WithAttrs and WithGroup calls on a new chain, in order.
	then  []func(slog.Handler) slog.Handler
	chain atomic.Pointer[chain]
}

type chain struct {
	of *standing
	slog.Handler
}

func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.base.Enabled(ctx, level)
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	now := h.standing.current.Load()
	c := h.chain.Load()
	if c == nil || c.of != now {
		c = &chain{of: now, Handler: h.base.WithAttrs(now.attrs)}
		for _, apply := range h.then {
			c.Handler = apply(c.Handler)
		}
		h.chain.Store(c)
	}
	return c.Handle(ctx, r)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(next slog.Handler) slog.Handler { return next.WithAttrs(attrs) })
}

func (h *handler) WithGroup(name string) slog.Handler {
	return h.with(func(next slog.Handler) slog.Handler { return next.WithGroup(name) })
}

func (h *handler) with(apply func(slog.Handler) slog.Handler) slog.Handler {
	return &handler{base: h.base, standing: h.standing, then: append(slices.Clone(h.then), apply)}
}
