package workload

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/common"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/requests"
)

// namespaceTags translates the annotations of a namespace into the tags by
// which the engine sets up the queue it makes for the namespace.
func namespaceTags(annotations map[string]string, found *problems) map[string]string {
	out := map[string]string{}
	if queue := annotations[annotationParentQueue]; queue != "" {
		out[tagParentQueue] = queue
	}
	quota := resourceTag(annotations, annotationQuota, found)
	if quota == "" {
		quota = oldQuotaTag(annotations, found)
	}
	if quota != "" {
		out[tagQuota] = quota
	}
	if guaranteed := resourceTag(annotations, annotationGuaranteed, found); guaranteed != "" {
		out[tagGuaranteed] = guaranteed
	}
	if value := annotations[annotationMaxApps]; value != "" {
		if _, err := strconv.ParseUint(value, 10, 64); err != nil {
			found.add(annotationMaxApps, "of the namespace is ignored: %s is not a number", shown(value))
		} else {
			out[tagMaxApps] = value
		}
	}
	return out
}

// resourceTag reads a JSON object of Kubernetes resource names and quantities
// and returns it as the engine reads it.
func resourceTag(annotations map[string]string, key string, found *problems) string {
	value := annotations[key]
	if value == "" {
		return ""
	}
	var raw map[string]string
	if err := json.Unmarshal([]byte(value), &raw); err != nil {
		found.add(key, "of the namespace is ignored: not a JSON object of quantities: %v", err)
		return ""
	}
	tag, err := encodeResource(raw)
	if err != nil {
		found.add(key, "of the namespace is ignored: %v", err)
		return ""
	}
	return tag
}

// oldQuotaTag reads the quota in the form of an annotation for each resource.
func oldQuotaTag(annotations map[string]string, found *problems) string {
	raw := map[string]string{}
	for _, old := range [][2]string{{"cpu", annotationOldMaxCPU}, {"memory", annotationOldMaxMemory}} {
		name, key := old[0], old[1]
		value := annotations[key]
		if value == "" {
			continue
		}
		if _, err := ParseQuantity(value); err != nil {
			found.add(key, "of the namespace is ignored: %s: %v", shown(value), err)
			continue
		}
		raw[name] = value
	}
	tag, err := encodeResource(raw)
	if err != nil { // every quantity has been parsed above
		return ""
	}
	return tag
}

// encodeResource returns quantities as the engine's resource in JSON, empty if
// there are none.
func encodeResource(raw map[string]string) (string, error) {
	if len(raw) == 0 {
		return "", nil
	}
	out := si.Resource{Resources: make(map[string]*si.Quantity, len(raw))}
	for name, value := range raw {
		quantity, err := ParseQuantity(value)
		if err != nil {
			return "", fmt.Errorf("%s: %s: %w", name, shown(value), err)
		}
		amount := &si.Quantity{Value: requests.Amount(v1.ResourceName(name), quantity)}
		if name == string(v1.ResourceCPU) {
			name = common.CPU
		}
		out.Resources[name] = amount
	}
	tag, err := json.Marshal(&out)
	return string(tag), err
}
