package v1

import (
	"context"
	"math"
	"slices"
	"strings"

	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"
)

// pieces calls yield with a list that is in order, some items at a time.
func pieces[A, T any](list []A, yield func([]T) error, convert func(A) T) error {
	for piece := range slices.Chunk(list, pieceItems) {
		items := make([]T, 0, len(piece))
		for _, one := range piece {
			items = append(items, convert(one))
		}
		if err := yield(items); err != nil {
			return err
		}
	}
	return nil
}

func queues() *kind[Queue] {
	return lookingAt(&kind[Queue]{
		name: "queues", one: "queue", named: "name",
		about: "queues, each after the one that it is part of, from the lead's scheduling core",
		key:   func(x Queue) string { return x.Name }, id: func(x Queue) string { return x.Name },
		walk: func(_ context.Context, a *API, after string, yield func([]Queue) error) error {
			core := a.Core()
			if core == nil {
				return errNoCore
			}
			var all []*dao.PartitionQueueDAOInfo
			root := core.GetPartitionQueues()
			flatten(&root, &all)
			all = slices.DeleteFunc(all, func(q *dao.PartitionQueueDAOInfo) bool { return q.QueueName <= after })
			slices.SortFunc(all, func(a, b *dao.PartitionQueueDAOInfo) int { return strings.Compare(a.QueueName, b.QueueName) })
			return pieces(all, yield, queueIn)
		},
	})
}

func flatten(q *dao.PartitionQueueDAOInfo, to *[]*dao.PartitionQueueDAOInfo) {
	*to = append(*to, q)
	for i := range q.Children {
		flatten(&q.Children[i], to)
	}
}

func queueIn(q *dao.PartitionQueueDAOInfo) Queue {
	x := Queue{
		Name: q.QueueName, Parent: q.Parent, State: q.Status, Leaf: q.IsLeaf, Managed: q.IsManaged, Max: resources(q.MaxResource),
		Guaranteed: resources(q.GuaranteedResource), Used: resources(q.AllocatedResource), Pending: resources(q.PendingResource),
		Preempting: resources(q.PreemptingResource), Running: q.RunningApps, MaxRunning: q.MaxRunningApps,
		SortPolicy: q.SortingPolicy,
	}
	if q.CurrentPriority != math.MinInt32 { // with which the core says that nothing waits
		x.MaxPriority = q.CurrentPriority
	}
	return x
}

func nodes() *kind[Node] {
	return lookingAt(&kind[Node]{
		name: "nodes", one: "node", named: "name",
		about: "nodes, as the lead's scheduling core counts them",
		key:   func(x Node) string { return x.Name }, id: func(x Node) string { return x.Name },
		walk: func(_ context.Context, a *API, after string, yield func([]Node) error) error {
			core := a.Core()
			if core == nil {
				return errNoCore
			}
			all := slices.DeleteFunc(slices.Clone(core.GetNodes()), func(n *objects.Node) bool { return n.NodeID <= after })
			slices.SortFunc(all, func(a, b *objects.Node) int { return strings.Compare(a.NodeID, b.NodeID) })
			return pieces(all, yield, nodeIn)
		},
		find: func(_ context.Context, a *API, id string) (*Node, error) {
			core := a.Core()
			if core == nil {
				return nil, errNoCore
			}
			node := core.GetNode(id)
			if node == nil {
				return nil, nil
			}
			x := nodeIn(node)
			return &x, nil
		},
	})
}

func nodeIn(n *objects.Node) Node {
	return Node{
		Name: n.NodeID, Schedulable: n.IsSchedulable(), Reserved: n.IsReserved(), Capacity: resources(n.GetCapacity().DAOMap()),
		Allocated: resources(n.GetAllocatedResource().DAOMap()), Occupied: resources(n.GetOccupiedResource().DAOMap()),
		Available: resources(n.GetAvailableResource().DAOMap()), Tasks: len(n.GetYunikornAllocations()),
		ForeignPods: len(n.GetForeignAllocations()), Reservations: slices.Sorted(slices.Values(n.GetReservationKeys())),
	}
}
