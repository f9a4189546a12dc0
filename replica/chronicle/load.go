package chronicle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/record"
)

// Past is what older leads have written.
type Past struct {
	// ID is the identity of the numbering: the same for as long as etcd has the same history.
	ID string
	// Runs are in order.
	Runs    []Run
	Samples []record.Sample
}

// Run is a run of events, with the IDs of its first and its last. Events is nil if they
// cannot be read.
type Run struct {
	First, Last uint64
	Events      []*si.EventRecord
}

// pageSize is how many keys are read with one request.
const pageSize = 500

// Load returns what reads the past from an etcd, of one moment. timeout bounds one request.
// What cannot be read is logged by its key, and left out.
func Load(cli *clientv3.Client, prefix string, timeout time.Duration, log *slog.Logger) func(context.Context) (Past, error) {
	r := reader{cli: cli, keys: record.Keys{Prefix: prefix}, timeout: timeout, log: log}
	return r.read
}

type reader struct {
	cli     *clientv3.Client
	keys    record.Keys
	timeout time.Duration
	log     *slog.Logger
}

func (r reader) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	return r.cli.Get(ctx, key, opts...)
}

func (r reader) read(ctx context.Context) (Past, error) {
	head, err := r.get(ctx, r.keys.Schema())
	if err != nil {
		return Past{}, err
	}
	if len(head.Kvs) == 0 {
		return Past{}, errors.New("etcd has no schema")
	}
	schema, err := record.DecodeSchema(head.Kvs[0].Value)
	if err != nil {
		return Past{}, fmt.Errorf("schema: %w", err)
	}
	past := Past{ID: uuid.NewSHA1(uuid.NameSpaceOID, []byte(schema.History)).String()}
	err = r.each(ctx, r.keys.Events(), head.Header.Revision, func(key string, value []byte) {
		first, last, err := r.keys.ParseEventRun(key)
		if err == nil && last-first >= maxRun+1 {
			err = fmt.Errorf("%w: too many events for one run", record.ErrCorrupt)
		}
		if err != nil {
			r.log.Error("an entry of the chronicle cannot be read and is left out", "key", key, "err", err)
			return
		}
		events, err := record.DecodeEvents(value)
		if err == nil && uint64(len(events)) != last-first+1 {
			err = fmt.Errorf("%w: it has %d events", record.ErrCorrupt, len(events))
		}
		if err != nil {
			r.log.Error("events cannot be read and are left out", "key", key, "err", err)
			events = nil
		}
		past.Runs = append(past.Runs, Run{first, last, events})
	})
	if err != nil {
		return Past{}, err
	}
	err = r.each(ctx, r.keys.Samples(), head.Header.Revision, func(key string, value []byte) {
		sample, err := record.DecodeSample(value)
		if err != nil {
			r.log.Error("a sample cannot be read and is left out", "key", key, "err", err)
			return
		}
		past.Samples = append(past.Samples, sample)
	})
	return past, err
}

// each calls do with what etcd had below a prefix at a revision, in the order of keys.
func (r reader) each(ctx context.Context, prefix string, revision int64, do func(key string, value []byte)) error {
	end := clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix))
	for key, more := prefix, true; more; {
		page, err := r.get(ctx, key, end, clientv3.WithRev(revision), clientv3.WithLimit(pageSize))
		if err != nil {
			return err
		}
		for _, kv := range page.Kvs {
			do(string(kv.Key), kv.Value)
			key = string(kv.Key) + "\x00"
		}
		more = page.More
	}
	return nil
}

// adopt goes on where older leads have ended. What cannot be read, or is missing, keeps its
// IDs: who counts events counts on.
func (l *Log) adopt(past Past) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id = past.ID
	for _, r := range past.Runs {
		if r.First < l.end() && len(l.runs) > 0 {
			l.log.Error("a run of events overlaps another and is left out", "key", l.keys.EventRun(r.First, r.Last))
			continue
		}
		if missing := r.First - l.end(); len(l.runs) == 0 || missing > uint64(l.cfg.Events) {
			l.first, l.events = r.First, nil
		} else if missing > 0 {
			l.unreadable(missing)
		}
		var newest int64
		if r.Events == nil {
			newest = l.unreadable(r.Last - r.First + 1)
		} else {
			l.events = append(l.events, r.Events...)
			newest = r.Events[len(r.Events)-1].TimestampNano
		}
		l.runs = append(l.runs, run{r.First, r.Last, newest})
	}
	l.next = l.end()
	l.trim()
	for _, s := range past.Samples {
		l.samples[slot(s.At)] = s
	}
	close(l.known)
}

// unreadable stands in for events that are lost, and returns when those are taken to have been: as
// late as the events before them, so that what is older than Age goes in order. l.mu is held.
func (l *Log) unreadable(count uint64) int64 {
	lost := l.remark("this event is lost: it cannot be read any more")
	if n := len(l.events); n > 0 {
		lost.TimestampNano = l.events[n-1].TimestampNano
	}
	for range count {
		l.events = append(l.events, lost)
	}
	return lost.TimestampNano
}
