package standby

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// kill says when a lead dies.
type kill struct {
	// step is that after which it dies, or with between the one that is done while nobody
	// leads; negative for none.
	step    int
	between bool
	cold    bool // who follows it is started after that
	// commit is that at which it dies, zero for none; lost says that it is lost.
	commit int
	lost   bool
}

func (k kill) String() string {
	switch {
	case k.commit > 0 && k.lost:
		return fmt.Sprintf("before commit %d is durable", k.commit)
	case k.commit > 0:
		return fmt.Sprintf("once commit %d is durable", k.commit)
	case k.step < 0:
		return "never"
	case k.between:
		return fmt.Sprintf("before step %d", k.step)
	}
	return fmt.Sprintf("after step %d, cold %t", k.step, k.cold)
}

// played plays a script and returns what has come of it, and how many commits that took.
func played(t *testing.T, script []state, when kill) (o outcome, commits int) {
	synctest.Test(t, func(t *testing.T) {
		die := func(w *killWorld) {
			w.mu.Lock()
			w.commits, w.dieAt, w.lost = 0, when.commit, when.lost
			w.mu.Unlock()
		}
		w := newKillWorld(t, killManagers, func(w *killWorld) {
			if script[0].name == atFirst {
				script[0].do(w)
				die(w)
			}
		})
		w.settle()
		if script[0].name != atFirst {
			die(w)
		}
		for i, s := range script {
			switch {
			case s.name == atFirst:
			case s.do == nil:
				w.later()
			case i == when.step && when.between:
				w.failOver(false, func() { s.do(w) })
			default:
				s.do(w)
			}
			w.settle()
			if i == when.step && !when.between {
				w.failOver(when.cold, nil)
				w.settle()
			}
		}
		w.later()
		o, commits = w.outcome(), w.commits
	})
	return o, commits
}

// TestKills: at whatever state of an object's life the lead is killed, everything comes to
// the same end as without: records, statuses, pods, and Events. In the middle of a step, at
// each commit, it does so but for Events of that step, of which none is told twice.
func TestKills(t *testing.T) {
	all := maps.Clone(scripts)
	maps.Copy(all, gangScripts)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			script := all[name]
			want, commits := played(t, script, kill{step: -1})
			t.Logf("%d states, %d commits, events %q", len(script), commits, want.events)
			var kills []kill
			for i := range script {
				kills = append(kills, kill{step: i}, kill{step: i, cold: true}, kill{step: i, between: true})
			}
			for n := range commits {
				kills = append(kills, kill{step: -1, commit: n + 1}, kill{step: -1, commit: n + 1, lost: true})
			}
			for i := 0; i < len(kills); i += everyKill {
				same(t, script, kills[i], want)
			}
		})
	}
}

// same plays a script with a kill and compares what comes of it.
func same(t *testing.T, script []state, when kill, want outcome) {
	t.Helper()
	got, _ := played(t, script, when)
	where := when.String()
	if when.step >= 0 {
		where += " (" + script[when.step].name + ")"
	}
	differ := func(got, want []string) {
		more, less := without(got, want), without(want, got)
		if len(more)+len(less) > 0 {
			t.Errorf("killed %s: there is\n%s\nin place of\n%s", where, strings.Join(more, "\n"), strings.Join(less, "\n"))
		}
	}
	differ(got.state, want.state)
	if !within(got.written, want.written) {
		t.Errorf("killed %s: statuses were %q, want %q in that order", where, got.written, want.written)
	}
	// What a lead was about to tell of a step that was under way dies with it.
	if when.commit > 0 && within(got.events, want.events) {
		return
	}
	differ(got.events, want.events)
}

// within reports whether all has what some has, in the same order.
func within(some, all []string) bool {
	for _, one := range all {
		if len(some) > 0 && some[0] == one {
			some = some[1:]
		}
	}
	return len(some) == 0
}

// without returns what some has and others do not, each as often as it has it more.
func without(some, others []string) []string {
	left := slices.Clone(others)
	return slices.DeleteFunc(slices.Clone(some), func(one string) bool {
		i := slices.Index(left, one)
		if i >= 0 {
			left = slices.Delete(left, i, i+1)
		}
		return i >= 0
	})
}
