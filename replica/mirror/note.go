package mirror

// Note is an entry of the chronicle: a key, below the prefix, and its value as package record
// encodes it, which is signed when it is written; nil to delete it.
type Note struct {
	Key   string
	Value []byte
}

// PutNotes writes entries of the chronicle, fenced and retried like everything else, as
// AppendLater does: they go along with what pods wait for. landed is called from Run's
// goroutine when all of them are durable, and not before, whatever the policy; it must not
// block. It is not called after a lost fence.
//
// A key is not to be put again before landed: what waits under it would not be told.
func (m *Mirror) PutNotes(notes []Note, landed func()) {
	if len(notes) == 0 {
		return
	}
	entries := make([]entry, len(notes))
	for i, n := range notes {
		entries[i] = entry{slot: slot{note: n.Key}, note: n}
	}
	entries[len(entries)-1].landed = landed // in order of first change
	m.append(entries, nil, false)
}
