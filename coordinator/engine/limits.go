package engine

import (
	"slices"
	"strings"

	"github.com/apache/yunikorn-core/pkg/common"
	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/scheduler/ugm"
)

// settleLimits has the core's limits of users and groups be those of a configuration, and
// nothing else. Told of a change, the core forgets who has a limit elsewhere than before
// (ugm.Manager.clearEarlierSetLimits); told again, it has nothing to forget. Where users had
// the limit of everybody, and somebody still has one of his own, it leaves them that
// (clearEarlierSetUserWildCardLimits); so it is told of such queues once more as if nobody
// had one of his own. For those microseconds, these users have the limit of everybody.
func (e *Engine) settleLimits(root configs.QueueConfig) error {
	before := make(map[string]configs.Limit)
	if was := e.limits.Swap(&root); was != nil {
		everybodys(*was, configs.RootQueue, before)
	}
	users := ugm.GetUserManager()
	if again, some := once(root, configs.RootQueue, before); some {
		if err := users.UpdateConfig(again, configs.RootQueue); err != nil {
			return err
		}
	}
	return users.UpdateConfig(root, configs.RootQueue)
}

// everybodysOf is the limit that a queue has for users who have none of their own.
func everybodysOf(q configs.QueueConfig) (configs.Limit, bool) {
	at := slices.IndexFunc(q.Limits, func(l configs.Limit) bool { return slices.Contains(l.Users, common.Wildcard) })
	if at < 0 {
		return configs.Limit{}, false
	}
	limit := q.Limits[at]
	limit.Users, limit.Groups = []string{common.Wildcard}, nil
	return limit, true
}

// everybodys adds those of a queue and of all below it, by path.
func everybodys(q configs.QueueConfig, path string, to map[string]configs.Limit) {
	if limit, ok := everybodysOf(q); ok {
		to[path] = limit
	}
	for _, below := range q.Queues {
		everybodys(below, pathBelow(path, below), to)
	}
}

// once is a queue with those below it, in which the limit of everybody that there was counts
// for users once more, alone, where there is none any more. It reports whether there is any
// such queue.
func once(q configs.QueueConfig, path string, before map[string]configs.Limit) (again configs.QueueConfig, some bool) {
	if was, ok := before[path]; ok {
		if _, still := everybodysOf(q); !still {
			some = true
			limits := []configs.Limit{was}
			for _, l := range q.Limits {
				if l.Users = nil; len(l.Groups) > 0 {
					limits = append(limits, l)
				}
			}
			q.Limits = limits
		}
	}
	all := slices.Clone(q.Queues)
	for i, below := range all {
		var changed bool
		all[i], changed = once(below, pathBelow(path, below), before)
		some = some || changed
	}
	q.Queues = all
	return q, some
}

func pathBelow(path string, q configs.QueueConfig) string {
	return path + configs.DOT + strings.ToLower(q.Name)
}
