package verify

import (
	"bytes"
	"fmt"
	"iter"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// FenceOptions say what a drill did to etcd itself.
type FenceOptions struct {
	// Resets is how often the drill removed the leader key or wiped etcd.
	Resets int
	// Forged are the revisions at which the drill itself wrote below the prefix.
	Forged map[int64]bool
}

// Fence checks that no write of an older epoch was accepted after a newer
// epoch had been claimed, and that epochs rise. A claim is a put of the leader
// key; what follows it belongs to its epoch until the next claim.
//
// Every record names the epoch of its writer. A transaction has one writer, so
// a delete or a schema key counts as written by the epoch that the puts of its
// revision name. Transactions of deletes alone name nobody: they are counted
// in the detail and not judged.
func Fence(events []history.EtcdEvent, gaps []history.Gap, opts FenceOptions) Check {
	c := newCheck("fenced writes")
	c.gaps(gaps)
	f := fence{check: c}
	for txn := range transactions(events) {
		if !opts.Forged[txn[0].Revision] {
			f.transaction(txn)
		}
	}
	if f.resets > opts.Resets {
		c.failf("etcd was wiped or its leader key removed %d times, %d expected", f.resets, opts.Resets)
	}
	if f.claims == 0 && f.force == 0 {
		c.failf("not proven: no claim was observed")
	}
	c.Detail = fmt.Sprintf("%d claims up to epoch %d, %d transactions, %d puts, %d deletes (%d unsigned)",
		f.claims, f.highest, f.transactions, f.puts, f.deletes, f.unsigned)
	return *c
}

// transactions yields the events of one revision after the other.
func transactions(events []history.EtcdEvent) iter.Seq[[]history.EtcdEvent] {
	return func(yield func([]history.EtcdEvent) bool) {
		for i := 0; i < len(events); {
			j := i + 1
			// The base is one snapshot of many revisions, each a write of its own.
			for !events[i].Base && j < len(events) && events[j].Revision == events[i].Revision &&
				events[j].Generation == events[i].Generation && !events[j].Base {
				j++
			}
			if !yield(events[i:j]) {
				return
			}
			i = j
		}
	}
}

// fence is the state of the replay.
type fence struct {
	check *Check
	// force is the epoch in force, zero while nobody holds the leader key;
	// highest is the highest ever claimed.
	force, highest uint64
	// leader is the value of the leader key in force: epoch, incarnation, time.
	leader     []byte
	generation int

	claims, transactions, puts, deletes, unsigned, resets int
}

// transaction judges the events of one revision.
func (f *fence) transaction(evs []history.EtcdEvent) {
	if evs[0].Generation != f.generation {
		f.generation = evs[0].Generation
		f.force = 0
		f.resets++
	}
	if evs[0].Base {
		f.base(evs[0])
		return
	}
	f.transactions++
	f.claim(evs)
	var signer uint64
	deletes := 0
	for _, ev := range evs {
		if ev.Key == "leader" {
			continue
		}
		if ev.Deleted {
			deletes++
			continue
		}
		f.puts++
		e, err := decode(ev.Key, ev.Value)
		switch {
		case err != nil:
			f.check.failf("revision %d: nobody can be named as the writer of %s: %v", ev.Revision, ev.Key, err)
		case e.kind == kindSchema:
		case e.epoch == 0:
			f.check.failf("revision %d: %s does not say which epoch wrote it", ev.Revision, ev.Key)
		case e.epoch != f.force:
			f.check.failf("revision %d: %s written by epoch %d while %s", ev.Revision, ev.Key, e.epoch, f.inForce())
			signer = e.epoch
		default:
			signer = e.epoch
		}
	}
	f.deletes += deletes
	if signer == 0 && !claims(evs) {
		f.unsigned += deletes
	}
}

// claim judges what the transaction does to the leader key, before everything
// else in it: a claim may carry records along.
func (f *fence) claim(evs []history.EtcdEvent) {
	for _, ev := range evs {
		if ev.Key != "leader" {
			continue
		}
		if ev.Deleted {
			f.force = 0
			f.resets++
			continue
		}
		f.puts++
		e, err := decode(ev.Key, ev.Value)
		if err != nil {
			f.check.failf("revision %d: the leader key cannot be read: %v", ev.Revision, err)
			continue
		}
		if e.epoch == f.force && bytes.Equal(ev.Value, f.leader) {
			continue // The lead renews its fence after an answer it did not get.
		}
		if e.epoch <= f.highest {
			f.check.failf("revision %d: epoch %d claimed after epoch %d", ev.Revision, e.epoch, f.highest)
		}
		f.claims++
		f.force, f.highest, f.leader = e.epoch, max(f.highest, e.epoch), ev.Value
	}
}

// base takes over who was in force when the recording began.
func (f *fence) base(ev history.EtcdEvent) {
	if ev.Key != "leader" {
		return
	}
	e, err := decode(ev.Key, ev.Value)
	if err != nil {
		f.check.failf("the leader key cannot be read: %v", err)
		return
	}
	if e.epoch < f.highest {
		f.check.failf("epoch %d in force after epoch %d", e.epoch, f.highest)
	}
	f.force, f.highest, f.leader = e.epoch, max(f.highest, e.epoch), ev.Value
}

func (f *fence) inForce() string {
	if f.force == 0 {
		return "no epoch was in force"
	}
	return fmt.Sprintf("epoch %d was in force", f.force)
}

func claims(evs []history.EtcdEvent) bool {
	for _, ev := range evs {
		if ev.Key == "leader" && !ev.Deleted {
			return true
		}
	}
	return false
}
