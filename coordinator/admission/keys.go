package admission

import (
	"slices"
	"strings"
)

// knownKeys are those of YuniKorn's ConfigMaps, besides levels of the log and files of
// policy groups.
var knownKeys = []string{
	keyProcess, keyBypass, keyLabel, keyNoLabel, keyUnique, keyBypassAuth, keyTrust, keySystem, keyUsers, keyGroups, keyService, keyScheduler,
	keyHotRefresh, "service.clusterId", "service.policyGroup", "service.schedulingInterval", "service.volumeBindTimeout",
	"service.eventChannelCapacity", "service.dispatchTimeout", "service.disableGangScheduling", "service.placeholderImage",
	"service.placeholderRunAsUser", "service.placeholderRunAsGroup", "service.placeholderFsGroup", "service.nodeInstanceTypeNodeLabelKey",
	"kubernetes.qps", "kubernetes.burst", "health.checkInterval", "event.trackingEnabled", "event.requestCapacity",
	"event.ringBufferCapacity", "event.maxStreams", "event.maxStreamsPerHost", "event.RESTResponseSize", "log.level",
}

// knownKey reports whether somebody reads a key. If nobody does, like proposes another.
func knownKey(key string) (like string, known bool) {
	if slices.Contains(knownKeys, key) || strings.HasPrefix(key, "log.") && strings.HasSuffix(key, ".level") || strings.HasSuffix(key, ".yaml") {
		return "", true
	}
	const near = 4
	nearest, least := "", near
	for _, k := range knownKeys {
		if d := distance(strings.ToLower(key), strings.ToLower(k)); d < least {
			nearest, least = k, d
		}
	}
	if nearest == "" {
		return "", false
	}
	return ", did you mean " + nearest + "?", false
}

// distance is how many letters have to be put in, taken out or replaced.
func distance(a, b string) int {
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
