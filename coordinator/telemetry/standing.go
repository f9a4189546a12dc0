package telemetry

import (
	"log/slog"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
)

// Standing is where a replica stands: what log lines and spans say about it.
// It may be used by any number of goroutines.
type Standing struct {
	replica  string
	current  atomic.Pointer[standing]
	revision atomic.Int64
}

// standing is immutable, and replaced as a whole: a line never shows the role
// of one term with the epoch of another.
type standing struct {
	role  string
	epoch uint64
	attrs []slog.Attr
}

// NewStanding returns the standing of a replica that has just started: an
// understudy, with no epoch.
func NewStanding(replica string) *Standing {
	s := &Standing{replica: replica}
	s.Set("understudy", 0)
	return s
}

// Set changes role and epoch; the epoch is zero while there is no term.
func (s *Standing) Set(role string, epoch uint64) {
	s.current.Store(&standing{role: role, epoch: epoch, attrs: []slog.Attr{
		slog.String("replica", s.replica),
		slog.String("role", role),
		slog.Uint64("epoch", epoch),
	}})
}

// SetRevision notes the newest revision of etcd that the replica has written
// or applied.
func (s *Standing) SetRevision(revision int64) { s.revision.Store(revision) }

// Replica is the name of the replica.
func (s *Standing) Replica() string { return s.replica }

func (s *Standing) attributes() [3]attribute.KeyValue {
	now := s.current.Load()
	return [3]attribute.KeyValue{
		RoleKey.String(now.role),
		EpochKey.Int64(int64(now.epoch)),
		RevisionKey.Int64(s.revision.Load()),
	}
}
