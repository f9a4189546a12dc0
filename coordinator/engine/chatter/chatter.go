package chatter

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	corelog "github.com/apache/yunikorn-core/pkg/log"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// sink receives what the core logs. It is the one global of this package
// because the core's logger is one: whoever logs first initialises it for the
// life of the process, even a mere validation of queues. So it is set up once,
// silent, and Direct gives it a destination.
var sink = new(logSink)

// logSink is a zap core that writes to a slog handler that can be set later.
type logSink struct {
	dest atomic.Pointer[slog.Handler]
	// held says that nodes have allocations and no capacity, which the core's
	// health check takes for overcommitted.
	held atomic.Bool
	// captured is done by the first use of the core.
	captured sync.Once
}

// healthLogger is the name of that check's logger.
const healthLogger = "core.scheduler.health"

// Capture takes the core's log. Only the first call in
// a process has an effect, and it must come before any use of the core: later ones,
// by the validation of a configuration, leave the levels that are in force.
func Capture() {
	sink.captured.Do(func() {
		level := zap.NewAtomicLevelAt(zapcore.DebugLevel)
		corelog.InitializeLogger(zap.New(sink), &zap.Config{Level: level})
		corelog.UpdateLoggingConfig(map[string]string{"log.level": slog.LevelWarn.String()})
	})
}

// Direct has what the core logs from now on go to a handler.
func Direct(h slog.Handler) { sink.dest.Store(&h) }

// Hold says whether nodes have allocations and no capacity: then nothing is told of the health
// check.
func Hold(held bool) { sink.held.Store(held) }

// BarrierPartition is a partition that does not exist: the engine uses it for requests that
// only tell how far the core has come. Nothing is told of them.
const BarrierPartition = "[understudy]barrier"

func (s *logSink) handler() slog.Handler {
	if h := s.dest.Load(); h != nil {
		return *h
	}
	return slog.DiscardHandler
}

// Enabled implements zapcore.Core. Levels are the core's own business: it
// filters by its configuration before it asks.
func (s *logSink) Enabled(l zapcore.Level) bool {
	return s.handler().Enabled(context.Background(), slogLevel(l))
}

// With implements zapcore.Core.
func (s *logSink) With(fields []zapcore.Field) zapcore.Core {
	return &derivedSink{logSink: s, fields: fields}
}

// Check implements zapcore.Core.
func (s *logSink) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if s.Enabled(e.Level) {
		return ce.AddCore(e, s)
	}
	return ce
}

// Write implements zapcore.Core.
func (s *logSink) Write(e zapcore.Entry, fields []zapcore.Field) error {
	return s.write(e, fields)
}

func (s *logSink) write(e zapcore.Entry, fields []zapcore.Field) error {
	if e.Message == retiredMessage || e.LoggerName == healthLogger && s.held.Load() {
		return nil
	}
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		if f.Key == "partitionName" && f.String == BarrierPartition {
			return nil // our own barrier: see Sync
		}
		f.AddTo(enc)
	}
	r := slog.NewRecord(e.Time, slogLevel(e.Level), e.Message, 0)
	r.AddAttrs(slog.String("logger", e.LoggerName))
	for _, f := range fields {
		if v, ok := enc.Fields[f.Key]; ok {
			r.AddAttrs(slog.Any(f.Key, v))
		}
	}
	return s.handler().Handle(context.Background(), r)
}

// Sync implements zapcore.Core.
func (s *logSink) Sync() error { return nil }

// retiredMessage is what the core has to say whenever an application is retired
// the way lifecycle.go does it.
const retiredMessage = "Application state not changed to Completing while removing all allocations"

// derivedSink is a logSink with fields of its own.
type derivedSink struct {
	*logSink
	fields []zapcore.Field
}

func (s *derivedSink) With(fields []zapcore.Field) zapcore.Core {
	return &derivedSink{logSink: s.logSink, fields: append(s.fields[:len(s.fields):len(s.fields)], fields...)}
}

func (s *derivedSink) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if s.Enabled(e.Level) {
		return ce.AddCore(e, s)
	}
	return ce
}

func (s *derivedSink) Write(e zapcore.Entry, fields []zapcore.Field) error {
	return s.write(e, append(s.fields[:len(s.fields):len(s.fields)], fields...))
}

func slogLevel(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	case l == zapcore.InfoLevel:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}
