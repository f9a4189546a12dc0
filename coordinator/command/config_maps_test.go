package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
	"github.com/understudy-ha/understudy/coordinator/settings"
)

const goodMap = `apiVersion: v1
kind: ConfigMap
metadata: {name: yunikorn-configs}
data:
  service.placeholderImage: pause:1
  service.schedulingInterval: 1s
  queues.yaml: |
    partitions:
      - name: default
        preemption: {quotapreemptionenabled: true}
        queues:
          - name: root
            submitacl: '*'
            queues:
              - name: a
                resources: {max: {vcore: 4}}
              - name: b
`

func TestConfigValidateOfConfigMaps(t *testing.T) {
	good := file(t, "good.yaml", goodMap)
	defaults := file(t, "defaults.yaml", "kind: ConfigMap\nmetadata: {name: yunikorn-defaults}\ndata:\n  kubernetes.qps: many\n  service.clusterID: x\n")
	status, out, err := invoke(t, "config", "validate", good)
	warning := good + ":6: warning: service.schedulingInterval: has no effect here: "
	if status != exitOK || !strings.HasPrefix(out, warning) || !strings.HasSuffix(out, good+": valid\n") {
		t.Errorf("exit %d, %s%s", status, out, err)
	}
	bad := file(t, "bad.yaml", strings.Replace(goodMap, "submitacl", "submitACL", 1))
	status, out, err = invoke(t, "config", "validate", defaults, bad)
	for _, want := range []string{
		defaults + `:4: kubernetes.qps: is "many", want a whole number`,
		defaults + ":5: warning: service.clusterID: no such key, did you mean service.clusterId?",
		bad + ":13: queues.yaml: unknown field submitACL, did you mean submitacl?",
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("%s\ndoes not say %s", out, want)
		}
	}
	if status != exitFailed || err != "understudy: 2 of 2 files invalid\n" {
		t.Errorf("exit %d, %s", status, err)
	}
	// What overrides it counts.
	over := file(t, "over.yaml", "kind: ConfigMap\nmetadata: {name: yunikorn-configs}\ndata: {kubernetes.qps: '5', kubernetes.burst: '5'}\n")
	if status, out, _ := invoke(t, "config", "validate", over, defaults); status != exitOK {
		t.Errorf("exit %d, %s", status, out)
	}
	status, out, _ = invoke(t, "config", "validate", "-o", "json", bad)
	var list []mistake
	if e := json.Unmarshal([]byte(out), &list); e != nil || status != exitFailed || len(list) != 2 || list[1].FileLine != 13 || list[1].Line != 6 || list[1].Severity != settings.Error {
		t.Errorf("exit %d, %v\n%s", status, e, out)
	}
	broken := file(t, "broken.yaml", "kind: ConfigMap\ndata:\n  a: b\n c: d\n")
	if status, out, _ := invoke(t, "config", "validate", broken); status != exitFailed || !strings.HasPrefix(out, broken+":") || strings.HasPrefix(out, broken+": ") {
		t.Errorf("exit %d, %s", status, out)
	}
	plain := file(t, "queues.yaml", "partitions:\n  - name: default\n    queues: [{name: root, resources: {max: {vcore: x}}}]\n")
	if status, out, _ := invoke(t, "config", "validate", plain); status != exitFailed || !strings.Contains(out, plain+":3: queues.yaml: queue root: max: vcore is \"x\"") {
		t.Errorf("exit %d, %s", status, out)
	}
}

func TestConfigExplain(t *testing.T) {
	good := file(t, "good.yaml", goodMap)
	status, out, err := invoke(t, "config", "explain", good)
	if status != exitOK {
		t.Fatalf("exit %d, %s", status, err)
	}
	lines := map[string]string{}
	for line := range strings.SplitSeq(out, "\n") {
		fields := strings.Fields(line)
		if len(fields) > 1 {
			lines[fields[0]] = strings.Join(fields, " ")
		}
	}
	for key, want := range map[string]string{
		"service.placeholderImage":   "service.placeholderImage pause:1 yunikorn-configs registry.k8s.io/pause:3.7 hand-over",
		"service.volumeBindTimeout":  "service.volumeBindTimeout 10m default 10m hand-over",
		"kubernetes.qps":             "kubernetes.qps - the replica's kubernetes.qps 1000 hand-over",
		"queues.yaml":                "queues.yaml (10 lines) yunikorn-configs - hot",
		"service.schedulingInterval": "service.schedulingInterval 1s yunikorn-configs 1s none",
		"a":                          "a resources.max.vcore=4",
		"(partition)":                "(partition) preemption.quotapreemptionenabled=true",
	} {
		if lines[key] != want {
			t.Errorf("%s: %q, want %q", key, lines[key], want)
		}
	}
	for _, key := range settings.Table() {
		if _, ok := lines[key.Name]; !ok && key.Effect != settings.Gone && !strings.Contains(key.Name, "<") {
			t.Errorf("%s is not explained", key.Name)
		}
	}
}

func TestConfigDiff(t *testing.T) {
	before := file(t, "old.yaml", goodMap)
	after := file(t, "new.yaml", strings.NewReplacer("pause:1", "pause:2", "vcore: 4", "vcore: 2", "- name: b", "- name: c").Replace(goodMap))
	status, out, err := invoke(t, "config", "diff", before, after)
	if status != exitOK {
		t.Fatalf("exit %d, %s", status, err)
	}
	flat := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"service.placeholderImage pause:1 pause:2 hand-over", "queues.yaml (10 lines) (10 lines) hot",
		"root.a changed resources.max.vcore 4 2", "root.b removed - - -", "root.c added - - -",
	} {
		if !strings.Contains(flat, want) {
			t.Errorf("%s\ndoes not say %s", out, want)
		}
	}
	if status, out, _ := invoke(t, "config", "diff", before, before); status != exitOK || out != "nothing changes\n" {
		t.Errorf("exit %d, %s", status, out)
	}
	for _, args := range [][]string{{before}, {"--live", before, after}, {}} {
		if status, _, err := invoke(t, append([]string{"config", "diff"}, args...)...); status != exitUsage {
			t.Errorf("%q: exit %d, %s", args, status, err)
		}
	}
	bad := file(t, "bad.yaml", strings.Replace(goodMap, "submitacl", "submitACL", 1))
	if status, _, err := invoke(t, "config", "diff", before, bad); status != exitFailed || !strings.Contains(err, "submitACL") {
		t.Errorf("exit %d, %s", status, err)
	}
}

// clusterWith serves ConfigMaps as an API server, and what runs as a replica; it returns a
// kubeconfig for the first and the URL of the second.
func clusterWith(t *testing.T, maps map[string]map[string]string, lists map[string]string) (kubeconfig, rest string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/yunikorn/configmaps/{name}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		name := r.PathValue("name")
		data, ok := maps[name]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
			return
		}
		body, _ := json.Marshal(map[string]any{"kind": "ConfigMap", "apiVersion": "v1", "metadata": map[string]string{"name": name}, "data": data})
		_, _ = w.Write(body)
	})
	mux.HandleFunc("GET /api/v1/{list}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"items":%s}`, lists[r.PathValue("list")])
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return file(t, "kubeconfig", `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "`+s.URL+`"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: c
`), s.URL
}

func TestConfigDiffLive(t *testing.T) {
	_, queues, _ := strings.Cut(goodMap, "queues.yaml: |\n")
	queues = strings.ReplaceAll(queues, "\n    ", "\n")
	kubeconfig, rest := clusterWith(t, map[string]map[string]string{
		settings.ConfigMap: {"queues.yaml": strings.TrimPrefix(queues, "    ")}, settings.DefaultsConfigMap: {"log.level": "WARN"},
	}, map[string]string{
		"queues": `[{"name":"root","managed":true,"used":{"cpu":"3500m"}},{"name":"root.a","managed":true,"leaf":true,"used":{"cpu":"3500m"}},
			{"name":"root.b","managed":true,"leaf":true}]`,
		"applications": `[{"id":"app-a","queue":"root.a","user":"ann","state":"Running","used":{"cpu":"3500m"}},{"id":"app-b","queue":"root.b","state":"Running"},{"id":"app-ab","queue":"root.ab","state":"Running"}]`,
		"tasks":        `[{"id":"1","application":"app-a","namespace":"n","name":"p","state":"Bound"},{"id":"2","application":"app-b","namespace":"n","name":"q","state":"Bound"}]`,
	})
	for _, c := range []struct{ name, max, pods string }{
		{"no quota preemption", "{max: {vcore: 2}}", "-"},
		{"quota preemption", "{max: {vcore: 2}}\n                properties: {quota.preemption.delay: 10s}", "n/p"},
		{"opted out", "{max: {vcore: 2}}\n                properties: {quota.preemption.delay: 10s, preemption.policy: disabled}", "-"},
	} {
		after := file(t, "new.yaml", strings.NewReplacer("{max: {vcore: 4}}", c.max, "- name: b", "- name: c").Replace(goodMap))
		status, out, err := invoke(t, "config", "diff", "--live", "--kubeconfig", kubeconfig, "--namespace", "yunikorn", "--server", rest, after)
		if status != exitOK {
			t.Fatalf("%s: exit %d, %s", c.name, status, err)
		}
		flat := strings.Join(strings.Fields(out), " ")
		for _, want := range []string{"root.a over its max: cpu 3500m of 2 app-a ann cpu=3500m " + c.pods, "root.b goes: its applications end there, and nobody comes in app-b"} {
			if !strings.Contains(flat, want) {
				t.Errorf("%s:\n%s\ndoes not say %s", c.name, out, want)
			}
		}
		if strings.Contains(flat, "log.level") || strings.Contains(flat, "app-ab") {
			t.Errorf("%s: what does not change is told:\n%s", c.name, out)
		}
	}
	status, out, err := invoke(t, "config", "explain", "--kubeconfig", kubeconfig, "--namespace", "yunikorn")
	if status != exitOK || !strings.Contains(strings.Join(strings.Fields(out), " "), "log.level WARN yunikorn-defaults") {
		t.Errorf("exit %d, %s%s", status, out, err)
	}
	if status, _, err := invoke(t, "config", "explain", "--kubeconfig", kubeconfig, "--namespace", "elsewhere"); status != exitFailed {
		t.Errorf("exit %d, %s", status, err)
	}
}

func TestOverIsSaidOfWhatIsOver(t *testing.T) {
	q := apiv1.Queue{Used: apiv1.Resources{"cpu": "2", "memory": "2Gi"}, Running: 3}
	for max, want := range map[string]int{"{vcore: 2}": 0, "{vcore: 1999m}": 1, "{memory: 2Gi}": 0, "{memory: 2G}": 1, "{vcore: 1, memory: 1}": 2, "{nvidia.com/gpu: 0, vcore: 8}": 0, "{vcore: 0}": 0} {
		_, queues, err := settings.Partition(map[string]string{"queues.yaml": "partitions: [{name: default, queues: [{name: root, queues: [{name: a, resources: {max: " + max + "}}]}]}]"})
		if err != nil {
			t.Fatal(err)
		}
		if got := beyond(q, queues[2].Config); len(got) != want {
			t.Errorf("%s: %v", max, got)
		}
	}
}

func TestConfigSchema(t *testing.T) {
	status, out, _ := invoke(t, "config", "schema")
	if status != exitOK || !json.Valid([]byte(out)) {
		t.Errorf("exit %d, %s", status, out)
	}
}
