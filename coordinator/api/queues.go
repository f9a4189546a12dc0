package api

import (
	"net/http"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/scheduler/ugm"
	"github.com/apache/yunikorn-core/pkg/webservice"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"
)

// queues answers with the root queue and all below it.
func (c *core) queues(w http.ResponseWriter, r *http.Request) {
	partition, err := c.partition(r)
	if err != nil {
		err.write(w)
		return
	}
	c.turns.write(w, r, func() any { return partition.GetPartitionQueues() })
}

// oneQueue answers with a queue, and with those below it if the query has subtree.
func (c *core) oneQueue(w http.ResponseWriter, r *http.Request) {
	queue, err := c.queue(r)
	if err != nil {
		err.write(w)
		return
	}
	c.turns.write(w, r, func() any { return queue.GetPartitionQueueDAOInfo(r.URL.Query().Has("subtree")) })
}

func (c *core) placementRules(w http.ResponseWriter, r *http.Request) {
	partition, err := c.partition(r)
	if err != nil {
		err.write(w)
		return
	}
	c.turns.write(w, r, func() any { return partition.GetPlacementRules() })
}

// users and the other three do not look at the partition, nor does the core: its users
// belong to all partitions.
func (c *core) users(w http.ResponseWriter, r *http.Request) {
	writeList(c.turns, w, r, ugm.GetUserManager().GetUserTrackers(), func(u *ugm.UserTracker) any {
		return u.GetResourceUsageDAOInfo()
	})
}

func (c *core) user(w http.ResponseWriter, r *http.Request) {
	name, err := unescaped(r, "user")
	switch {
	case err != nil:
	case !configs.UserRegExp.MatchString(name):
		err = badRequest(webservice.InvalidUserName)
	default:
		if tracker := ugm.GetUserManager().GetUserTracker(name); tracker != nil {
			c.turns.write(w, r, func() any { return tracker.GetResourceUsageDAOInfo() })
			return
		}
		err = notFound(webservice.UserDoesNotExists)
	}
	err.write(w)
}

func (c *core) groups(w http.ResponseWriter, r *http.Request) {
	writeList(c.turns, w, r, ugm.GetUserManager().GetGroupTrackers(), func(g *ugm.GroupTracker) any {
		return g.GetResourceUsageDAOInfo()
	})
}

func (c *core) group(w http.ResponseWriter, r *http.Request) {
	name, err := unescaped(r, "group")
	switch {
	case err != nil:
	case !configs.GroupRegExp.MatchString(name):
		err = badRequest(webservice.InvalidGroupName)
	default:
		if tracker := ugm.GetUserManager().GetGroupTracker(name); tracker != nil {
			c.turns.write(w, r, func() any { return tracker.GetResourceUsageDAOInfo() })
			return
		}
		err = notFound(webservice.GroupDoesNotExists)
	}
	err.write(w)
}

// allRules are the placement rules of all partitions, as the state dump has them.
func (c *core) allRules() []*dao.RuleDAOInfo {
	var all []*dao.RuleDAOInfo
	for _, partition := range c.partitions() {
		all = append(all, &dao.RuleDAOInfo{Partition: nameOf(partition), Rules: partition.GetPlacementRules()})
	}
	return all
}
