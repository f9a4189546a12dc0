package record

import (
	"bytes"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record/recordpb"
)

// DecodeApp decodes an application.
func DecodeApp(b []byte) (*ledger.App, error) {
	m := new(recordpb.App)
	if err := unmarshal(b, m); err != nil {
		return nil, err
	}
	if m.Id == "" {
		return nil, fmt.Errorf("%w: no ID", ErrCorrupt)
	}
	groups, err := decodeGroups(m.TaskGroups)
	if err != nil {
		return nil, err
	}
	owners, err := fromJSON[metav1.OwnerReference]("owner reference", m.OwnerReferences)
	if err != nil {
		return nil, err
	}
	a := &ledger.App{
		ID:                  m.Id,
		Manager:             m.Manager,
		Queue:               m.Queue,
		PlacedQueue:         m.PlacedQueue,
		User:                m.User,
		Groups:              m.Groups,
		Tags:                m.Tags,
		TaskGroups:          groups,
		OwnerReferences:     owners,
		PlaceholderTimeout:  m.PlaceholderTimeout,
		Style:               ledger.GangStyle(m.Style),
		Submitted:           ledger.Time(m.Submitted),
		State:               ledger.AppState(m.State),
		PlaceholderDeadline: ledger.Time(m.PlaceholderDeadline),
		Message:             m.Message,
		Started:             ledger.Time(m.Started),
		Finished:            ledger.Time(m.Finished),
		Trace:               m.Trace,
		Originator:          m.Originator,
		Asked:               ledger.AppState(m.Asked),
		AskedMessage:        m.AskedMessage,
		Replacements:        m.Replacements,
		MostUsed:            m.MostUsed,
		Idle:                ledger.Time(m.Idle),
		Unknown:             unknown(m),
	}
	for _, t := range m.StateLog {
		a.StateLog = append(a.StateLog, ledger.Transition{State: ledger.AppState(t.State), At: ledger.Time(t.At)})
	}
	for _, g := range m.Gang {
		a.Gang = append(a.Gang, ledger.GroupCount{
			Name: g.Name, Wanted: g.Wanted, Bound: g.Bound, Replaced: g.Replaced, TimedOut: g.TimedOut,
		})
	}
	for _, c := range m.Consumed {
		a.Consumed = append(a.Consumed, ledger.Consumption{
			Kind: ledger.ConsumptionKind(c.Kind), InstanceType: c.InstanceType, ResourceSeconds: c.ResourceSeconds,
		})
	}
	for _, c := range m.Crews {
		a.Crews = append(a.Crews, ledger.Crew{
			Name: c.Name, UID: c.Uid, Wanted: c.Wanted, Whole: c.Whole, Until: ledger.Time(c.Until), Pausing: c.Pausing,
			Retries: c.Retries, Reason: c.Reason, Message: c.Message, Rank: decodeRank(c.Rank),
		})
	}
	return a, nil
}

func decodeRank(r *recordpb.Rank) ledger.Rank {
	return ledger.Rank{Priority: r.GetPriority(), Ranked: r.GetRanked(), Yields: r.GetYields(), Together: r.GetTogether()}
}

// DecodeTask decodes a task.
func DecodeTask(b []byte) (*ledger.Task, error) {
	m := new(recordpb.Task)
	if err := unmarshal(b, m); err != nil {
		return nil, err
	}
	if m.AppId == "" || m.Id == "" {
		return nil, fmt.Errorf("%w: no ID", ErrCorrupt)
	}
	return &ledger.Task{
		AppID:       m.AppId,
		ID:          m.Id,
		Namespace:   m.Namespace,
		Name:        m.Name,
		State:       ledger.TaskState(m.State),
		Placeholder: m.Placeholder,
		TaskGroup:   m.TaskGroup,
		Resources:   m.Resources,
		Submitted:   ledger.Time(m.Submitted),
		Node:        m.Node,
		Allocated:   ledger.Time(m.Allocated),
		Bound:       ledger.Time(m.Bound),
		Termination: ledger.Termination(m.Termination),
		DeletePod:   m.DeletePod,
		FailPod:     m.FailPod,
		Retries:     m.Retries,
		NextAttempt: ledger.Time(m.NextAttempt),
		Message:     m.Message,
		Trace:       m.Trace,
		Avoid:       m.Avoid,
		Reason:      m.Reason,
		Swapped:     m.Swapped,
		Holder:      m.Holder,
		GivenUpFor:  m.GivenUpFor,
		Elsewhere:   m.Elsewhere,

		InstanceType: m.InstanceType,
		Unknown:      unknown(m),
	}, nil
}

// DecodeLeader decodes the value of the leader key.
func DecodeLeader(b []byte) (Leader, error) {
	m := new(recordpb.Leader)
	if err := unmarshal(b, m); err != nil {
		return Leader{}, err
	}
	if m.Epoch == 0 {
		return Leader{}, fmt.Errorf("%w: no epoch", ErrCorrupt)
	}
	return Leader{Epoch: m.Epoch, Incarnation: m.Incarnation, Since: ledger.Time(m.Since), Trace: m.Trace}, nil
}

// DecodeTerm decodes the history of a term.
func DecodeTerm(b []byte) (Term, error) {
	m := new(recordpb.Term)
	if err := unmarshal(b, m); err != nil {
		return Term{}, err
	}
	t := Term{
		Epoch: m.Epoch, Incarnation: m.Incarnation, Reason: m.Reason, Started: ledger.Time(m.Started),
		Ended: ledger.Time(m.Ended), EndReason: m.EndReason, Trace: m.Trace,
		Claim: m.ClaimRevision, Held: Digest{Apps: m.HeldApps, Tasks: m.HeldTasks},
		SetAside: m.SetAside, FromCluster: m.FromCluster,
	}
	if len(m.HeldDigest) > 0 {
		sum, ok := hashOf(m.HeldDigest)
		if !ok {
			return Term{}, fmt.Errorf("%w: a digest of %d bytes", ErrCorrupt, len(m.HeldDigest))
		}
		t.Held.Sum = sum
	}
	for _, s := range m.Timings {
		t.Timings = append(t.Timings, Timing{Step: s.Step, At: ledger.Time(s.At)})
	}
	return t, nil
}

// DecodeConfiguration decodes a queue configuration.
func DecodeConfiguration(b []byte) (Configuration, error) {
	m := new(recordpb.Configuration)
	if err := unmarshal(b, m); err != nil {
		return Configuration{}, err
	}
	return Configuration{
		Data: m.Data, Accepted: ledger.Time(m.Accepted), Epoch: m.Epoch,
		Former: m.Former, FormerSince: ledger.Time(m.FormerSince),
	}, nil
}

// DecodeSchema decodes the description of a prefix. That a newer version wrote
// it is an error only if it says that this version must not read it.
func DecodeSchema(b []byte) (Schema, error) {
	m := new(recordpb.Schema)
	if err := unmarshal(b, m); err != nil {
		return Schema{}, err
	}
	return Schema{MinReader: m.Schema, Version: m.Version, History: m.History}, nil
}

// unmarshal decodes b into m, having looked at the schema first: what a newer
// version wrote need not even have the shape of m.
func unmarshal(b []byte, m proto.Message) error {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 || num != 1 || typ != protowire.VarintType {
		return fmt.Errorf("%w: no schema version", ErrCorrupt)
	}
	schema, n := protowire.ConsumeVarint(b[n:])
	switch {
	case n < 0 || schema == 0:
		return fmt.Errorf("%w: no schema version", ErrCorrupt)
	case schema > SchemaVersion:
		return fmt.Errorf("%w: written for schema %d, this version reads %d", ErrNewerSchema, schema, SchemaVersion)
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

// unknown returns the fields of m that this version does not know.
func unknown(m proto.Message) []byte {
	u := m.ProtoReflect().GetUnknown()
	if len(u) == 0 {
		return nil
	}
	return bytes.Clone(u)
}

func fromJSON[T any](what string, in [][]byte) ([]T, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make([]T, len(in))
	for i := range in {
		if err := json.Unmarshal(in[i], &out[i]); err != nil {
			return nil, fmt.Errorf("%w: %s %d: %w", ErrCorrupt, what, i, err)
		}
	}
	return out, nil
}
