package settings

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"
	"k8s.io/apimachinery/pkg/util/validation"
)

// check returns what is wrong with a value of a key; nil if nothing is. Queues are read
// elsewhere.
func (k Key) check(value string) error {
	switch k.Kind {
	case Bool:
		if _, err := strconv.ParseBool(value); err != nil {
			return fmt.Errorf("is %q, want true or false", value)
		}
	case Int:
		if _, err := strconv.ParseInt(value, 10, 32); err != nil {
			return fmt.Errorf("is %q, want a whole number", value)
		}
	case Uint:
		if _, err := strconv.ParseUint(value, 10, 63); err != nil {
			return fmt.Errorf("is %q, want a whole number, 0 or more", value)
		}
	case Duration:
		if _, err := time.ParseDuration(value); err != nil {
			return fmt.Errorf(`is %q, want a duration with its unit, such as "30s"`, value)
		}
	case Level:
		return checkLevel(value)
	case Patterns:
		if _, err := CompilePatterns(value); err != nil {
			return err
		}
	}
	return k.sense(value)
}

// sense checks values that can be read and cannot be used.
func (k Key) sense(value string) error {
	switch k.Name {
	case KeyClusterID:
		if value == "" || strings.ContainsAny(value, "[]") {
			return fmt.Errorf("is %q, want a name without brackets", value)
		}
	case KeyPolicyGroup:
		if errs := validation.IsConfigMapKey(value + suffixQueues); value == "" || len(errs) > 0 {
			return fmt.Errorf("is %q, want the name of a key without its suffix %s", value, suffixQueues)
		}
	case KeyPlaceholderImage:
		if value == "" || strings.ContainsAny(value, " \t\r\n") {
			return fmt.Errorf("is %q, want the name of an image", value)
		}
	case KeyVolumeBindTimeout:
		if d, err := time.ParseDuration(value); err == nil && d <= 0 {
			return fmt.Errorf("is %q, want more than zero", value)
		}
	case KeyInstanceTypeLabel:
		if errs := validation.IsQualifiedName(value); len(errs) > 0 {
			return fmt.Errorf("is %q, want the key of a label: %s", value, errs[0])
		}
	}
	return nil
}

// checkLevel accepts what the core accepts: a name, or a number from -1 (debug) to 5.
func checkLevel(value string) error {
	if _, err := zapcore.ParseLevel(value); err == nil {
		return nil
	}
	if _, err := strconv.ParseInt(value, 10, 8); err == nil {
		return nil
	}
	return fmt.Errorf("unknown log level %q", value)
}

// CompilePatterns reads regular expressions that commas separate.
func CompilePatterns(list string) ([]*regexp.Regexp, error) {
	var patterns []*regexp.Regexp
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		pattern, err := regexp.Compile(part)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, pattern)
	}
	return patterns, nil
}

// Settings are the values that replicas use, besides queues, the log's levels and events, which
// go to the core as they are, and admission's own.
type Settings struct {
	// ClusterID is part of the partition's name.
	ClusterID string
	// PolicyGroup selects the key of the queues: see QueuesKey.
	PolicyGroup string
	// VolumeBindTimeout is how long to wait for the volumes of a pod.
	VolumeBindTimeout     time.Duration
	DisableGangScheduling bool
	// HotRefresh is false where changes wait for the next hand-over.
	HotRefresh       bool
	PlaceholderImage string
	// RunAsUser, RunAsGroup and FSGroup are placeholders'; zero means unset.
	RunAsUser, RunAsGroup, FSGroup int64
	// InstanceTypeLabel is the label of nodes that names their type.
	InstanceTypeLabel string
	// QPS and Burst bound the requests of one replica to the API server.
	QPS, Burst int
	// GenerateUniqueAppID gives each pod that names no application one of its own.
	GenerateUniqueAppID bool

	given map[string]bool
}

// Given reports whether the ConfigMaps say something of a key; else the field has YuniKorn's
// default, and a replica's own file may say otherwise.
func (s Settings) Given(key string) bool { return s.given[key] }

// Parse reads merged data, without the queues. One value that YuniKorn would refuse fails all:
// the error joins a *Problem for each. Keys that nobody reads are ignored.
func Parse(data map[string]string) (Settings, error) {
	var problems []Problem
	for _, key := range sortedKeys(data) {
		problems = append(problems, checkKey(data, key, "")...)
	}
	if err := Refusal(problems); err != nil {
		return Settings{}, err
	}
	r := reader{data: data}
	s := Settings{
		ClusterID: value(data, KeyClusterID), PolicyGroup: value(data, KeyPolicyGroup), VolumeBindTimeout: r.duration(KeyVolumeBindTimeout),
		DisableGangScheduling: r.boolean(KeyDisableGangs), HotRefresh: r.boolean(KeyHotRefresh), PlaceholderImage: value(data, KeyPlaceholderImage),
		RunAsUser: r.number(KeyRunAsUser), RunAsGroup: r.number(KeyRunAsGroup), FSGroup: r.number(KeyFSGroup),
		InstanceTypeLabel: value(data, KeyInstanceTypeLabel), QPS: int(r.number(KeyQPS)), Burst: int(r.number(KeyBurst)),
		GenerateUniqueAppID: r.boolean(KeyUniqueAppID), given: make(map[string]bool, len(data)),
	}
	for key := range data {
		s.given[key] = true
	}
	return s, errors.Join(r.errs...)
}

// reader reads values that have been checked; an error is a fault of the table.
type reader struct {
	data map[string]string
	errs []error
}

func read[T any](r *reader, key string, parse func(string) (T, error)) T {
	v, err := parse(value(r.data, key))
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("%s: %w", key, err))
	}
	return v
}

func (r *reader) boolean(key string) bool           { return read(r, key, strconv.ParseBool) }
func (r *reader) duration(key string) time.Duration { return read(r, key, time.ParseDuration) }
func (r *reader) number(key string) int64 {
	return read(r, key, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) })
}
