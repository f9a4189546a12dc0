package mirror

import (
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror/internal/fenced"
	"github.com/understudy-ha/understudy/replica/record"
)

// slot names what a dirty entry is about: a record, with an epoch a term, the
// configuration, or with a key of etcd an entry of the chronicle.
type slot struct {
	key           ledger.Key
	epoch         uint64
	configuration bool
	note          string
}

// entry is the newest value of a slot that etcd does not have yet.
type entry struct {
	slot   slot
	change ledger.Change
	term   record.Term

	configuration record.Configuration

	note Note
	// landed, if set, is called once the entry is durable.
	landed func()
	// first is the number of the Append that put the entry into the queue.
	first uint64
}

// op encodes the entry; only now, as most values of a busy key never get here.
func (e *entry) op(keys record.Keys, epoch uint64) fenced.Op {
	if e.slot.configuration {
		written := e.configuration
		written.Epoch = epoch // which is its signature
		return fenced.Op{Key: keys.Configuration(), Value: record.EncodeConfiguration(written)}
	}
	if e.slot.note != "" {
		if e.note.Value == nil {
			return fenced.Op{Key: e.note.Key, Delete: true}
		}
		return fenced.Op{Key: e.note.Key, Value: record.Sign(record.KindUnknown, e.note.Value, epoch)}
	}
	if e.slot.epoch > 0 {
		return fenced.Op{Key: keys.Term(e.slot.epoch), Value: record.Sign(record.KindTerm, record.EncodeTerm(e.term), epoch)}
	}
	op := fenced.Op{Key: keys.Record(e.slot.key)}
	switch {
	case e.change.Task != nil:
		op.Value = record.Sign(record.KindTask, record.EncodeTask(e.change.Task), epoch)
	case e.change.App != nil:
		op.Value = record.Sign(record.KindApp, record.EncodeApp(e.change.App), epoch)
	default:
		op.Delete = true
	}
	return op
}

// queue holds what is dirty, in the order in which it first became so. Because
// entry.first never falls from front to back, everything up to the Append before
// the front one's has left the queue.
type queue struct {
	entries map[slot]*entry
	fifo    []*entry
}

func newQueue() queue { return queue{entries: make(map[slot]*entry)} }

func (q *queue) len() int { return len(q.fifo) }

// put adds e, or lets the entry that waits for the same slot take its value.
func (q *queue) put(e entry) {
	if old := q.entries[e.slot]; old != nil {
		old.change, old.term, old.configuration, old.note = e.change, e.term, e.configuration, e.note
		return
	}
	q.entries[e.slot] = &e
	q.fifo = append(q.fifo, &e)
}

// take removes at most n entries from the front.
func (q *queue) take(n int) []*entry {
	n = min(n, len(q.fifo))
	batch := make([]*entry, n)
	copy(batch, q.fifo)
	clear(q.fifo[:n])
	q.fifo = q.fifo[n:]
	if len(q.fifo) == 0 {
		q.fifo = nil
	}
	for _, e := range batch {
		delete(q.entries, e.slot)
	}
	return batch
}
