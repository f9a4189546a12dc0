package engine

import (
	"errors"
	"fmt"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/common/security"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects/template"
	"github.com/apache/yunikorn-core/pkg/scheduler/placement"
)

// errNoPartition: the core would fail all applications and forget all nodes.
var errNoPartition = errors.New(`there is no partition "default"`)

// parse reads a queue configuration, and refuses what the core would refuse only once it
// has applied a part of it.
func parse(text string) (*configs.SchedulerConfig, error) {
	conf, err := configs.LoadSchedulerConfigFromByteArray([]byte(text))
	if err == nil {
		err = rehearse(conf)
	}
	return conf, err
}

// rehearse applies a queue configuration to nothing. The core's validation passes more
// than its queues and rules take: a core that starts with such rules has none, and one that
// is given them later keeps what comes before the error, the log levels, and the partitions
// that are listed first.
func rehearse(conf *configs.SchedulerConfig) error {
	var errs []error
	scheduled := false
	for _, p := range conf.Partitions {
		scheduled = scheduled || p.Name == configs.DefaultPartition
		errs = append(errs, rehearseResolver(p.UserGroupResolver))
		if err := placement.NewPlacementManager(nil, nil, true).UpdateRules(p.PlacementRules); err != nil {
			errs = append(errs, fmt.Errorf("placement rules: %w", err))
		}
		for _, q := range p.Queues {
			errs = append(errs, rehearseQueue(q, q.Name))
		}
	}
	if !scheduled {
		errs = append(errs, errNoPartition)
	}
	return errors.Join(errs...)
}

// rehearseQueue does what a queue of the core does with its definition, but for what has
// been validated, and those below it.
func rehearseQueue(q configs.QueueConfig, path string) error {
	_, submit := security.NewACL(q.SubmitACL, true)
	_, admin := security.NewACL(q.AdminACL, true)
	_, child := template.FromConf(&q.ChildTemplate)
	err := errors.Join(submit, admin, child)
	if err != nil {
		err = fmt.Errorf("queue %s: %w", path, err)
	}
	for _, below := range q.Queues {
		err = errors.Join(err, rehearseQueue(below, path+configs.DOT+below.Name))
	}
	return err
}
