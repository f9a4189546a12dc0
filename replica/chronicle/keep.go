package chronicle

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
)

const (
	// period is how often a lead looks for news.
	period = 100 * time.Millisecond
	// maxRun is how many events a run has at most.
	maxRun = 1000
	// maxExpired is how many runs are removed along with one that is written, or when there
	// is nothing to write, once a minute.
	maxExpired = 16
	// lastRuns is how many runs a lead that ends still writes.
	lastRuns = 16
)

// retries are the pauses before etcd is asked again.
var retries = wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Jitter: 1, Cap: 2 * time.Second, Steps: math.MaxInt}

// Writer makes notes durable: the mirror. See its PutNotes.
type Writer interface {
	PutNotes(notes []mirror.Note, landed func())
}

// Source is where the events come from: the scheduling core.
type Source interface {
	// Read returns the next events, at most most, each of them once. lost is how many were
	// dropped before these, because they were not read in time.
	Read(most int) (events []*si.EventRecord, lost uint64)
}

// Lead is what a lead keeps a chronicle with.
type Lead struct {
	Writer Writer
	// Load reads what older leads have written: see Load. No older lead may be able to
	// write any more.
	Load   func(ctx context.Context) (Past, error)
	Events Source
	// Count returns how many applications run now, and how many containers there are; false
	// if that is not known.
	Count func() (applications, containers int, ok bool)
}

// Keep reads what older leads have written, and then writes what there is to tell until ctx
// ends. It is called once. What is new when ctx ends is still handed to the writer.
func (l *Log) Keep(ctx context.Context, lead Lead) {
	if !l.recall(ctx, lead.Load) {
		return
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.sample(lead)
			if !l.writing() {
				l.put(lead)
			}
		case <-ctx.Done():
			for range lastRuns {
				if !l.put(lead) {
					return
				}
			}
			return
		}
	}
}

// recall takes over what older leads have written. It reports false if ctx ends first.
func (l *Log) recall(ctx context.Context, load func(context.Context) (Past, error)) bool {
	pause, said := retries, ""
	for {
		past, err := load(ctx)
		if err == nil {
			l.adopt(past)
			return true
		}
		if ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			l.log.Warn("the events of older leads are not known yet", "err", err)
		}
		select {
		case <-time.After(pause.Step()):
		case <-ctx.Done():
			return false
		}
	}
}

// writing reports whether events are on their way.
func (l *Log) writing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next != l.end()
}

// put hands a run of new events to the writer, and with it the removal of what is not kept any
// more. It reports whether there was any.
func (l *Log) put(lead Lead) bool {
	events, lost := lead.Events.Read(maxRun)
	if lost > 0 {
		l.log.Warn("events of the scheduling core are lost: they came faster than they could be written", "lost", lost)
		events = append([]*si.EventRecord{l.remark(fmt.Sprintf("%d events are lost: they came faster than they could be kept", lost))}, events...)
	}
	if len(events) == 0 {
		return false
	}
	l.mu.Lock()
	r := run{l.next, l.next + uint64(len(events)) - 1, events[len(events)-1].TimestampNano}
	l.next = r.last + 1
	l.runs = append(l.runs, r)
	expired := l.expired(maxExpired)
	l.mu.Unlock()
	note := mirror.Note{Key: l.keys.EventRun(r.first, r.last), Value: record.EncodeEvents(events)}
	lead.Writer.PutNotes(append(removals(expired), note), func() { l.landed(events) })
	return true
}

// remark is an event of our own.
func (l *Log) remark(message string) *si.EventRecord {
	return &si.EventRecord{TimestampNano: l.cfg.Now().UnixNano(), Message: message}
}

func removals(keys []string) []mirror.Note {
	notes := make([]mirror.Note, len(keys), len(keys)+1)
	for i, key := range keys {
		notes[i].Key = key
	}
	return notes
}

// landed takes note of events that are durable. Runs land in the order in which they were
// written.
func (l *Log) landed(events []*si.EventRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, events...)
	l.trim()
	close(l.changed)
	l.changed = make(chan struct{})
}

// sample takes one if the last was in another minute, and forgets what has become too old
// meanwhile.
func (l *Log) sample(lead Lead) {
	now := ledger.At(l.cfg.Now())
	at := slot(now)
	l.mu.Lock()
	taken := now-l.samples[at].At < ledger.Time(time.Minute)
	l.mu.Unlock()
	if taken {
		return
	}
	s := record.Sample{At: now}
	var ok bool
	if s.Applications, s.Containers, ok = lead.Count(); !ok {
		return
	}
	l.mu.Lock()
	l.samples[at] = s
	l.trim()
	expired := l.expired(maxExpired)
	l.mu.Unlock()
	lead.Writer.PutNotes(append(removals(expired), mirror.Note{Key: l.keys.Sample(at), Value: record.EncodeSample(s)}), nil)
}
