package telemetry

import (
	"context"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Zap returns a zap logger that writes to log, for the libraries that know no
// other: the etcd client and yunikorn-core.
func Zap(log *slog.Logger) *zap.Logger {
	return zap.New(zapCore{handler: log.Handler(), level: slog.LevelDebug})
}

// zapCore hands zap's records of at least level to a slog handler.
type zapCore struct {
	handler slog.Handler
	level   slog.Level
}

func (c zapCore) Enabled(l zapcore.Level) bool {
	level := slogLevel(l)
	return level >= c.level && c.handler.Enabled(context.Background(), level)
}

func (c zapCore) With(fields []zapcore.Field) zapcore.Core {
	c.handler = c.handler.WithAttrs(slogAttrs(fields))
	return c
}

func (c zapCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	r := slog.NewRecord(e.Time, slogLevel(e.Level), e.Message, 0)
	if e.LoggerName != "" {
		r.AddAttrs(slog.String("logger", e.LoggerName))
	}
	r.AddAttrs(slogAttrs(fields)...)
	return c.handler.Handle(context.Background(), r)
}

// Sync has nothing to do: the handler does not buffer.
func (zapCore) Sync() error { return nil }

func slogLevel(l zapcore.Level) slog.Level {
	switch {
	case l <= zapcore.DebugLevel:
		return slog.LevelDebug
	case l == zapcore.InfoLevel:
		return slog.LevelInfo
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelError
}

// slogAttrs lets zap's own encoder make plain values of the fields. Everything
// after a namespace field is in a group of that name.
func slogAttrs(fields []zapcore.Field) []slog.Attr {
	attrs := make([]slog.Attr, 0, len(fields))
	for i, f := range fields {
		if f.Type == zapcore.NamespaceType {
			rest := slogAttrs(fields[i+1:])
			return append(attrs, slog.Attr{Key: f.Key, Value: slog.GroupValue(rest...)})
		}
		enc := zapcore.NewMapObjectEncoder()
		f.AddTo(enc)
		// An error field yields two keys at most: the text, and its details.
		for _, key := range []string{f.Key, f.Key + "Verbose"} {
			if v, ok := enc.Fields[key]; ok {
				attrs = append(attrs, slog.Any(key, v))
			}
		}
	}
	return attrs
}
