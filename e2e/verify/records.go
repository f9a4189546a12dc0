package verify

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/understudy-ha/understudy/replica/record/recordpb"
)

// kind says what a key below the prefix holds.
type kind int

const (
	kindOther kind = iota
	kindLeader
	kindApp
	kindTask
	kindTerm
	kindSchema
	kindConfiguration
	kindNote // of the chronicle
)

// entry is one decoded key and value. Fields beyond kind, appID, taskID and
// term are set only if the value was decoded.
type entry struct {
	kind   kind
	appID  string
	taskID string
	// term is the epoch in the key of a term.
	term uint64

	// epoch is who wrote the value; zero if it does not say.
	epoch uint64
	state string
	node  string
	// namespace and name are those of a task's pod.
	namespace, name string
	// message is why a task is as it is.
	message string
	gang    bool
}

var (
	errKey   = errors.New("not a key of the layout")
	errNewer = errors.New("for a newer reader")
)

// readable is the newest schema that the replicas under test can read.
const readable = 1

// decodeKey reads a key relative to the prefix.
func decodeKey(key string) (entry, error) {
	parts := strings.Split(key, "/")
	bad := fmt.Errorf("%q: %w", key, errKey)
	switch {
	case key == "leader":
		return entry{kind: kindLeader}, nil
	case key == "schema":
		return entry{kind: kindSchema}, nil
	case key == "configuration":
		return entry{kind: kindConfiguration}, nil
	case parts[0] == "apps" && len(parts) == 2:
		id, err := url.PathUnescape(parts[1])
		if err != nil {
			return entry{}, bad
		}
		return entry{kind: kindApp, appID: id}, nil
	case parts[0] == "tasks" && len(parts) == 3:
		app, err1 := url.PathUnescape(parts[1])
		task, err2 := url.PathUnescape(parts[2])
		if err1 != nil || err2 != nil {
			return entry{}, bad
		}
		return entry{kind: kindTask, appID: app, taskID: task}, nil
	case parts[0] == "~chronicle" && len(parts) == 3:
		return entry{kind: kindNote}, nil
	case parts[0] == "terms" && len(parts) == 2:
		n, err := strconv.ParseUint(parts[1], 10, 64)
		if err != nil {
			return entry{}, bad
		}
		return entry{kind: kindTerm, term: n}, nil
	}
	return entry{}, bad
}

// decode reads a key and its value.
func decode(key string, value []byte) (entry, error) {
	e, err := decodeKey(key)
	if err != nil {
		return e, err
	}
	var schema uint32
	switch e.kind {
	case kindLeader:
		var m recordpb.Leader
		err = proto.Unmarshal(value, &m)
		schema = m.GetSchema()
		e.epoch = m.GetEpoch()
	case kindApp:
		var m recordpb.App
		err = proto.Unmarshal(value, &m)
		schema = m.GetSchema()
		e.epoch, e.state = m.GetEpoch(), m.GetState()
		e.gang = len(m.GetTaskGroups()) > 0
		if err == nil && m.GetId() != e.appID {
			err = fmt.Errorf("the record is of application %q", m.GetId())
		}
	case kindTask:
		var m recordpb.Task
		err = proto.Unmarshal(value, &m)
		schema = m.GetSchema()
		e.epoch, e.state, e.node = m.GetEpoch(), m.GetState(), m.GetNode()
		e.namespace, e.name, e.message = m.GetNamespace(), m.GetName(), m.GetMessage()
		if err == nil && (m.GetAppId() != e.appID || m.GetId() != e.taskID) {
			err = fmt.Errorf("the record is of task %q of application %q", m.GetId(), m.GetAppId())
		}
	case kindTerm:
		var m recordpb.Term
		err = proto.Unmarshal(value, &m)
		schema = m.GetSchema()
		// A term need not be written by the epoch that it is about: a successor
		// closes it.
		e.epoch = m.GetWriterEpoch()
		if err == nil && m.GetEpoch() != e.term {
			err = fmt.Errorf("the record is of term %d", m.GetEpoch())
		}
	case kindConfiguration:
		var m recordpb.Configuration
		err = proto.Unmarshal(value, &m)
		schema = m.GetSchema()
		e.epoch = m.GetEpoch()
	case kindNote:
		var m recordpb.Sample // of what else there is it has the same
		err = proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(value, &m)
		schema = m.GetSchema()
		e.epoch = m.GetEpoch()
	case kindSchema:
		err = proto.Unmarshal(value, &recordpb.Schema{})
	}
	if err == nil && schema > readable {
		err = fmt.Errorf("schema %d: %w", schema, errNewer)
	}
	if err != nil {
		return e, fmt.Errorf("%s: %w", key, err)
	}
	return e, nil
}

// Timing is a step of a failover as the new lead has told it.
type Timing struct {
	Step string
	At   time.Time
}

// stepLeading is the step with which a promotion is over.
const stepLeading = "leading"

// Led reports whether the lead that told these steps came to lead.
func Led(timings []Timing) bool {
	return slices.ContainsFunc(timings, func(t Timing) bool { return t.Step == stepLeading })
}

// LeaderOf decodes the value of the leader key.
func LeaderOf(value []byte) (epoch uint64, incarnation string, err error) {
	var m recordpb.Leader
	if err := proto.Unmarshal(value, &m); err != nil {
		return 0, "", fmt.Errorf("leader: %w", err)
	}
	return m.GetEpoch(), m.GetIncarnation(), nil
}

// TermOf decodes the value of the key of a term.
func TermOf(value []byte) (epoch uint64, reason string, timings []Timing, err error) {
	var m recordpb.Term
	if err := proto.Unmarshal(value, &m); err != nil {
		return 0, "", nil, fmt.Errorf("term: %w", err)
	}
	for _, t := range m.GetTimings() {
		timings = append(timings, Timing{Step: t.GetStep(), At: time.Unix(0, t.GetAt())})
	}
	return m.GetEpoch(), m.GetReason(), timings, nil
}
