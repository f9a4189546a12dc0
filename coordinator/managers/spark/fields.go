package spark

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/understudy-ha/understudy/coordinator/workload"
)

// What is read of a SparkApplication.
const (
	fieldQueue    = "spec.batchSchedulerOptions.queue"
	fieldUser     = "spec.proxyUser"
	fieldGPUName  = "spec.executor.gpu.name"
	fieldGPUCount = "spec.executor.gpu.quantity"
	fieldConf     = "spec.sparkConf"
	fieldState    = "status.applicationState.state"
	fieldID       = "status.sparkApplicationId"
	fieldDriver   = "status.driverInfo.podName"

	confPrefix = "spark.executor.resource."
	confAmount = ".amount"
	confVendor = ".vendor"
)

// objectFields are what the fields are in, the outer ones first.
var (
	textFields   = []string{fieldQueue, fieldUser, fieldGPUName, fieldState, fieldID, fieldDriver}
	objectFields = []string{
		"spec", "spec.batchSchedulerOptions", "spec.executor", "spec.executor.gpu", fieldConf,
		"status", "status.applicationState", "status.driverInfo",
	}
)

func isObject(value any) bool { _, ok := value.(map[string]any); return ok }

// maxText bounds what is kept of a field, in bytes.
const maxText = 1024

// at returns the value of a field, nil where there is none.
func at(object *unstructured.Unstructured, field string) any {
	var value any = object.Object
	for name := range strings.SplitSeq(field, ".") {
		parent, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = parent[name]
	}
	return value
}

// text returns a field that is a string; what is none counts as absent.
func text(object *unstructured.Unstructured, field string) string {
	value, _ := at(object, field).(string)
	return value
}

// check returns what cannot be read of a SparkApplication.
func check(object *unstructured.Unstructured) (problems []string) {
	bad := func(field, what string) {
		problems = append(problems, fmt.Sprintf("%s is ignored: %s", field, what))
	}
	for _, field := range objectFields {
		if value := at(object, field); value != nil && !isObject(value) {
			bad(field, "it is no object")
		}
	}
	for _, field := range textFields {
		value := at(object, field)
		if _, ok := value.(string); value != nil && !ok {
			bad(field, "it is no string")
		}
	}
	if state := text(object, fieldState); state != "" {
		if _, known := states[state]; !known {
			bad(fieldState, fmt.Sprintf("state %.64q is not known", state))
		}
	}
	if value := at(object, fieldGPUCount); value != nil {
		if _, ok := count(value); !ok {
			bad(fieldGPUCount, "it is no number above zero")
		}
	}
	for _, key := range confKeys(object) {
		if _, ok := confRequest(object, key); !ok {
			bad(fieldConf+"["+key+"]", "it is no amount of a resource whose vendor is named")
		}
	}
	return problems
}

// count returns a number of devices.
func count(value any) (n int64, ok bool) {
	switch v := value.(type) {
	case int64:
		n = v
	case float64:
		n = int64(v)
	}
	return n, n > 0
}

// executorRequests returns what an executor will request beside CPU and memory.
func executorRequests(object *unstructured.Unstructured) v1.ResourceList {
	list := v1.ResourceList{}
	if n, ok := count(at(object, fieldGPUCount)); ok {
		if name := text(object, fieldGPUName); name != "" {
			list[v1.ResourceName(name)] = *resource.NewQuantity(n, resource.DecimalSI)
		}
	}
	for _, key := range confKeys(object) {
		if amount, ok := confRequest(object, key); ok {
			list[confName(object, key)] = amount
		}
	}
	return list
}

// confKeys returns the keys of Spark's configuration that have an executor request an
// amount of something: spark.executor.resource.<what>.amount.
func confKeys(object *unstructured.Unstructured) (keys []string) {
	conf, _ := at(object, fieldConf).(map[string]any)
	for key := range conf {
		if strings.HasPrefix(key, confPrefix) && strings.HasSuffix(key, confAmount) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// confName returns the resource that a key is about: <vendor>/<what>, as Spark has it.
func confName(object *unstructured.Unstructured, key string) v1.ResourceName {
	conf, _ := at(object, fieldConf).(map[string]any)
	what := strings.TrimSuffix(key, confAmount)
	vendor, _ := conf[what+confVendor].(string)
	if vendor == "" {
		return ""
	}
	return v1.ResourceName(vendor + "/" + strings.TrimPrefix(what, confPrefix))
}

func confRequest(object *unstructured.Unstructured, key string) (resource.Quantity, bool) {
	conf, _ := at(object, fieldConf).(map[string]any)
	value, _ := conf[key].(string)
	amount, err := workload.ParseQuantity(value)
	return amount, err == nil && !amount.IsZero() && confName(object, key) != ""
}

// trim leaves of a SparkApplication what is read: its status tells of every executor, and
// its spec may hold the templates of whole pods.
func trim(object *unstructured.Unstructured) {
	kept := map[string]any{"apiVersion": object.GetAPIVersion(), "kind": object.GetKind(), "metadata": object.Object["metadata"]}
	for _, field := range objectFields {
		if value := at(object, field); value != nil && !isObject(value) {
			put(kept, field, bounded(value)) // it is told of
		}
	}
	for _, field := range append(slices.Clone(textFields), fieldGPUCount) {
		if value := at(object, field); value != nil {
			put(kept, field, bounded(value))
		}
	}
	if conf, ok := at(object, fieldConf).(map[string]any); ok {
		few := make(map[string]any)
		for key, value := range conf {
			if strings.HasPrefix(key, confPrefix) && (strings.HasSuffix(key, confAmount) || strings.HasSuffix(key, confVendor)) {
				few[key] = bounded(value)
			}
		}
		if len(few) > 0 {
			put(kept, fieldConf, few)
		}
	}
	object.Object = kept
}

// put sets a field, and makes the objects that it is in. None of these is anything else.
func put(kept map[string]any, field string, value any) {
	names := strings.Split(field, ".")
	for _, name := range names[:len(names)-1] {
		if kept[name] == nil {
			kept[name] = make(map[string]any)
		}
		kept = kept[name].(map[string]any)
	}
	kept[names[len(names)-1]] = value
}

// bounded returns a value that is small; of a large one, that it is of the wrong type.
func bounded(value any) any {
	switch v := value.(type) {
	case string:
		if len(v) > maxText {
			return v[:maxText]
		}
		return v
	case bool, int64, float64:
		return v
	}
	return []any{}
}
