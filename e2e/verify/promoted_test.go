package verify

import (
	"fmt"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/e2e/verify/history"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
	"github.com/understudy-ha/understudy/replica/record/recordpb"
)

// ledOp is the record of a lead that leads, and says nothing else.
func ledOp(t *testing.T, epoch uint64) op {
	t.Helper()
	term := record.Term{Epoch: epoch, Timings: []record.Timing{{Step: stepLeading, At: 1}}}
	return op{key: fmt.Sprintf("terms/%020d", epoch), value: record.Sign(record.KindTerm, record.EncodeTerm(term), epoch)}
}

// promote is the record of a term whose lead held the records given, as its own
// code has it: decoded, encoded anew and added up.
func promote(t *testing.T, epoch uint64, revision int64, held ...op) op {
	t.Helper()
	var d record.Digest
	for _, o := range held {
		e, err := record.Keys{}.Decode("/"+o.key, o.value)
		if err != nil {
			t.Fatal(err)
		}
		d.Replace(e.Key, record.Hash{}, record.HashOf(e.Change()))
	}
	term := record.Term{Epoch: epoch, Claim: revision, Held: d}
	return op{key: fmt.Sprintf("terms/%020d", epoch), value: record.Sign(record.KindTerm, record.EncodeTerm(term), epoch)}
}

func TestPromoted(t *testing.T) {
	groups := []v1alpha1.TaskGroup{{Name: "g", MinMember: 2, Labels: map[string]string{"b": "1", "a": "2"}}}
	gang := op{key: "apps/gang", value: record.Sign(record.KindApp, record.EncodeApp(&ledger.App{
		ID: "gang", TaskGroups: groups, Tags: map[string]string{"y": "1", "x": "2"},
		Unknown: []byte{0x92, 0x3f, 1, 'x'}, // a field of a newer version
	}), 1)}
	app, a, b := appOp("a/b", "Running", 1), taskOp("a/b", "a", "Bound", "n1", 1), taskOp("a/b", "b", "Pending", "", 1)
	later := taskOp("a/b", "b", "Bound", "n1", 1)
	// before is what epoch 1 has left when epoch 2 is claimed, at the revision that
	// the mirror is at.
	before := func() *mirror {
		m := newMirror()
		m.claim(1)
		m.txn(promote(t, 1, m.rev))
		m.txn(app, a, b, gang)
		m.txn(later, op{key: a.key})
		m.claim(2)
		return m
	}
	all := []op{app, later, gang}
	m := before()
	claim := m.rev
	m.txn(promote(t, 2, claim, all...), taskOp("a/b", "c", "Pending", "", 2))
	m.claim(2) // renewed
	m.txn(promote(t, 2, claim, all...))
	c := Promoted(m.events, nil)
	holds(t, c)
	want := "2 of 2 new leads began with what etcd had; at the last claim, of epoch 2 at revision 15, 2 applications and 1 tasks"
	if c.Detail != want {
		t.Errorf("detail: %s\nwant    %s", c.Detail, want)
	}

	for name, held := range map[string][]op{
		"a record is missing":        {app, gang},
		"an older version":           {app, b, gang},
		"one that was deleted":       {app, later, gang, a},
		"nothing":                    nil,
		"another application's task": {app, taskOp("c", "b", "Bound", "n1", 1), gang},
	} {
		t.Run(name, func(t *testing.T) {
			m := before()
			m.txn(promote(t, 2, m.rev, held...))
			fails(t, Promoted(m.events, nil), "epoch 2 was promoted with")
		})
	}
	t.Run("of another claim", func(t *testing.T) {
		m := before()
		m.txn(promote(t, 2, m.rev-1, all...))
		fails(t, Promoted(m.events, nil), "epoch 2 says that it was claimed at revision 14, it was at 15")
	})
	t.Run("says nothing", func(t *testing.T) {
		m := before()
		m.txn(termOp(2, 2))
		fails(t, Promoted(m.events, nil), "epoch 2, the last to be claimed, has not said what it held")
		m.txn(ledOp(t, 2))
		fails(t, Promoted(m.events, nil), "epoch 2 does not say what it held")
	})
	t.Run("says it later", func(t *testing.T) {
		m := before()
		m.txn(termOp(2, 2)) // with the claim
		m.txn(promote(t, 2, m.rev-1, all...))
		holds(t, Promoted(m.events, nil))
	})
	t.Run("resumes", func(t *testing.T) {
		m := before()
		m.txn(promote(t, 2, m.rev, all...))
		m.txn(op{key: "leader", value: encode(&recordpb.Leader{Schema: 1, Epoch: 3, Incarnation: "replica-2"})})
		m.txn(ledOp(t, 3))
		c := Promoted(m.events, nil)
		holds(t, c)
		if want := "2 of 2 new leads"; !strings.HasPrefix(c.Detail, want) || !strings.HasSuffix(c.Detail, "; 1 times a lead resumed") {
			t.Errorf("detail: %s, want %s…", c.Detail, want)
		}
		m.claim(4) // by another process
		m.txn(ledOp(t, 4))
		fails(t, Promoted(m.events, nil), "epoch 4 does not say what it held")
	})
	t.Run("died before it said so", func(t *testing.T) {
		m := before()
		fails(t, Promoted(m.events, nil), "epoch 2, the last to be claimed, has not said what it held")
		m.claim(3)
		m.txn(termOp(2, 3)) // closed by its successor
		m.txn(promote(t, 3, m.rev-1, all...))
		c := Promoted(m.events, nil)
		holds(t, c)
		if want := "2 of 3 new leads"; !strings.HasPrefix(c.Detail, want) || !strings.HasSuffix(c.Detail, "; 1 ended before they said so") {
			t.Errorf("detail: %s, want %s…", c.Detail, want)
		}
	})
	t.Run("records that cannot be read", func(t *testing.T) {
		m := before()
		newer := encode(&recordpb.Task{Schema: readable + 1, AppId: "a/b", Id: "b"})
		m.txn(op{key: later.key, value: newer}, op{key: gang.key, value: []byte("\x08\x01\xffgarbage")},
			op{key: "apps/x", value: encode(&recordpb.App{Id: "x"})}, op{key: "apps/y", value: app.value},
			op{key: "apps/z", value: encode(&recordpb.App{Schema: 1, Id: "z", TaskGroups: [][]byte{[]byte("[")}})},
			op{key: "tasks/a/b/c", value: a.value}, op{key: "apps/a+%62", value: app.value})
		m.claim(3)
		m.txn(promote(t, 3, m.rev, app))
		holds(t, Promoted(m.events, nil))
	})
	t.Run("etcd was wiped", func(t *testing.T) {
		m := before()
		m.txn(promote(t, 2, m.rev, all...))
		m.gen, m.rev = 1, 2
		m.claim(3)
		m.txn(promote(t, 3, m.rev))
		holds(t, Promoted(m.events, nil))
		m.txn(promote(t, 2, 15)) // of the generation before: nobody compares
		holds(t, Promoted(m.events, nil))
	})
	t.Run("recorded before the history began", func(t *testing.T) {
		m := before()
		for i := range m.events {
			m.events[i].Base = true
		}
		c := Promoted(m.events, nil)
		holds(t, c)
		if c.Detail != "nobody was promoted" {
			t.Errorf("detail: %s", c.Detail)
		}
		m.claim(3)
		m.txn(promote(t, 3, m.rev, all...)) // of the snapshot only the newest versions matter
		holds(t, Promoted(m.events, nil))
	})
	t.Run("gaps", func(t *testing.T) {
		gap := []history.Gap{{What: "etcd", After: 3, Until: 9, Reason: "compacted"}}
		fails(t, Promoted(nil, gap), "lacks revisions 4 to 9")
	})
}
