package election

import "slices"

// statement is a term of which its holder has said that it is over.
type statement struct {
	holder string
	epoch  uint64
}

// TermEnded tells the elector that the incarnation called identity has stated that
// its term of that epoch is over and all work of it has stopped: if the Lease names
// both, it is free. A later epoch of the same identity is another term, of which
// this says nothing. That the statement is of that incarnation and no other is the
// caller's responsibility; see doc.go.
func (e *Elector) TermEnded(identity string, epoch uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stated = remember(e.stated, statement{identity, epoch})
	e.seen.wake()
}

// termEnded is called without the lock held, by judge only.
func (e *Elector) termEnded(rec record) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.stated, statement{rec.holder, rec.transitions})
}
