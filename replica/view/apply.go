package view

import (
	"maps"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// adopt makes the state equal to a snapshot, and applies no more than it takes.
func (v *View) adopt(s *snapshot) error {
	v.applying.Lock()
	defer v.applying.Unlock()
	v.mu.Lock()
	if v.taken {
		v.mu.Unlock()
		return ErrTaken
	}
	for key := range v.known {
		if _, ok := s.known[key]; !ok {
			s.changes = append(s.changes, ledger.Change{Key: key})
		}
	}
	for _, ch := range s.changes {
		hash := v.hold(ch)
		if at, ok := s.known[ch.Key]; ok {
			at.hash = hash
			s.known[ch.Key] = at
		}
	}
	v.digest = record.Digest{}
	for key, at := range s.known {
		v.digest.Replace(key, record.Hash{}, at.hash)
	}
	before := v.announced()
	v.known, v.leader, v.terms = s.known, s.leader, s.terms
	if s.refused[v.keys.Configuration()] == nil { // else what was known before stays
		v.configuration = s.configuration
	}
	for key, err := range s.refused {
		if v.refused[key] == nil {
			v.logRefused(key, err)
		}
	}
	v.refused = s.refused
	v.mu.Unlock()

	v.tell(s.changes, before, s.revision, true)

	v.mu.Lock()
	defer v.mu.Unlock()
	v.origin, v.revision, v.newest, v.synced = s.origin, s.revision, s.revision, true
	v.void = false
	v.announce()
	return nil
}

// absorb applies one answer of the watch: whole revisions, in order.
func (v *View) absorb(resp clientv3.WatchResponse) error {
	entries := make([]record.Entry, len(resp.Events))
	errs := make([]error, len(resp.Events))
	for i, ev := range resp.Events {
		key := string(ev.Kv.Key)
		if ev.Type == clientv3.EventTypeDelete {
			entries[i].Path, errs[i] = v.keys.Parse(key)
		} else {
			entries[i], errs[i] = v.keys.Decode(key, ev.Kv.Value)
		}
	}

	v.applying.Lock()
	defer v.applying.Unlock()
	v.mu.Lock()
	if v.taken {
		v.mu.Unlock()
		return ErrTaken
	}
	// After a resumed watch, etcd may be another one than before.
	if resp.Header.ClusterId != 0 && resp.Header.ClusterId != v.origin.cluster {
		v.mu.Unlock()
		return errOtherHistory
	}
	before, revision := v.announced(), v.revision
	var changes []ledger.Change
	for i, ev := range resp.Events {
		ch, changed, err := v.apply(ev, entries[i], errs[i])
		if err != nil {
			v.mu.Unlock()
			return err
		}
		if changed {
			changes = append(changes, ch)
		}
		// The header may be ahead of what the answer holds.
		revision = max(revision, ev.Kv.ModRevision)
	}
	if resp.IsProgressNotify() {
		revision = max(revision, resp.Header.Revision)
	}
	v.mu.Unlock()

	v.tell(changes, before, revision, false)

	v.mu.Lock()
	defer v.mu.Unlock()
	v.revision = revision
	v.newest = max(v.newest, v.revision, resp.Header.Revision)
	v.announce()
	return nil
}

// apply takes one event into the state. It returns the change of the ledger, if
// there is one; v.mu is held.
func (v *View) apply(ev *clientv3.Event, e record.Entry, err error) (ledger.Change, bool, error) {
	key, gone := string(ev.Kv.Key), ev.Type == clientv3.EventTypeDelete
	if e.Kind == record.KindUnknown {
		return ledger.Change{}, false, nil // of a newer version, or nobody's
	}
	if err != nil {
		v.refused[key] = err
		v.logRefused(key, err)
		if at, ok := v.known[e.Key]; ok {
			v.digest.Replace(e.Key, at.hash, record.Hash{})
			v.known[e.Key] = version{modRevision: at.modRevision}
		}
		return ledger.Change{}, false, nil
	}
	delete(v.refused, key)
	switch e.Kind {
	case record.KindApp, record.KindTask:
		ch := e.Change()
		now := version{ev.Kv.ModRevision, v.hold(ch)}
		v.digest.Replace(e.Key, v.known[e.Key].hash, now.hash)
		if gone {
			delete(v.known, e.Key)
		} else {
			v.known[e.Key] = now
		}
		return ch, true, nil
	case record.KindLeader:
		v.leader = e.Leader
	case record.KindTerm:
		if gone {
			delete(v.terms, e.Epoch)
		} else {
			v.terms[e.Epoch] = e.Term
		}
	case record.KindConfiguration:
		v.configuration = nil
		if !gone {
			v.configuration = &e.Configuration
		}
	case record.KindSchema:
		if v.origin.history != "" && v.origin.history != e.Schema.History {
			return ledger.Change{}, false, errOtherHistory
		}
		v.origin.history = e.Schema.History
	}
	return ledger.Change{}, false, nil
}

// hold applies a change, and returns the hash of what the ledger holds then, which
// is what a promotion will rely on. v.mu is held.
func (v *View) hold(ch ledger.Change) record.Hash {
	v.ledger.Apply(ch)
	held := ledger.Change{Key: ch.Key}
	if ch.Key.TaskID == "" {
		held.App = v.ledger.App(ch.Key.AppID)
	} else {
		held.Task = v.ledger.Task(ch.Key.AppID, ch.Key.TaskID)
	}
	return record.HashOf(held)
}

// announced is what others are told of when it is not what it was.
type announced struct {
	epoch         uint64
	configuration *record.Configuration
}

// announced returns it as it is now; v.mu is held.
func (v *View) announced() announced { return announced{v.leader.Epoch, v.configuration} }

// tell passes on what has been applied, over what was before and up to the revision
// given; anew says that all of the state was loaded. v.applying is held, v.mu is not.
func (v *View) tell(changes []ledger.Change, before announced, revision int64, anew bool) {
	v.metrics.changes.Add(float64(len(changes)))
	if v.cfg.OnChange != nil {
		for _, ch := range changes {
			v.cfg.OnChange(v.ledger, ch)
		}
	}
	if v.cfg.OnLeader != nil && v.leader.Epoch != before.epoch {
		v.cfg.OnLeader(v.leader, revision)
	}
	c, was := v.configuration, before.configuration
	if v.cfg.OnConfiguration != nil && c != nil && (was == nil || !maps.Equal(c.Data, was.Data) || c.Former != was.Former) {
		v.cfg.OnConfiguration(*c)
	}
	if v.cfg.OnApplied != nil {
		v.cfg.OnApplied(changes, revision, anew)
	}
}

func (v *View) logRefused(key string, err error) {
	v.log.Error("a record cannot be read and is skipped", "key", key, "err", err)
}
