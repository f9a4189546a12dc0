package supervise

import coordinationv1 "k8s.io/api/coordination/v1"

// tetherEnv is the environment variable that names the file descriptor by which a
// child is tied to its supervisor.
const tetherEnv = "UNDERSTUDY_TETHER"

// Tie is a child's end of its tether. A nil one ties to nothing.
type Tie struct{ tether *tether }

// Hold ties this process to the supervisor that started it, which then knows of its
// death before its memory has been taken apart. It is called once, early. Without a
// supervisor, or on another system than Linux, the Tie is nil.
func Hold() (*Tie, error) {
	t, err := hold()
	if t == nil || err != nil {
		return nil, err
	}
	return &Tie{t}, nil
}

// Leave leaves the Lease to the supervisor as this process last wrote it, so that it
// can be released without being read.
func (t *Tie) Leave(lease *coordinationv1.Lease) {
	if t == nil {
		return
	}
	// An empty will is as good as none.
	data, _ := lease.Marshal()
	t.tether.leave(data)
}

// Lead says whether this process leads. From Lead(true) to Lead(false) it owes a Beat
// several times a second: a supervisor that has seen none for a second kills it.
func (t *Tie) Lead(leads bool) {
	if t != nil {
		t.tether.lead(leads)
	}
}

// Beat shows the supervisor that this process is alive. It costs next to nothing.
func (t *Tie) Beat() {
	if t != nil {
		t.tether.beat()
	}
}

// inherited returns the Lease that a child has left, nil if it has not left any.
func inherited(t *tether) *coordinationv1.Lease {
	if t == nil {
		return nil
	}
	lease := new(coordinationv1.Lease)
	if data := t.will(); len(data) == 0 || lease.Unmarshal(data) != nil {
		return nil
	}
	return lease
}
