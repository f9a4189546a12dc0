package settings

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	"go.yaml.in/yaml/v3"

	"github.com/understudy-ha/understudy/coordinator/engine/chatter"
)

// Queue is one that is configured, or the partition, whose name is empty.
type Queue struct {
	Name string `json:"name"`
	// Fields are what is set, by the path of the field.
	Fields map[string]string `json:"fields,omitempty"`
	// Config is what the core reads, without the queues below.
	Config configs.QueueConfig `json:"-"`
}

// QueueChange is a difference between two configurations of queues.
type QueueChange struct {
	Queue string `json:"queue"`
	// Change is added, removed or changed.
	Change string        `json:"change"`
	Fields []FieldChange `json:"fields,omitempty"`
}

// FieldChange is a field that differs; empty is for one that is not set.
type FieldChange struct {
	Field string `json:"field"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

// Partition reads the queues of merged data: the configuration of the partition that is
// scheduled, as the core has it, and its queues in order, the partition's own fields first.
// Without queues in the data they are the core's default. The error is why the core refuses them.
func Partition(data map[string]string) (configs.PartitionConfig, []Queue, error) {
	text := data[QueuesKey(data)]
	if strings.TrimSpace(text) == "" {
		text = configs.DefaultSchedulerConfig
	}
	chatter.Capture()
	conf, err := configs.LoadSchedulerConfigFromByteArray([]byte(text))
	if err != nil {
		return configs.PartitionConfig{}, nil, err
	}
	at := slices.IndexFunc(conf.Partitions, func(p configs.PartitionConfig) bool { return isDefault(p.Name) })
	if at < 0 {
		return configs.PartitionConfig{}, nil, nil
	}
	p := conf.Partitions[at]
	own := p
	own.Queues = nil
	fields, err := fieldsOf(own)
	delete(fields, "name")
	queues := []Queue{{Fields: fields}}
	walk(&p, func(name string, q *configs.QueueConfig, _ []any) {
		alone := *q
		alone.Queues, alone.Name = nil, name
		fields, e := fieldsOf(alone)
		if e != nil {
			err = e
		}
		delete(fields, "name")
		queues = append(queues, Queue{name, fields, alone})
	})
	return p, queues, err
}

// fieldsOf flattens a value to the paths of what is set.
func fieldsOf(value any) (map[string]string, error) {
	text, err := yaml.Marshal(value)
	if err != nil {
		return nil, err
	}
	var tree any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, err
	}
	fields := make(map[string]string)
	flattenInto(fields, "", tree)
	return fields, nil
}

func flattenInto(fields map[string]string, path string, tree any) {
	switch tree := tree.(type) {
	case map[string]any:
		for key, value := range tree {
			flattenInto(fields, strings.TrimPrefix(path+"."+key, "."), value)
		}
	case []any:
		for i, value := range tree {
			flattenInto(fields, fmt.Sprintf("%s[%d]", path, i), value)
		}
	case nil:
	default:
		if text := fmt.Sprint(tree); text != "" {
			fields[path] = text
		}
	}
}

// QueueChanges compares the queues of merged data, in the order of their names. The error says
// which of the two cannot be read.
func QueueChanges(before, after map[string]string) ([]QueueChange, error) {
	was, err := queuesByName(before)
	if err != nil {
		return nil, fmt.Errorf("the old queues: %w", err)
	}
	is, err := queuesByName(after)
	if err != nil {
		return nil, fmt.Errorf("the new queues: %w", err)
	}
	both := maps.Clone(was)
	maps.Copy(both, is)
	var changes []QueueChange
	for _, name := range sortedKeys(both) {
		old, had := was[name]
		now, has := is[name]
		change := QueueChange{Queue: name, Change: "changed", Fields: fieldChanges(old.Fields, now.Fields)}
		switch {
		case !had:
			change.Change = "added"
		case !has:
			change.Change = "removed"
		case len(change.Fields) == 0:
			continue
		}
		changes = append(changes, change)
	}
	return changes, nil
}

func queuesByName(data map[string]string) (map[string]Queue, error) {
	_, queues, err := Partition(data)
	byName := make(map[string]Queue, len(queues))
	for _, q := range queues {
		byName[q.Name] = q
	}
	return byName, err
}

func fieldChanges(before, after map[string]string) []FieldChange {
	both := make(map[string]string)
	maps.Copy(both, before)
	maps.Copy(both, after)
	var changes []FieldChange
	for _, field := range sortedKeys(both) {
		if before[field] != after[field] {
			changes = append(changes, FieldChange{field, before[field], after[field]})
		}
	}
	return changes
}
