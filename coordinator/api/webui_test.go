package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// field is one that YuniKorn's web UI reads of an answer: where it is, with "[]" for each
// element of a list, of which JSON type it is, and whether the UI cannot do without it anywhere.
type field struct {
	where, kind string
	always      bool
}

// The web UI names a pod by these two, and shows "<nil>" unless both are there.
const (
	podNamespace = "allocationTags>kubernetes.io/meta/namespace"
	podName      = "allocationTags>kubernetes.io/meta/podName"
)

// webUI are the nine calls of yunikorn-web with the fields that it reads, after
// src/app/services/scheduler/scheduler.service.ts and src/app/models of apache/yunikorn-web.
var webUI = map[string][]field{
	"/ws/v1/clusters": {
		{"[]>startTime", "number", true}, {"[]>partition", "string", true}, {"[]>clusterName", "string", true},
		{"[]>rmBuildInformation>[]>buildVersion", "string", true}, {"[]>rmBuildInformation>[]>rmId", "string", true},
		{"[]>rmBuildInformation>[]>arch", "string", true}, {"[]>rmBuildInformation>[]>goVersion", "string", true},
		{"[]>rmBuildInformation>[]>isPluginVersion", "string", true},
	},
	"/ws/v1/partitions": {
		{"[]>name", "string", true}, {"[]>clusterId", "string", true}, {"[]>state", "string", true},
		{"[]>capacity>capacity>memory", "number", true}, {"[]>capacity>usedCapacity>vcore", "number", true},
		{"[]>nodeSortingPolicy>type", "string", true}, {"[]>applications>total", "number", true}, {"[]>applications>Running", "number", true},
		{"[]>totalNodes", "number", true}, {"[]>totalContainers", "number", true}, {"[]>lastStateTransitionTime", "number", true},
	},
	part + "/queues": {
		{"queuename", "string", true}, {"status", "string", true}, {"isLeaf", "boolean", true}, {"isManaged", "boolean", true}, {"partition", "string", true},
		{"children>[]>queuename", "string", true}, {"children>[]>isLeaf", "boolean", true}, {"children>[]>status", "string", true},
		{"children>[]>maxResource>vcore", "number", false}, {"children>[]>guaranteedResource>vcore", "number", false},
		{"children>[]>allocatedResource>memory", "number", false}, {"children>[]>absUsedCapacity>vcore", "number", false},
		{"children>[]>properties>application.sort.policy", "string", false}, {"children>[]>template>maxApplications", "number", false},
		{"children>[]>children>[]>queuename", "string", false},
	},
	part + "/queue/root.a/applications": {
		{"[]>applicationID", "string", true}, {"[]>usedResource>memory", "number", true}, {"[]>usedResource>vcore", "number", true},
		{"[]>maxUsedResource>vcore", "number", true}, {"[]>partition", "string", true}, {"[]>queueName", "string", true},
		{"[]>submissionTime", "number", true}, {"[]>applicationState", "string", true},
		{"[]>allocations>[]>allocationKey", "string", true}, {"[]>allocations>[]>" + podNamespace, "string", true},
		{"[]>allocations>[]>" + podName, "string", true}, {"[]>allocations>[]>resource>vcore", "number", true},
		{"[]>allocations>[]>priority", "string", true}, {"[]>allocations>[]>nodeId", "string", true}, {"[]>allocations>[]>applicationId", "string", true},
	},
	"/ws/v1/history/apps":       {{"[]>timestamp", "number", true}, {"[]>totalApplications", "string", true}},
	"/ws/v1/history/containers": {{"[]>timestamp", "number", true}, {"[]>totalContainers", "string", true}},
	part + "/nodes": {
		{"[]>nodeID", "string", true}, {"[]>hostName", "string", true}, {"[]>capacity>memory", "number", true}, {"[]>available>vcore", "number", true},
		{"[]>allocated>vcore", "number", false}, {"[]>occupied>vcore", "number", false}, {"[]>utilized>vcore", "number", false},
		{"[]>allocations>[]>allocationKey", "string", true}, {"[]>allocations>[]>" + podNamespace, "string", true},
		{"[]>allocations>[]>" + podName, "string", true}, {"[]>allocations>[]>resource>vcore", "number", true},
		{"[]>allocations>[]>nodeId", "string", true}, {"[]>allocations>[]>applicationId", "string", true},
	},
	"/ws/v1/scheduler/node-utilizations": {
		{"[]>clusterId", "string", true}, {"[]>partition", "string", true}, {"[]>utilizations>[]>type", "string", true},
		{"[]>utilizations>[]>utilization>[]>bucketName", "string", true}, {"[]>utilizations>[]>utilization>[]>numOfNodes", "number", false},
		{"[]>utilizations>[]>utilization>[]>nodeNames>[]", "string", false},
	},
	"/ws/v1/scheduler/healthcheck": {
		{"Healthy", "boolean", true}, {"HealthChecks>[]>Name", "string", true}, {"HealthChecks>[]>Succeeded", "boolean", true},
		{"HealthChecks>[]>Description", "string", true}, {"HealthChecks>[]>DiagnosisMessage", "string", true},
	},
}

// lacking says what is wrong with a field of an answer, empty if nothing is.
func lacking(value any, f field) string {
	values := []any{value}
	steps := strings.Split(f.where, ">")
	for _, step := range steps {
		var next []any
		for _, v := range values {
			list, isList := v.([]any)
			object, isObject := v.(map[string]any)
			inner, has := object[step]
			switch {
			case step == "[]" && isList:
				next = append(next, list...)
			case isObject && has:
				next = append(next, inner)
			case f.always && (isObject && !emptyList[step] || v == nil):
				return fmt.Sprintf("%s is missing in %.200s", f.where, fmt.Sprint(v))
			}
		}
		values = next
	}
	if len(values) == 0 {
		return f.where + " is nowhere in the answer"
	}
	for _, v := range values {
		if kind := kindOf(v); kind != f.kind {
			return fmt.Sprintf("%s is of type %s, not %s: %v", f.where, kind, f.kind, v)
		}
	}
	return ""
}

// emptyList are the lists that are left out when they are empty.
var emptyList = map[string]bool{"allocations": true, "children": true}

func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "boolean"
	}
	return fmt.Sprintf("%T", v)
}

// TestWebUI makes the nine calls of YuniKorn's web UI, and reads what it reads.
func TestWebUI(t *testing.T) {
	w := theWorld(t)
	if err := until("a first health check", func() bool { return w.engine.Cluster().GetLastHealthCheckResult() != nil }); err != nil {
		t.Fatal(err)
	}
	if len(webUI) != 9 {
		t.Fatalf("%d calls", len(webUI))
	}
	for path, fields := range webUI {
		resp, body := send(t, http.MethodGet, w.ours+path, "")
		var value any
		if err := json.Unmarshal(body, &value); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d, %v", path, resp.StatusCode, err)
			continue
		}
		if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "*" {
			t.Errorf("%s: a browser that has the UI from elsewhere is refused: %q", path, got)
		}
		for _, f := range fields {
			if wrong := lacking(value, f); wrong != "" {
				t.Errorf("%s: %s", path, wrong)
			}
		}
	}
}
