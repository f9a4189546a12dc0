package chronicle

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// Config tunes a chronicle; Default fills everything but the prefix.
type Config struct {
	// Prefix is the mirror's.
	Prefix string
	// Events is how many events are kept at most, Age for how long.
	Events int
	Age    time.Duration
	// Now is the clock.
	Now func() time.Time
}

// Default returns the defaults, without a prefix.
func Default() Config { return Config{Events: 10_000, Age: 24 * time.Hour, Now: time.Now} }

// Validate names what is out of range.
func (c Config) Validate() error {
	if c.Prefix == "" || c.Events < 1 || c.Age <= 0 || c.Now == nil {
		return errors.New("chronicle: a prefix, a clock, and positive numbers are required")
	}
	return nil
}

// samples is how many there are, one a minute: a day, as in the core.
const samples = 1440

// Log is the chronicle as far as a lead knows it. Its methods may be called from any
// goroutine, and do not wait unless they say so.
type Log struct {
	cfg  Config
	keys record.Keys
	log  *slog.Logger
	// known is closed once what older leads have written is known.
	known chan struct{}

	mu sync.Mutex
	id string
	// events are those that are durable, the first under the ID first.
	first  uint64
	events []*si.EventRecord
	// next is the ID of the next event that is written; those between are on their way.
	next uint64
	// runs are the keys in etcd, the oldest first, also those on their way.
	runs    []run
	samples [samples]record.Sample
	changed chan struct{} // closed, and replaced, when there are more events
}

// run is a key in etcd that holds events.
type run struct {
	first, last uint64
	newest      int64 // when its last event was, in nanoseconds since the Unix epoch
}

// New returns a chronicle of which nothing is known yet.
func New(cfg Config, log *slog.Logger) (*Log, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Log{
		cfg: cfg, keys: record.Keys{Prefix: cfg.Prefix}, log: log,
		known: make(chan struct{}), changed: make(chan struct{}),
	}, nil
}

// Unknown returns a chronicle of which nothing will ever be known.
func Unknown(log *slog.Logger) *Log {
	cfg := Default()
	return &Log{cfg: cfg, log: log, known: make(chan struct{}), changed: make(chan struct{})}
}

// recallPatience is how long Ready waits.
const recallPatience = 5 * time.Second

// Ready waits until what older leads have written is known. It reports false if that takes
// longer than a request should wait, or ctx ends first.
func (l *Log) Ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, recallPatience)
	defer cancel()
	select {
	case <-l.known:
		return true
	case <-ctx.Done():
		return false
	}
}

// Batch is a part of the chronicle.
type Batch struct {
	// ID is the identity of the numbering. Lowest and Highest are the IDs of the oldest and of
	// the newest event that is kept, both zero if there was none ever.
	ID              string
	Lowest, Highest uint64
	// Events are those asked for, in order, nil if the first is not kept.
	Events []*si.EventRecord
}

// Batch returns at most most events from the ID start on.
func (l *Log) Batch(start, most uint64) Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := Batch{ID: l.id, Lowest: l.first}
	if end := l.end(); end > 0 {
		b.Highest = end - 1
	}
	if events, ok := l.from(start, most); ok && len(events) > 0 {
		b.Events = events
	}
	return b
}

// end is the ID that the next event will have that becomes durable. l.mu is held.
func (l *Log) end() uint64 { return l.first + uint64(len(l.events)) }

// from returns at most most events from the ID start on, false if that is not kept any more.
// l.mu is held.
func (l *Log) from(start, most uint64) ([]*si.EventRecord, bool) {
	if start < l.first {
		return nil, false
	}
	if start >= l.end() {
		return nil, true
	}
	rest := l.events[start-l.first:]
	return slices.Clone(rest[:min(most, uint64(len(rest)))]), true
}

// Newest returns the ID from which on there are the newest events, count of them if as many
// are kept, and the identity of the numbering.
func (l *Log) Newest(count uint64) (start uint64, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end() - min(count, uint64(len(l.events))), l.id
}

// Lowest returns the ID of the oldest event that is kept.
func (l *Log) Lowest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// After returns events from the ID start on, at most most, and a channel that is closed when
// there are more than now. It reports false if the reader has fallen so far behind that the
// first is not kept any more.
func (l *Log) After(start uint64, most int) (events []*si.EventRecord, more <-chan struct{}, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	events, ok = l.from(start, uint64(most))
	return events, l.changed, ok
}

// Samples returns those of the last day, the oldest first.
func (l *Log) Samples() (taken []record.Sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest := ledger.At(l.cfg.Now().Add(-samples * time.Minute))
	for _, s := range l.samples {
		if s.At > oldest {
			taken = append(taken, s)
		}
	}
	slices.SortFunc(taken, func(a, b record.Sample) int { return int(a.At - b.At) })
	return taken
}

// slot is where a sample belongs.
func slot(at ledger.Time) int {
	return int(at.Time().Unix() / 60 % samples)
}

// trim forgets what is too much, or too old. l.mu is held.
func (l *Log) trim() {
	oldest := l.oldest()
	drop := max(0, len(l.events)-l.cfg.Events)
	for drop < len(l.events) && l.events[drop].TimestampNano < oldest {
		drop++
	}
	clear(l.events[:drop])
	l.events = l.events[drop:]
	l.first += uint64(drop)
}

// oldest is how old an event may be, in nanoseconds since the Unix epoch.
func (l *Log) oldest() int64 { return l.cfg.Now().Add(-l.cfg.Age).UnixNano() }

// expired takes at most most runs out of which no event is kept, and returns what removes
// them. l.mu is held.
func (l *Log) expired(most int) (keys []string) {
	oldest := l.oldest()
	// The last one tells where the numbering is.
	for len(l.runs) > 1 && len(keys) < most {
		r := l.runs[0]
		if l.next-r.last <= uint64(l.cfg.Events) && r.newest >= oldest {
			break
		}
		keys = append(keys, l.keys.EventRun(r.first, r.last))
		l.runs = l.runs[1:]
	}
	return keys
}
