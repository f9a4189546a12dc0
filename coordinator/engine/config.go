package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	schedulingv1 "k8s.io/api/scheduling/v1"

	"github.com/understudy-ha/understudy/coordinator/settings"
)

// Config says how the engine is run.
type Config struct {
	// RMID names this resource manager in the core; it becomes part of the
	// partition's name, which users see in the REST API.
	RMID string
	// PolicyGroup selects the queue configuration.
	PolicyGroup string
	// InstanceTypeLabel is the key of the label of nodes that names their type.
	InstanceTypeLabel string
	// Version is what the core is told about this program.
	Version string
	// ConfigYAML is the data of YuniKorn's ConfigMap: queues.yaml, and the
	// log.*, event.* and health.* settings. Without queues.yaml the core's own
	// default applies: a queue per namespace, created when it is needed.
	ConfigYAML map[string]string
	// LogLevel is the level at which the core logs, unless ConfigYAML says so by
	// log.level: a name, or what the core takes for one.
	LogLevel string
	// Now is the clock that stamps events; time.Now if nil.
	Now func() time.Time
	// OnWait, if set, is told why a task has no node yet, whenever that is of
	// another kind than before. It is called from one goroutine and may block.
	OnWait func(appID, taskID string, why Wait)
	// PriorityClass, if set, looks up a priority class, whose annotation may
	// protect its pods from preemption.
	PriorityClass func(name string) *schedulingv1.PriorityClass
	// ExplainInterval is how often the reasons of tasks that still fit nowhere
	// are looked for again.
	ExplainInterval time.Duration
	// Patience is how long the core may keep a chore waiting before that is
	// reported. The chore goes on waiting.
	Patience time.Duration
	// OnStuck, if set, is told that it has, and again for as long as it does. It
	// must return at once.
	OnStuck func(error)
	// CompleteAfter is for how long an application must have had no pods to
	// have completed.
	CompleteAfter time.Duration
}

// Default returns the configuration of a stock installation.
func Default() Config {
	return Config{
		RMID: settings.Default(settings.KeyClusterID), PolicyGroup: settings.Default(settings.KeyPolicyGroup),
		InstanceTypeLabel: settings.Default(settings.KeyInstanceTypeLabel), LogLevel: slog.LevelWarn.String(),
		ExplainInterval: 15 * time.Second, Patience: 30 * time.Second, CompleteAfter: 30 * time.Second,
	}
}

// Validate checks the configuration, that of the core included.
func (c Config) Validate() error {
	var errs []error
	if c.RMID == "" || strings.ContainsAny(c.RMID, "[]") {
		errs = append(errs, fmt.Errorf("rmID %q: must be set and hold no brackets", c.RMID))
	}
	if c.PolicyGroup == "" {
		errs = append(errs, errors.New("policyGroup: must be set"))
	}
	if err := settings.Check(map[string]string{settings.KeyLogLevel: c.LogLevel}); err != nil {
		errs = append(errs, fmt.Errorf("logLevel: %w", err))
	}
	if c.ExplainInterval <= 0 {
		errs = append(errs, fmt.Errorf("explainInterval %v: must be positive", c.ExplainInterval))
	}
	if c.Patience <= 0 {
		errs = append(errs, fmt.Errorf("patience %v: must be positive", c.Patience))
	}
	if c.CompleteAfter <= 0 {
		errs = append(errs, fmt.Errorf("completeAfter %v: must be positive", c.CompleteAfter))
	}
	errs = append(errs, Validate(c.ConfigYAML))
	return errors.Join(errs...)
}

// Validate checks YuniKorn's configuration; each error names the key, and a line where
// that can be said.
func Validate(data map[string]string) error {
	if err := settings.Check(data); err != nil {
		return err
	}
	queues, _ := split(data, "")
	if _, err := parse(queues); err != nil {
		return fmt.Errorf("%s: %w", settings.QueuesKey(data), err)
	}
	return nil
}

// split separates the queues from the rest, which the core wants apart. The
// core logs at the level given unless data says otherwise: its chatter is several
// lines per pod.
func split(data map[string]string, level string) (queues string, extra map[string]string) {
	extra = maps.Clone(data)
	if extra == nil {
		extra = make(map[string]string)
	}
	queues = extra[settings.QueuesKey(data)]
	delete(extra, settings.QueuesKey(data))
	if strings.TrimSpace(queues) == "" {
		queues = configs.DefaultSchedulerConfig
	}
	if _, ok := extra[settings.KeyLogLevel]; !ok {
		extra[settings.KeyLogLevel] = level
	}
	return queues, extra
}
