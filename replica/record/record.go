package record

import (
	"errors"
	"fmt"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// SchemaVersion is the version of the records that this build writes, and the
// newest that it can read.
const SchemaVersion = 1

var (
	// ErrNewerSchema says that a record must not be read by this version.
	ErrNewerSchema = errors.New("record needs a newer version")
	// ErrCorrupt says that a value is no record.
	ErrCorrupt = errors.New("record is corrupt")
)

// Leader is the value of the leader key.
type Leader struct {
	Epoch       uint64
	Incarnation string
	Since       ledger.Time
	// Trace is the traceparent of the failover that made this lead.
	Trace string
}

// Term is the history of one term of leadership.
type Term struct {
	Epoch       uint64
	Incarnation string
	// Reason says why it began, EndReason why it ended.
	Reason    string
	Started   ledger.Time
	Ended     ledger.Time
	EndReason string
	Timings   []Timing
	Trace     string
	// Claim is the etcd revision at which the epoch was claimed, and Held what the
	// lead held when it had caught up with it; zero before that.
	Claim int64
	Held  Digest
	// SetAside names the applications that were rebuilt from their pods, because their
	// records did not agree with the cluster or the engine.
	SetAside []string
	// FromCluster says that the lead recovered from the cluster alone.
	FromCluster bool
}

// Configuration is the last queue configuration that a lead took for valid.
type Configuration struct {
	// Data is the merged data of YuniKorn's ConfigMaps.
	Data map[string]string
	// Accepted is when it was taken, Epoch the term of the lead that wrote it.
	Accepted ledger.Time
	Epoch    uint64
	// Former are the queues that are configured no more and whose applications go on in
	// them, as the engine describes them, and FormerSince is when the last of them went.
	Former      string
	FormerSince ledger.Time
}

// Timing says when a step of a failover was done.
type Timing struct {
	Step string
	At   ledger.Time
}

// Schema describes a whole prefix.
type Schema struct {
	// MinReader is the lowest version that may lead on the prefix.
	MinReader uint32
	// Version is the one that wrote it.
	Version uint32
	// History is random and written once, with the first claim. It tells the
	// history of this etcd from that of another at the same address.
	History string
}

// Entry is a decoded record of any kind; the field of its kind is set.
type Entry struct {
	Path
	App    *ledger.App
	Task   *ledger.Task
	Leader Leader
	Term   Term
	Schema Schema

	Configuration Configuration
}

// Change returns the entry of an application or a task as a ledger change.
func (e Entry) Change() ledger.Change {
	return ledger.Change{Key: e.Key, App: e.App, Task: e.Task}
}

// Decode decodes the value stored at key, and checks that it belongs there. Its
// errors name the key: ErrUnknownKey, ErrNewerSchema or ErrCorrupt.
func (k Keys) Decode(key string, value []byte) (Entry, error) {
	path, err := k.Parse(key)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Path: path}
	at := path
	switch path.Kind {
	case KindApp:
		if e.App, err = DecodeApp(value); err == nil {
			at.Key = ledger.Key{AppID: e.App.ID}
			e.App.ID = path.Key.AppID
		}
	case KindTask:
		if e.Task, err = DecodeTask(value); err == nil {
			at.Key = ledger.Key{AppID: e.Task.AppID, TaskID: e.Task.ID}
			e.Task.AppID, e.Task.ID = path.Key.AppID, path.Key.TaskID
		}
	case KindLeader:
		e.Leader, err = DecodeLeader(value)
	case KindTerm:
		e.Term, err = DecodeTerm(value)
		at.Epoch = e.Term.Epoch
	case KindConfiguration:
		e.Configuration, err = DecodeConfiguration(value)
	default:
		e.Schema, err = DecodeSchema(value)
	}
	// The key has the ID byte for byte, the value as text.
	want := path
	want.Key = ledger.Key{AppID: valid(want.Key.AppID), TaskID: valid(want.Key.TaskID)}
	if err == nil && at != want {
		err = fmt.Errorf("%w: it belongs to another key", ErrCorrupt)
	}
	if err != nil {
		return Entry{Path: path}, fmt.Errorf("%s: %w", key, err)
	}
	return e, nil
}
