package api

import (
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/apache/yunikorn-core/pkg/common/resources"
	"github.com/apache/yunikorn-core/pkg/scheduler"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-core/pkg/webservice"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"
)

func (c *core) nodes(w http.ResponseWriter, r *http.Request) {
	partition, err := c.partition(r)
	if err != nil {
		err.write(w)
		return
	}
	writeList(c.turns, w, r, partition.GetNodes(), func(node *objects.Node) any { return c.nodeOf(r.Context(), node) })
}

func (c *core) node(w http.ResponseWriter, r *http.Request) {
	partition, err := c.partition(r)
	if err != nil {
		err.write(w)
		return
	}
	node := partition.GetNode(param(r, "node"))
	if node == nil {
		notFound(webservice.NodeDoesNotExists).write(w)
		return
	}
	c.turns.write(w, r, func() any { return c.nodeOf(r.Context(), node) })
}

func nodeOf(node *objects.Node) *dao.NodeDAOInfo {
	return &dao.NodeDAOInfo{
		NodeID:             node.NodeID,
		HostName:           node.Hostname,
		RackName:           node.Rackname,
		Attributes:         node.GetAttributes(),
		Capacity:           node.GetCapacity().DAOMap(),
		Occupied:           node.GetOccupiedResource().DAOMap(),
		Allocated:          node.GetAllocatedResource().DAOMap(),
		Available:          node.GetAvailableResource().DAOMap(),
		Utilized:           node.GetUtilizedResource().DAOMap(),
		Allocations:        each(node.GetYunikornAllocations(), allocationOf),
		ForeignAllocations: each(node.GetForeignAllocations(), foreignOf),
		Schedulable:        node.IsSchedulable(),
		IsReserved:         node.IsReserved(),
		Reservations:       node.GetReservationKeys(),
	}
}

func foreignOf(alloc *objects.Allocation) *dao.ForeignAllocationDAOInfo {
	return &dao.ForeignAllocationDAOInfo{
		AllocationKey:    alloc.GetAllocationKey(),
		AllocationTags:   alloc.GetTagsClone(),
		AllocationTime:   alloc.GetCreateTime().UnixNano(),
		ResourcePerAlloc: alloc.GetAllocatedResource().DAOMap(),
		Priority:         strconv.Itoa(int(alloc.GetPriority())),
		NodeID:           alloc.GetNodeID(),
		Preemptable:      alloc.IsPreemptable(),
	}
}

// nodeUtilizations answers, for each resource, with how many nodes are full to which tenth.
func (c *core) nodeUtilizations(w http.ResponseWriter, r *http.Request) {
	c.turns.write(w, r, func() any {
		var all []*dao.PartitionNodesUtilDAOInfo // null without a partition, as in the core
		for _, partition := range c.partitions() {
			all = append(all, utilizationOf(partition))
		}
		return all
	})
}

// tenths are the buckets of utilizations.
const tenths = 10

func utilizationOf(partition *scheduler.PartitionContext) *dao.PartitionNodesUtilDAOInfo {
	buckets := make(map[string]*[tenths][]string) // names of nodes, by resource
	for _, node := range partition.GetNodes() {
		capacity := node.GetCapacity()
		used := resources.CalculateAbsUsedCapacity(capacity, node.GetAllocatedResource())
		for name := range capacity.Resources { // what a node does not have does not count it
			if buckets[name] == nil {
				buckets[name] = new([tenths][]string)
			}
			at := tenthOf(used, name)
			buckets[name][at] = append(buckets[name][at], node.NodeID)
		}
	}
	out := &dao.PartitionNodesUtilDAOInfo{
		ClusterID: partition.RmID, Partition: nameOf(partition),
	}
	for name, bucket := range buckets {
		util := &dao.NodesUtilDAOInfo{ResourceType: name}
		for k, nodes := range bucket {
			util.NodesUtil = append(util.NodesUtil, &dao.NodeUtilDAOInfo{
				BucketName: fmt.Sprintf("%d-%d%%", k*10, (k+1)*10), NumOfNodes: int64(len(nodes)), NodeNames: nodes,
			})
		}
		out.NodesUtilList = append(out.NodesUtilList, util)
	}
	return out
}

// tenthOf is the bucket of a percentage: 0 to 10 % is the first. A node that has more than
// its capacity, of which the core's own service would panic, is in the last.
func tenthOf(used *resources.Resource, name string) int {
	percent, ok := used.Resources[name]
	if !ok {
		return 0
	}
	return min(tenths-1, int(math.Dim(math.Ceil(float64(percent)/10), 1)))
}
