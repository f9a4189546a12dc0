package engine

import (
	"github.com/apache/yunikorn-core/pkg/common/resources"
	"github.com/apache/yunikorn-core/pkg/scheduler/ugm"

	"github.com/understudy-ha/understudy/coordinator/accounting"
)

// Account returns who has how much, as the core counts: pods of other schedulers count on their nodes.
// It is not of one moment.
func (e *Engine) Account() accounting.Account {
	account := accounting.NewAccount()
	p := e.corePartition()
	if p == nil {
		return account
	}
	for _, node := range p.GetNodes() {
		account.Nodes.Add(node.NodeID, amounts(resources.Add(node.GetAllocatedResource(), node.GetOccupiedResource())))
	}
	account.Queues = e.QueueUsage()
	for _, user := range ugm.GetUserManager().GetUserTrackers() {
		if info := user.GetResourceUsageDAOInfo(); info != nil && info.Queues != nil {
			account.Users.Add(info.UserName, info.Queues.ResourceUsage)
		}
	}
	return account
}
