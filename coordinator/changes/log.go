package changes

import (
	"sort"
	"sync"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// Limit is how many changes a replica remembers.
const Limit = 1 << 16

// Position is how far a follower is.
type Position struct {
	next uint64
	// Revision is a revision of etcd: the follower has been told of everything up to it.
	Revision int64
}

// Log is what has changed lately. Its methods may be called from any goroutine, and do not wait.
type Log struct {
	mu sync.Mutex
	// ring has the entries first to next; number base is, or was, at its beginning.
	ring              []entry
	limit             int
	base, first, next uint64
	// floor is the highest revision of which entries may be missing.
	floor int64
	// newest is the highest revision of an entry, whole that up to which all entries are here.
	newest, whole int64
	changed       chan struct{} // closed, and replaced, when any of this changes
}

type entry struct {
	key      ledger.Key
	revision int64
}

// New returns a log that remembers limit changes. It knows of nothing before Begin.
func New(limit int) *Log { return &Log{limit: limit, changed: make(chan struct{})} }

// Begin forgets what was, because the state was loaded at a revision and it is not known what has
// changed before that: all who follow have to begin anew.
func (l *Log) Begin(revision int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ring = nil
	l.next++ // no position of before is one of now
	l.base, l.first = l.next, l.next
	l.floor, l.newest, l.whole = revision, revision, revision
	l.announce()
}

// Note takes in changes that belong to a revision, or to one before it. Whole says that these are
// all of it; else more may come of the same. A change that comes after all of its revision was said
// to be here counts as one of the next: who was told of that revision was not told of it.
func (l *Log) Note(changed []ledger.Change, revision int64, whole bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest = max(l.newest, revision)
	if len(changed) > 0 {
		l.newest = max(l.newest, l.whole+1)
	}
	for _, c := range changed {
		l.put(entry{c.Key, l.newest})
	}
	if !whole {
		revision--
	}
	l.whole = max(l.whole, revision)
	if len(changed) > 0 {
		l.announce()
	}
}

func (l *Log) put(e entry) {
	if len(l.ring) < l.limit {
		l.ring = append(l.ring, e)
	} else {
		l.floor = l.at(l.first).revision
		l.first++
		*l.at(l.next) = e
	}
	l.next++
}

// at is where an entry is.
func (l *Log) at(number uint64) *entry { return &l.ring[(number-l.base)%uint64(l.limit)] }

// Newest is the position of who knows all that there is.
func (l *Log) Newest() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Position{l.next, l.whole}
}

// From is the position of who has been told of everything up to a revision; false if the log does
// not have all that came after it, or has not come so far.
func (l *Log) From(revision int64) (Position, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if revision < l.floor || revision > l.newest {
		return Position{}, false
	}
	older := sort.Search(int(l.next-l.first), func(i int) bool { return l.at(l.first+uint64(i)).revision > revision })
	return Position{l.first + uint64(older), revision}, true
}

// After returns the keys of the next changes after a position, at most so many, each once, and the
// position after them. It reports false to who has to begin anew.
func (l *Log) After(p Position, most int) ([]ledger.Key, Position, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.next < l.first || p.next > l.next {
		return nil, Position{}, false
	}
	var keys []ledger.Key
	end := min(l.next, p.next+uint64(most))
	known := make(map[ledger.Key]struct{}, end-p.next)
	for ; p.next < end; p.next++ {
		key := l.at(p.next).key
		if _, twice := known[key]; !twice {
			known[key] = struct{}{}
			keys = append(keys, key)
		}
	}
	told := l.whole
	if p.next < l.next {
		told = l.at(p.next).revision - 1
	}
	p.Revision = max(p.Revision, told)
	return keys, p, true
}

// Changed is closed when there is more than there was.
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// announce wakes all who wait; l.mu is held.
func (l *Log) announce() {
	close(l.changed)
	l.changed = make(chan struct{})
}
