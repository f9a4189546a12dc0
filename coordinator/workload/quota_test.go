package workload

import "testing"

// A quota that no number counts is a large one: nothing wraps around to a small
// one or one below zero.
func TestQuotaThatOverflows(t *testing.T) {
	for _, annotations := range []map[string]string{
		{annotationQuota: `{"cpu":"10P","memory":"1e30"}`},
		{annotationQuota: `{"cpu":"18446744073709553","memory":"16Ei"}`},
		{annotationOldMaxCPU: "10P", annotationOldMaxMemory: "1e30"},
		{annotationOldMaxCPU: "9223372036854775808", annotationOldMaxMemory: "9223372036854775807"},
	} {
		var found problems
		const want = `{"resources":{"memory":{"value":9223372036854775807},"vcore":{"value":9223372036854775807}}}`
		if got := namespaceTags(annotations, &found)[tagQuota]; got != want || len(found) > 0 {
			t.Errorf("%v: %s, %v", annotations, got, found)
		}
	}
}
