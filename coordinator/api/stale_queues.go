package api

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"

	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// staleQueues answers with the queues in which there are applications, and those above them:
// what is allocated in each, and how many applications run. The records have no limits.
func (a *API) staleQueues(w http.ResponseWriter, r *http.Request) {
	if _, err := staleQueue(r); err != nil {
		err.write(w)
		return
	}
	found := make(queueTree)
	if !a.source.Read(r.Context(), func(l *ledger.Ledger) {
		for app := range l.Apps() {
			if !app.State.Terminal() {
				found.add(apiv1.QueueOf(app), app.State, l.Usage(app.ID))
			}
		}
	}) {
		a.unavailable(w, r, a.source.Standing(), noView)
		return
	}
	a.core.turns.write(w, r, func() any { return found.dao(configs.RootQueue) })
}

// queueTree is what there is in each queue, and in all below it, by the queue's full name.
type queueTree map[string]*queueUse

type queueUse struct {
	used     map[string]int64
	running  uint64
	children map[string]bool // by full name
}

// add counts an application in its queue and in all above it.
func (t queueTree) add(queue string, state ledger.AppState, used map[string]int64) {
	for below := ""; ; {
		use := t[queue]
		if use == nil {
			use = &queueUse{used: make(map[string]int64), children: make(map[string]bool)}
			t[queue] = use
		}
		for name, amount := range used {
			use.used[name] += amount
		}
		if state == ledger.AppStateRunning {
			use.running++
		}
		if below != "" {
			use.children[below] = true
		}
		dot := strings.LastIndexByte(queue, '.')
		if dot < 0 {
			return
		}
		below, queue = queue, queue[:dot]
	}
}

func (t queueTree) dao(queue string) dao.PartitionQueueDAOInfo {
	use := t[queue]
	if use == nil {
		use = &queueUse{} // the root, without applications
	}
	out := dao.PartitionQueueDAOInfo{
		QueueName: queue, Partition: configs.DefaultPartition, AllocatedResource: use.used,
		IsLeaf: len(use.children) == 0, RunningApps: use.running,
	}
	if dot := strings.LastIndexByte(queue, '.'); dot >= 0 {
		out.Parent = queue[:dot]
	}
	for _, child := range slices.Sorted(maps.Keys(use.children)) {
		out.Children = append(out.Children, t.dao(child))
		out.ChildNames = append(out.ChildNames, child)
	}
	return out
}
