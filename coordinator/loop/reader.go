package loop

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// Reader is a second ledger that follows that of a loop, for those who may take their time:
// while they read, the loop goes on. It is made when somebody reads for the first time, and
// costs nothing before. From then on each change is applied twice.
//
// It shows what is durable, so that a crash takes back nothing that somebody has read. Only while
// the copy is made it may be ahead, by what is on its way to the journal.
type Reader struct {
	box    *Mailbox
	follow atomic.Bool // changes are noted
	// turn is held by whoever uses the copy. Neither loop nor journal waits for it.
	turn chan struct{}
	copy *ledger.Ledger // nil until it is made

	mu sync.Mutex
	// missed are the changes that came while somebody used the copy.
	missed ledger.ChangeSet
}

// NewReader returns the reader of the loop that takes from box.
func NewReader(box *Mailbox) *Reader { return &Reader{box: box, turn: make(chan struct{}, 1)} }

// Read calls read with the state that is durable, between two batches of the loop, which nobody changes
// meanwhile and which is not read's to change or keep; its records never change. One reads at
// a time. Read reports false if ctx or the loop ends first.
func (r *Reader) Read(ctx context.Context, read func(*ledger.Ledger)) bool {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-r.turn }()
	if r.copy == nil && !r.fill(ctx) {
		return false
	}
	r.catchUp()
	read(r.copy)
	return true
}

// fillPiece is of how many applications the loop is asked at once.
const fillPiece = 64

// fill makes the copy, piece by piece, from what the loop has: no question keeps it for long.
// What changes meanwhile is noted, and comes on top.
func (r *Reader) fill(ctx context.Context) bool {
	r.follow.Store(true)
	filled := ledger.New()
	if !Records(ctx, r.box, func(of []ledger.Change) {
		for _, c := range of {
			filled.Apply(c)
		}
	}) {
		r.follow.Store(false)
		r.take()
		return false
	}
	r.copy = filled
	return true
}

// Records calls each with the records of one application after the other, as the loop has them, which
// change meanwhile: no question keeps it for long. It reports false if ctx or the loop ends first.
func Records(ctx context.Context, box *Mailbox, each func([]ledger.Change)) bool {
	ids, ok := Ask(ctx, box, (*ledger.Ledger).AppIDs)
	if !ok {
		return false
	}
	for piece := range slices.Chunk(ids, fillPiece) {
		records, answered := Ask(ctx, box, func(l *ledger.Ledger) (all [][]ledger.Change) {
			for _, id := range piece {
				all = append(all, l.Records(id))
			}
			return all
		})
		if !answered {
			return false
		}
		for _, of := range records {
			each(of)
		}
	}
	return true
}

// note takes in changes of the loop that are durable, on the journal's goroutine. It does not
// wait: while somebody reads, it puts them aside.
func (r *Reader) note(changes []ledger.Change) {
	if !r.follow.Load() || len(changes) == 0 {
		return
	}
	r.mu.Lock()
	r.missed.Add(changes)
	r.mu.Unlock()
	select {
	case r.turn <- struct{}{}:
		if r.copy != nil {
			r.catchUp()
		}
		<-r.turn
	default:
	}
}

// catchUp applies what was put aside; the turn is held.
func (r *Reader) catchUp() {
	for _, c := range r.take() {
		r.copy.Apply(c)
	}
}

func (r *Reader) take() []ledger.Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	missed := r.missed.All()
	r.missed = ledger.ChangeSet{}
	return missed
}
