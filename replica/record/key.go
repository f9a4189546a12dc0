package record

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// Keys lays out the keys below Prefix. A slash at the end of Prefix makes no
// difference.
type Keys struct{ Prefix string }

// Kind says what a key holds.
type Kind int

// The kinds of keys. KindUnknown is a key that this version does not know,
// which readers leave alone.
const (
	KindUnknown Kind = iota
	KindLeader
	KindApp
	KindTask
	KindTerm
	KindSchema
	KindConfiguration
)

// ErrUnknownKey says that a key is not one of the layout above.
var ErrUnknownKey = errors.New("not a key of this layout")

// Path is what a key stands for.
type Path struct {
	Kind Kind
	// Key is set for KindApp and KindTask.
	Key ledger.Key
	// Epoch is set for KindTerm.
	Epoch uint64
}

// Root is the prefix that all keys share; it ends with a slash.
func (k Keys) Root() string { return strings.TrimRight(k.Prefix, "/") + "/" }

// Leader is the key that fences all writes.
func (k Keys) Leader() string { return k.Root() + "leader" }

// Schema is the key of the version and identity of the prefix.
func (k Keys) Schema() string { return k.Root() + "schema" }

// Configuration is the key of the queue configuration in force.
func (k Keys) Configuration() string { return k.Root() + "configuration" }

// App is the key of an application's record.
func (k Keys) App(id string) string { return k.Root() + "apps/" + url.PathEscape(id) }

// Task is the key of a task's record.
func (k Keys) Task(appID, taskID string) string {
	return k.Root() + "tasks/" + url.PathEscape(appID) + "/" + url.PathEscape(taskID)
}

// Record is the key of the record that key names.
func (k Keys) Record(key ledger.Key) string {
	if key.TaskID == "" {
		return k.App(key.AppID)
	}
	return k.Task(key.AppID, key.TaskID)
}

// Terms is the prefix of all terms; it ends with a slash.
func (k Keys) Terms() string { return k.Root() + "terms/" }

// Term is the key of the term's record. Epochs are padded, so that the order of
// keys is the order of epochs.
func (k Keys) Term(epoch uint64) string { return fmt.Sprintf("%s%020d", k.Terms(), epoch) }

// Followed is where the keys end that views load and watch: it sorts after all of them and
// before those of the chronicle, which only a lead reads.
func (k Keys) Followed() string { return k.Root() + "~" }

// Events is the prefix of all runs of events; it ends with a slash.
func (k Keys) Events() string { return k.Followed() + "chronicle/events/" }

// Samples is the prefix of all samples; it ends with a slash.
func (k Keys) Samples() string { return k.Followed() + "chronicle/samples/" }

// EventRun is the key of a run of events, by the IDs of its first and its last. The order of
// keys is the order of events, and a key says which events are lost with a value.
func (k Keys) EventRun(first, last uint64) string {
	return fmt.Sprintf("%s%016x-%016x", k.Events(), first, last)
}

// ParseEventRun reverses EventRun; ErrUnknownKey if it is none.
func (k Keys) ParseEventRun(key string) (first, last uint64, err error) {
	rest, _ := strings.CutPrefix(key, k.Events())
	from, to, _ := strings.Cut(rest, "-")
	first, err = strconv.ParseUint(from, 16, 64)
	if err == nil {
		last, err = strconv.ParseUint(to, 16, 64)
	}
	if err != nil || first > last || k.EventRun(first, last) != key {
		return 0, 0, fmt.Errorf("%q: %w", key, ErrUnknownKey)
	}
	return first, last, nil
}

// Sample is the key of a sample; the slots are used in turn.
func (k Keys) Sample(slot int) string { return fmt.Sprintf("%s%04d", k.Samples(), slot) }

// Parse tells what a key stands for; ErrUnknownKey if it is none of ours.
func (k Keys) Parse(key string) (Path, error) {
	rest, ok := strings.CutPrefix(key, k.Root())
	if !ok {
		return Path{}, fmt.Errorf("%q: %w", key, ErrUnknownKey)
	}
	switch rest {
	case "leader":
		return Path{Kind: KindLeader}, nil
	case "schema":
		return Path{Kind: KindSchema}, nil
	case "configuration":
		return Path{Kind: KindConfiguration}, nil
	}
	var p Path
	var err error
	family, rest, _ := strings.Cut(rest, "/")
	switch family {
	case "apps":
		p.Kind = KindApp
		p.Key.AppID, err = unescape(rest)
	case "tasks":
		app, task, _ := strings.Cut(rest, "/")
		p.Kind = KindTask
		if p.Key.AppID, err = unescape(app); err == nil {
			p.Key.TaskID, err = unescape(task)
		}
	case "terms":
		p.Kind = KindTerm
		p.Epoch, err = strconv.ParseUint(rest, 10, 64)
	default:
		err = ErrUnknownKey
	}
	if err != nil {
		return Path{}, fmt.Errorf("%q: %w", key, ErrUnknownKey)
	}
	return p, nil
}

// unescape reverses PathEscape and accepts nothing that PathEscape would not
// have made, so that no two keys name the same record.
func unescape(s string) (string, error) {
	id, err := url.PathUnescape(s)
	if err != nil {
		return "", err
	}
	if id == "" || url.PathEscape(id) != s {
		return "", ErrUnknownKey
	}
	return id, nil
}
