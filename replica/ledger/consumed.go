package ledger

import (
	"cmp"
	"maps"
	"math"
	"math/bits"
	"slices"
	"time"
)

// Consumption is what allocations of one kind, on nodes of one type, took until they ended.
type Consumption struct {
	Kind         ConsumptionKind
	InstanceType string // of the nodes, empty if it is not known
	// ResourceSeconds is each amount, in the engine's unit, times the whole seconds for which it
	// was taken. It stops at the largest integer.
	ResourceSeconds map[string]int64
}

// ConsumptionKind says whose consumption it is.
type ConsumptionKind string

// The kinds, as YuniKorn tells them apart: what was preempted is that alone, a placeholder too.
const (
	ConsumedByPods         ConsumptionKind = ""
	ConsumedByPlaceholders ConsumptionKind = "placeholder"
	ConsumedByPreempted    ConsumptionKind = "preempted"
)

func kindOf(t *Task) ConsumptionKind {
	switch {
	case t.Termination == PreemptedByEngine:
		return ConsumedByPreempted
	case t.Placeholder:
		return ConsumedByPlaceholders
	}
	return ConsumedByPods
}

// MostUsed returns the most that the allocations of an application have taken at one time, of each
// resource. Placeholders and pods count apart, as in YuniKorn. The map is the caller's.
func (l *Ledger) MostUsed(appID string) map[string]int64 {
	if e := l.apps[appID]; e != nil && e.app != nil {
		return e.mostUsed()
	}
	return nil
}

// mostUsed is what the record has, or what is in use now: the record is written before anything
// of that is given back.
func (e *entry) mostUsed() map[string]int64 {
	most := maps.Clone(e.app.MostUsed)
	if most == nil {
		most = make(map[string]int64, len(e.used))
	}
	for name := range e.used {
		if use := e.inUse(name); use > most[name] {
			most[name] = use
		}
	}
	return most
}

// inUse is what counts as used of a resource: what the placeholders or the pods take, whichever is more.
func (e *entry) inUse(name string) int64 { return max(e.held[name], e.used[name]-e.held[name]) }

// usesMore reports whether more is in use than the record has.
func (e *entry) usesMore() bool {
	for name := range e.used {
		if e.inUse(name) > e.app.MostUsed[name] {
			return true
		}
	}
	return false
}

// account notes in the record of its application what a task gives back, before what is in use is
// counted anew. now is the task's record after that, nil if it has none.
func (s *step) account(n *entry, id string, now *Task) {
	old := n.placed[id]
	if old == nil || n.app == nil {
		return
	}
	ends := now == nil || !now.Placed()
	if !ends && !anyLess(now.Resources, old.Resources) {
		return
	}
	if n.usesMore() {
		s.editApp(n).MostUsed = n.mostUsed()
	}
	if !ends {
		return
	}
	if now == nil {
		now = old
	}
	if len(old.Resources) == 0 {
		return
	}
	app := s.editApp(n)
	app.Consumed = consumed(app.Consumed, kindOf(now), old, max(0, int64(time.Duration(s.at-old.Allocated)/time.Second)))
}

// noteIdle notes since when an application has had nothing to do, or that it has again.
func (s *step) noteIdle(n *entry) {
	switch {
	case n.app == nil:
	case n.live > 0 && n.app.Idle != 0:
		s.editApp(n).Idle = 0
	case n.live == 0 && n.app.Idle == 0 && n.app.State == AppStateRunning:
		s.editApp(n).Idle = s.at
	}
}

// anyLess reports whether one has less of any resource than the other.
func anyLess(one, other map[string]int64) bool {
	for name, amount := range other {
		if one[name] < amount {
			return true
		}
	}
	return false
}

// consumed returns all with what a task took for some seconds.
func consumed(all []Consumption, kind ConsumptionKind, t *Task, seconds int64) []Consumption {
	all = slices.Clone(all)
	i, found := slices.BinarySearchFunc(all, Consumption{Kind: kind, InstanceType: t.InstanceType}, func(a, b Consumption) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.InstanceType, b.InstanceType))
	})
	if !found {
		all = slices.Insert(all, i, Consumption{Kind: kind, InstanceType: t.InstanceType})
	}
	sum := maps.Clone(all[i].ResourceSeconds)
	if sum == nil {
		sum = make(map[string]int64, len(t.Resources))
	}
	for name, amount := range t.Resources {
		sum[name] = addProduct(sum[name], Bounded(amount), seconds)
	}
	all[i].ResourceSeconds = sum
	return all
}

// addProduct returns sum + a × b, or the largest integer. None is negative.
func addProduct(sum, a, b int64) int64 {
	high, low := bits.Mul64(uint64(a), uint64(b))
	if high > 0 || low > uint64(math.MaxInt64-sum) {
		return math.MaxInt64
	}
	return sum + int64(low)
}
