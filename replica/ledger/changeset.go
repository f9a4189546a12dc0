package ledger

// ChangeSet collects changes and keeps the newest of each key, in the order in which
// the keys came first. The zero value is empty.
type ChangeSet struct {
	list  []Change
	index map[Key]int
}

// Add takes in changes that follow those that are there.
func (s *ChangeSet) Add(changes []Change) {
	for _, c := range changes {
		if i, ok := s.index[c.Key]; ok {
			s.list[i] = c
			continue
		}
		if s.index == nil {
			s.index = make(map[Key]int)
		}
		s.index[c.Key] = len(s.list)
		s.list = append(s.list, c)
	}
}

// Has reports whether the key has changed.
func (s *ChangeSet) Has(key Key) bool {
	_, ok := s.index[key]
	return ok
}

// Len returns how many keys have changed.
func (s *ChangeSet) Len() int { return len(s.list) }

// All returns the changes. The set must not be added to afterwards.
func (s *ChangeSet) All() []Change { return s.list }
