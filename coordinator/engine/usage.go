package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/yunikorn-core/pkg/common/resources"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"

	"github.com/understudy-ha/understudy/coordinator/requests"
)

// ErrMismatch says that the core's account is not what it should be.
var ErrMismatch = errors.New("the engine's usage of queues is not the ledger's")

// Mismatch is an amount that is not the same for the core and for the ledger.
type Mismatch struct {
	// App is the application whose allocations differ, empty if those of all
	// applications in the queue are right and the queue's account is not.
	App string
	// Queue is the full name of the queue, empty for an application that the core
	// does not have.
	Queue string
	// Resource is the engine's name of what differs.
	Resource string
	// Engine is what the core has allocated, and Ledger what it should have.
	Engine, Ledger int64
}

func (m Mismatch) String() string {
	what := "queue " + m.Queue
	switch {
	case m.App != "" && m.Queue != "":
		what = "application " + m.App + " in " + what
	case m.App != "":
		what = "application " + m.App + ", which it does not have,"
	}
	return fmt.Sprintf("%s uses %s %d, not %d", what, m.Resource, m.Engine, m.Ledger)
}

// Mismatches are all that differs. As an error they are an ErrMismatch that names
// application, queue and resource of each.
type Mismatches []Mismatch

// maxTold bounds how many mismatches an error names.
const maxTold = 10

func (m Mismatches) Error() string {
	var all []string
	for _, one := range m[:min(len(m), maxTold)] {
		all = append(all, one.String())
	}
	if len(m) > maxTold {
		all = append(all, fmt.Sprintf("and %d more", len(m)-maxTold))
	}
	return ErrMismatch.Error() + ": " + strings.Join(all, "; ")
}

// Is makes errors.Is(err, ErrMismatch) true.
func (m Mismatches) Is(target error) bool { return target == ErrMismatch }

// Apps returns the applications that are not as the ledger says, in order.
func (m Mismatches) Apps() []string {
	var apps []string
	for _, one := range m {
		if one.App != "" {
			apps = append(apps, one.App)
		}
	}
	slices.Sort(apps)
	return slices.Compact(apps)
}

// Compare returns where the core's allocations are not what the ledger says:
// usage is that by application, in the engine's units and without zeros. It
// waits until the core has taken over everything it was fed. An allocation whose
// node is not known yet is not the core's to have. The result is in the order of
// applications, queues and resources.
func (e *Engine) Compare(ctx context.Context, usage map[string]map[string]int64) (Mismatches, error) {
	if err := e.Sync(ctx); err != nil {
		return nil, err
	}
	found := e.compare(usage)
	if len(found) == 0 {
		return nil, nil
	}
	e.rehouse(found)
	// An application or a node may be on its way out or in again.
	if err := e.chored(ctx); err != nil {
		return nil, err
	}
	if err := e.Sync(ctx); err != nil {
		return nil, err
	}
	return e.compare(usage), nil
}

func (e *Engine) compare(usage map[string]map[string]int64) []Mismatch {
	p := e.corePartition()
	if p == nil {
		return nil
	}
	absent := e.absentUsage()
	got, want := absent, make(map[string]map[string]int64) // by application; by queue
	inCore := make(map[string]map[string]int64)            // by queue, what its applications have
	queues := make(map[string]string)
	for _, x := range p.GetApplications() {
		id, queue := x.ApplicationID, x.GetQueuePath()
		queues[id] = queue
		for _, res := range []*resources.Resource{x.GetAllocatedResource(), x.GetPlaceholderResource()} {
			used := amounts(res)
			addTo(got, id, used)
			addTo(inCore, queue, used)
		}
		addTo(want, queue, usage[id])
	}
	var found []Mismatch
	for _, id := range differing(got, usage) {
		found = append(found, differences(Mismatch{App: id, Queue: queues[id]}, got[id], usage[id])...)
	}
	inQueues := e.QueueUsage()
	for _, queue := range unionOf(inQueues, inCore) {
		// What the applications explain has been said.
		if !maps.Equal(inQueues[queue], inCore[queue]) && !slices.ContainsFunc(found, func(m Mismatch) bool { return m.Queue == queue }) {
			found = append(found, differences(Mismatch{Queue: queue}, inQueues[queue], want[queue])...)
		}
	}
	return found
}

// differing returns the applications that do not have the same in both, in order. As a rule there
// are none, of thousands.
func differing(got, want map[string]map[string]int64) (ids []string) {
	for id, amounts := range got {
		if !maps.Equal(amounts, want[id]) {
			ids = append(ids, id)
		}
	}
	for id, amounts := range want {
		if _, known := got[id]; !known && len(amounts) > 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// differences returns at once for each resource of which there is not the same.
func differences(at Mismatch, got, want map[string]int64) []Mismatch {
	var out []Mismatch
	for _, name := range unionOf(got, want) {
		if got[name] != want[name] {
			at.Resource, at.Engine, at.Ledger = name, got[name], want[name]
			out = append(out, at)
		}
	}
	return out
}

// unionOf returns the keys of both maps, sorted.
func unionOf[V any](a, b map[string]V) []string {
	out := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(out)
	return slices.Compact(out)
}

// amounts returns a resource of the core without zeros.
func amounts(res *resources.Resource) map[string]int64 {
	out := make(map[string]int64)
	if res == nil {
		return out
	}
	for name, v := range res.Resources {
		if v != 0 {
			out[name] = int64(v)
		}
	}
	return out
}

// addTo adds what to the sum of key.
func addTo(sums map[string]map[string]int64, key string, what map[string]int64) {
	if len(what) == 0 {
		return
	}
	if sums[key] == nil {
		sums[key] = make(map[string]int64)
	}
	for name, v := range what {
		sums[key][name] = requests.Sum(sums[key][name], v)
	}
}

// absentUsage returns, by application, what the allocations take that wait for
// their node.
func (e *Engine) absentUsage() map[string]map[string]int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make(map[string]map[string]int64)
	for node, w := range e.waiting {
		for id, t := range w.tasks {
			if e.tasks[id] != t || !t.restore || t.sent || t.at != node {
				continue // see nodeAccepted
			}
			addTo(out, t.rec.AppID, bounded(t.rec.Resources))
		}
	}
	return out
}

// QueueUsage returns what is allocated in each queue that has, or may have,
// applications of its own, by the queue's full name, in the engine's units. What
// the queues below it have is not its own. Call Sync first to include everything
// that was fed.
func (e *Engine) QueueUsage() map[string]map[string]int64 {
	out := make(map[string]map[string]int64)
	if p := e.corePartition(); p != nil {
		collectUsage(p.GetQueue("root"), out)
	}
	return out
}

// collectUsage adds what q and the queues below it have. After a change of the
// configuration a queue may have both applications and queues below it: those
// that its former kind has left there stay until they end.
func collectUsage(q *objects.Queue, out map[string]map[string]int64) {
	if q == nil {
		return
	}
	children := q.GetCopyOfChildren()
	for _, child := range children {
		collectUsage(child, out)
	}
	if len(q.GetCopyOfApps()) == 0 && (len(children) > 0 || !q.IsLeafQueue()) {
		return
	}
	own := amounts(q.GetAllocatedResource())
	for _, child := range children {
		for name, v := range amounts(child.GetAllocatedResource()) {
			if own[name] -= v; own[name] == 0 {
				delete(own, name)
			}
		}
	}
	out[q.GetQueuePath()] = own
}
