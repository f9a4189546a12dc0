package verify

import (
	"testing"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

func TestIntentBeforeBind(t *testing.T) {
	// twoBound binds a by epoch 1 and b by epoch 2. Both were decided by epoch 1,
	// which died in between.
	good := func() *mirror {
		m := newMirror()
		m.claim(1)
		m.txn(taskOp("app", "a", "TaskAllocated", "n1", 1))
		m.txn(taskOp("app", "a", "Bound", "n1", 1), taskOp("app", "b", "TaskAllocated", "n1", 1))
		m.claim(2)
		m.txn(taskOp("app", "b", "Bound", "n1", 2))
		return m
	}
	check := func(m *mirror, suspended ...uint64) Check {
		opts := IntentOptions{Suspended: map[uint64]bool{}}
		for _, epoch := range suspended {
			opts.Suspended[epoch] = true
		}
		return IntentBeforeBind(twoBound().pods, nil, m.events, nil, opts)
	}
	c := check(good())
	holds(t, c)
	if want := "2 bindings recorded by their own epoch or an older one"; c.Detail != want {
		t.Errorf("detail: %s, want %s", c.Detail, want)
	}
	// late is what is left if epoch 1 bound a and died before it wrote so: epoch 2
	// found the pod bound.
	late := func() *mirror {
		m := newMirror()
		m.claim(1)
		m.txn(taskOp("app", "a", "Scheduling", "", 1))
		m.claim(2)
		m.txn(taskOp("app", "a", "Bound", "n1", 2), taskOp("app", "b", "TaskAllocated", "n1", 2))
		return m
	}
	const violation = "pod ns/pod-a (a) was bound to n1 at revision 4 by epoch 1, and first recorded there by epoch 2"

	t.Run("recorded by a newer epoch only", func(t *testing.T) {
		fails(t, check(late()), violation)
	})
	t.Run("recorded on another node before", func(t *testing.T) {
		m := newMirror()
		m.claim(1)
		m.txn(taskOp("app", "a", "TaskAllocated", "n2", 1), taskOp("app", "b", "TaskAllocated", "n1", 1))
		m.claim(2)
		m.txn(taskOp("app", "a", "Bound", "n1", 2))
		fails(t, check(m), violation)
	})
	t.Run("never recorded", func(t *testing.T) {
		m := newMirror()
		m.claim(1)
		m.txn(taskOp("app", "b", "TaskAllocated", "n1", 1))
		fails(t, check(m), "pod ns/pod-a (a) was bound to n1 at revision 4 by epoch 1, and no record says so")
	})
	t.Run("recorded by nobody, or not readably", func(t *testing.T) {
		m := late()
		unsigned, garbage := taskOp("app", "a", "TaskAllocated", "n1", 0), taskOp("app", "a", "TaskAllocated", "n1", 1)
		garbage.value = garbage.value[:len(garbage.value)-1]
		m.events = append([]history.EtcdEvent{
			{Key: unsigned.key, Value: unsigned.value}, {Key: garbage.key, Value: garbage.value},
		}, m.events...)
		fails(t, check(m), violation)
	})
	t.Run("recorded before the recording began", func(t *testing.T) {
		m := good()
		for i := range m.events[:4] {
			m.events[i].Base = true
		}
		holds(t, check(m))
	})
	t.Run("bound before the recording began", func(t *testing.T) {
		s := twoBound()
		for i := range s.pods {
			if s.pods[i].Pod.UID == "a" {
				s.pods[i].Kind = history.Base
			}
		}
		c := IntentBeforeBind(s.pods, nil, late().events, nil, IntentOptions{})
		holds(t, c)
		if want := "1 bindings recorded by their own epoch or an older one"; c.Detail != want {
			t.Errorf("detail: %s, want %s", c.Detail, want)
		}
	})
	t.Run("the guarantee was suspended", func(t *testing.T) {
		c := check(late(), 1)
		holds(t, c)
		want := "1 bindings recorded by their own epoch or an older one; does not apply to 1 of epochs that said the guarantee is suspended"
		if c.Detail != want {
			t.Errorf("detail: %s, want %s", c.Detail, want)
		}
		fails(t, check(late(), 2), violation)
	})
	t.Run("etcd was wiped", func(t *testing.T) {
		m := newMirror()
		m.claim(1)
		m.gen, m.rev = 1, 2
		m.claim(2)
		m.txn(taskOp("app", "a", "Bound", "n1", 2), taskOp("app", "b", "TaskAllocated", "n1", 2))
		c := check(m)
		holds(t, c)
		want := "1 bindings recorded by their own epoch or an older one; does not apply to 1 whose records were wiped with etcd"
		if c.Detail != want {
			t.Errorf("detail: %s, want %s", c.Detail, want)
		}
	})
	t.Run("etcd was wiped before the epoch was claimed", func(t *testing.T) {
		m := late()
		for i := range m.events {
			m.events[i].Generation = 1
		}
		fails(t, check(m), violation)
	})
	t.Run("gaps", func(t *testing.T) {
		gap := []history.Gap{{What: "etcd", After: 3, Until: 9, Reason: "compacted"}}
		fails(t, IntentBeforeBind(twoBound().pods, nil, good().events, gap, IntentOptions{}), "lacks revisions 4 to 9")
		fails(t, IntentBeforeBind(twoBound().pods, gap, good().events, nil, IntentOptions{}), "lacks revisions 4 to 9")
	})
	t.Run("nothing was bound", func(t *testing.T) {
		fails(t, IntentBeforeBind(nil, nil, good().events, nil, IntentOptions{}), "no binding was observed")
	})
}
