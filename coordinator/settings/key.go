package settings

import (
	"maps"
	"slices"
	"strings"
)

// Kind says how a value is read.
type Kind string

// The kinds of values.
const (
	Bool     Kind = "true or false"
	Int      Kind = "whole number"
	Uint     Kind = "whole number, 0 or more"
	Duration Kind = "duration"
	Level    Kind = "level of the log"
	String   Kind = "text"
	Queues   Kind = "YAML"
	Patterns Kind = "regular expressions with commas between them"
)

// Effect says how a change of a value takes effect.
type Effect string

const (
	// Hot takes effect as soon as a replica sees it.
	Hot Effect = "hot"
	// HandOver takes effect in replicas that start afterwards: YuniKorn has to be restarted,
	// here the replicas start again one after another, the lead last.
	HandOver Effect = "hand-over"
	// None has no effect here: what the key tunes does not exist.
	None Effect = "none"
	// Gone is for keys that older versions of YuniKorn read, and no version of today.
	Gone Effect = "gone"
)

// Reader is the component that reads a key.
type Reader string

// Who reads keys.
const (
	Scheduler Reader = "scheduler" // YuniKorn's shim
	Core      Reader = "core"      // yunikorn-core
	Admission Reader = "admission" // the admission controller
)

// Key is one key of the ConfigMaps.
type Key struct {
	// Name is the key; that of a family has <…> in it.
	Name string
	Kind Kind
	// Default is YuniKorn's, as text.
	Default string
	// File is the field of a replica's own configuration file that stands for the same; its
	// value counts where the ConfigMaps say nothing. Empty if there is none.
	File   string
	Reader Reader
	Effect Effect
	// Meaning is one sentence. It says why, where the key has no effect.
	Meaning string
}

// The keys that replicas read.
const (
	KeyClusterID         = "service.clusterId"
	KeyPolicyGroup       = "service.policyGroup"
	KeyVolumeBindTimeout = "service.volumeBindTimeout"
	KeyDisableGangs      = "service.disableGangScheduling"
	KeyHotRefresh        = "service.enableConfigHotRefresh"
	KeyPlaceholderImage  = "service.placeholderImage"
	KeyRunAsUser         = "service.placeholderRunAsUser"
	KeyRunAsGroup        = "service.placeholderRunAsGroup"
	KeyFSGroup           = "service.placeholderFsGroup"
	KeyInstanceTypeLabel = "service.nodeInstanceTypeNodeLabelKey"
	KeyQPS               = "kubernetes.qps"
	KeyBurst             = "kubernetes.burst"

	KeyLogLevel            = "log.level"
	KeyHealthCheckInterval = "health.checkInterval"

	KeyProcessNamespaces = prefixAdmission + "filtering.processNamespaces"
	KeyBypassNamespaces  = prefixAdmission + "filtering.bypassNamespaces"
	KeyLabelNamespaces   = prefixAdmission + "filtering.labelNamespaces"
	KeyNoLabelNamespaces = prefixAdmission + "filtering.noLabelNamespaces"
	KeyUniqueAppID       = prefixAdmission + "filtering.generateUniqueAppId"
	KeyBypassAuth        = prefixAdmission + "accessControl.bypassAuth"
	KeyTrustControllers  = prefixAdmission + "accessControl.trustControllers"
	KeySystemUsers       = prefixAdmission + "accessControl.systemUsers"
	KeyExternalUsers     = prefixAdmission + "accessControl.externalUsers"
	KeyExternalGroups    = prefixAdmission + "accessControl.externalGroups"
)

const (
	prefixAdmission = "admissionController."
	prefixLog       = "log."
	suffixLevel     = ".level"
	suffixQueues    = ".yaml"
)

// QueuesKey returns the key that holds the queues: service.policyGroup selects it.
func QueuesKey(data map[string]string) string {
	return value(data, KeyPolicyGroup) + suffixQueues
}

// Default returns YuniKorn's default of a key, empty if there is no such key.
func Default(name string) string {
	if at := slices.IndexFunc(table, func(k Key) bool { return k.Name == name }); at >= 0 {
		return table[at].Default
	}
	return ""
}

// value is what the data says, or else the default.
func value(data map[string]string, key string) string {
	if v, ok := data[key]; ok {
		return v
	}
	return Default(key)
}

// Table returns all keys, in the order of the documentation.
func Table() []Key { return slices.Clone(table) }

// Lookup returns the entry for a key of these data, in which the key is called as it is there.
// It reports false if nobody reads such a key.
func Lookup(data map[string]string, name string) (Key, bool) {
	of := name
	switch logger, level := loggerOf(name); {
	case name == QueuesKey(data):
		of = familyQueues
	case level && slices.Contains(loggers, logger):
		of = familyLog
	}
	at := slices.IndexFunc(table, func(k Key) bool { return k.Name == of })
	if at < 0 || of == name && strings.ContainsRune(name, '<') {
		return Key{}, false
	}
	found := table[at]
	found.Name = name
	return found, true
}

// loggerOf returns the logger of which a key sets the level.
func loggerOf(key string) (logger string, ok bool) {
	rest, ok := strings.CutPrefix(key, prefixLog)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, suffixLevel)
}

// Nearest returns the known key that is most like a name, empty if none is much like it.
func Nearest(data map[string]string, name string) string {
	if logger, level := loggerOf(name); level {
		if like := nearest(logger, loggers); like != "" {
			return prefixLog + like + suffixLevel
		}
		return ""
	}
	known := []string{QueuesKey(data)}
	for _, k := range table {
		if !strings.ContainsRune(k.Name, '<') && k.Effect != Gone {
			known = append(known, k.Name)
		}
	}
	return nearest(name, known)
}

// nearest returns the word that is most like another, whatever the case of letters.
func nearest(name string, words []string) string {
	const near = 4
	found, least := "", near
	for _, word := range words {
		// Two words that have nothing in common are not alike because they are short.
		limit := min(least, max(2, len(word)/2))
		if d := distance(strings.ToLower(name), strings.ToLower(word)); d < limit {
			found, least = word, d
		}
	}
	return found
}

// distance is how many letters have to be put in, taken out or replaced.
func distance(a, b string) int {
	if d := len(a) - len(b); max(d, -d) > 16 {
		return max(d, -d) // far enough apart, whatever the letters
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
