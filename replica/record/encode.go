package record

import (
	"encoding/json"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record/recordpb"
)

// EncodeApp encodes an application.
func EncodeApp(a *ledger.App) []byte {
	m := &recordpb.App{
		Schema:              SchemaVersion,
		Id:                  a.ID,
		Manager:             a.Manager,
		Queue:               a.Queue,
		PlacedQueue:         a.PlacedQueue,
		User:                a.User,
		Groups:              a.Groups,
		Tags:                a.Tags,
		TaskGroups:          toJSON(a.TaskGroups),
		OwnerReferences:     toJSON(a.OwnerReferences),
		PlaceholderTimeout:  a.PlaceholderTimeout,
		Style:               string(a.Style),
		Submitted:           int64(a.Submitted),
		State:               string(a.State),
		PlaceholderDeadline: int64(a.PlaceholderDeadline),
		Message:             a.Message,
		Started:             int64(a.Started),
		Finished:            int64(a.Finished),
		Trace:               a.Trace,
		Originator:          a.Originator,
		Asked:               string(a.Asked),
		AskedMessage:        a.AskedMessage,
		Replacements:        a.Replacements,
		MostUsed:            a.MostUsed,
		Idle:                int64(a.Idle),
	}
	if n := len(a.StateLog); n > 0 {
		// One block instead of one allocation for each entry.
		block := make([]recordpb.Transition, n)
		m.StateLog = make([]*recordpb.Transition, n)
		for i, t := range a.StateLog {
			block[i].State, block[i].At = string(t.State), int64(t.At)
			m.StateLog[i] = &block[i]
		}
	}
	for _, g := range a.Gang {
		m.Gang = append(m.Gang, &recordpb.GroupCount{
			Name: g.Name, Wanted: g.Wanted, Bound: g.Bound, Replaced: g.Replaced, TimedOut: g.TimedOut,
		})
	}
	for _, c := range a.Consumed {
		m.Consumed = append(m.Consumed, &recordpb.Consumption{
			Kind: string(c.Kind), InstanceType: c.InstanceType, ResourceSeconds: c.ResourceSeconds,
		})
	}
	for _, c := range a.Crews {
		m.Crews = append(m.Crews, &recordpb.Crew{
			Name: c.Name, Uid: c.UID, Wanted: c.Wanted, Whole: c.Whole, Until: int64(c.Until), Pausing: c.Pausing,
			Retries: c.Retries, Reason: c.Reason, Message: c.Message, Rank: encodeRank(c.Rank),
		})
	}
	if len(a.Unknown) > 0 {
		m.ProtoReflect().SetUnknown(a.Unknown)
	}
	return marshal(m)
}

func encodeRank(r ledger.Rank) *recordpb.Rank {
	if r == (ledger.Rank{}) {
		return nil
	}
	return &recordpb.Rank{Priority: r.Priority, Ranked: r.Ranked, Yields: r.Yields, Together: r.Together}
}

// EncodeTask encodes a task.
func EncodeTask(t *ledger.Task) []byte {
	m := &recordpb.Task{
		Schema:      SchemaVersion,
		AppId:       t.AppID,
		Id:          t.ID,
		Namespace:   t.Namespace,
		Name:        t.Name,
		State:       string(t.State),
		Placeholder: t.Placeholder,
		TaskGroup:   t.TaskGroup,
		Resources:   t.Resources,
		Submitted:   int64(t.Submitted),
		Node:        t.Node,
		Allocated:   int64(t.Allocated),
		Bound:       int64(t.Bound),
		Termination: string(t.Termination),
		DeletePod:   t.DeletePod,
		FailPod:     t.FailPod,
		Retries:     t.Retries,
		NextAttempt: int64(t.NextAttempt),
		Message:     t.Message,
		Trace:       t.Trace,
		Avoid:       t.Avoid,
		Reason:      t.Reason,
		Swapped:     t.Swapped,
		Holder:      t.Holder,
		GivenUpFor:  t.GivenUpFor,
		Elsewhere:   t.Elsewhere,

		InstanceType: t.InstanceType,
	}
	if len(t.Unknown) > 0 {
		m.ProtoReflect().SetUnknown(t.Unknown)
	}
	return marshal(m)
}

// EncodeLeader encodes the value of the leader key.
func EncodeLeader(l Leader) []byte {
	return marshal(&recordpb.Leader{
		Schema: SchemaVersion, Epoch: l.Epoch, Incarnation: l.Incarnation, Since: int64(l.Since), Trace: l.Trace,
	})
}

// EncodeTerm encodes the history of a term.
func EncodeTerm(t Term) []byte {
	m := &recordpb.Term{
		Schema: SchemaVersion, Epoch: t.Epoch, Incarnation: t.Incarnation, Reason: t.Reason,
		Started: int64(t.Started), Ended: int64(t.Ended), EndReason: t.EndReason, Trace: t.Trace,
		ClaimRevision: t.Claim, SetAside: t.SetAside, FromCluster: t.FromCluster,
	}
	if t.Claim != 0 {
		m.HeldApps, m.HeldTasks, m.HeldDigest = t.Held.Apps, t.Held.Tasks, t.Held.Sum.bytes()
	}
	for _, s := range t.Timings {
		m.Timings = append(m.Timings, &recordpb.Timing{Step: s.Step, At: int64(s.At)})
	}
	return marshal(m)
}

// EncodeConfiguration encodes a queue configuration.
func EncodeConfiguration(c Configuration) []byte {
	return marshal(&recordpb.Configuration{
		Schema: SchemaVersion, Data: c.Data, Accepted: int64(c.Accepted), Epoch: c.Epoch,
		Former: c.Former, FormerSince: int64(c.FormerSince),
	})
}

// EncodeSchema encodes the description of a prefix.
func EncodeSchema(s Schema) []byte {
	return marshal(&recordpb.Schema{Schema: s.MinReader, Version: s.Version, History: s.History})
}

// marshal cannot fail for good: the one error that protobuf knows for such
// messages is text that is not UTF-8, and that is repaired.
func marshal(m proto.Message) []byte {
	opts := proto.MarshalOptions{Deterministic: true}
	b, err := opts.Marshal(m)
	if err != nil {
		repair(m.ProtoReflect())
		opts.AllowPartial = true
		b, _ = opts.Marshal(m)
	}
	return b
}

// repair replaces what is not UTF-8 in every text of m.
func repair(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			repairMap(f, v.Map())
		case f.IsList():
			list := v.List()
			for i := range list.Len() {
				if fixed, ok := repairValue(f, list.Get(i)); ok {
					list.Set(i, fixed)
				}
			}
		default:
			if fixed, ok := repairValue(f, v); ok {
				m.Set(f, fixed)
			}
		}
		return true
	})
}

func repairMap(f protoreflect.FieldDescriptor, m protoreflect.Map) {
	type entry struct {
		key protoreflect.MapKey
		val protoreflect.Value
	}
	var all []entry
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		all = append(all, entry{k, v})
		return true
	})
	for _, e := range all {
		m.Clear(e.key)
		if fixed, ok := repairValue(f.MapValue(), e.val); ok {
			e.val = fixed
		}
		m.Set(protoreflect.ValueOfString(valid(e.key.String())).MapKey(), e.val)
	}
}

// repairValue returns what is to take the place of v, if anything is.
func repairValue(f protoreflect.FieldDescriptor, v protoreflect.Value) (protoreflect.Value, bool) {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(valid(v.String())), true
	case protoreflect.MessageKind:
		repair(v.Message())
	}
	return v, false
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// toJSON encodes each element. These are plain data types whose encoders
// have no way to fail.
func toJSON[T any](in []T) [][]byte {
	if len(in) == 0 {
		return nil
	}
	out := make([][]byte, len(in))
	for i := range in {
		out[i], _ = json.Marshal(&in[i])
	}
	return out
}
