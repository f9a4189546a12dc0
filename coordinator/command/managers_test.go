package command

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/coordinator/serve"
)

const twoSets = `apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata: {namespace: ml, name: js, uid: 10203040-2, labels: {yunikorn.apache.org/queue: root.ml}}
spec:
  replicatedJobs:
  - name: workers
    replicas: 2
    template: {spec: {parallelism: 4, completions: 4, template: {spec: {schedulerName: yunikorn, containers: [{resources: {requests: {cpu: "2"}}}]}}}}
  - {name: spare, replicas: 0, template: {spec: {template: {spec: {}}}}}
---
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata: {namespace: ml, name: other, uid: 1, ownerReferences: [{apiVersion: trainer.kubeflow.org/v1alpha1, kind: TrainJob, name: t, uid: 2, controller: true}]}
`

func TestExplainPreset(t *testing.T) {
	manifest := file(t, "sets.yaml", twoSets)
	status, out, errs := invoke(t, "managers", "explain", "jobset", "--manifest", manifest)
	want := `OBJECT    APPLICATION            BEGINS           QUEUE    USER    PHASE    MESSAGE
ml/js     jobset-ml-js-10203040  with the object  root.ml  nobody  Created  -
ml/other  not for this manager   -                -        -       -        -
! ml/js: task group "spare" is left out: it needs no member

OBJECT  GROUP    MEMBERS  EACH   STYLE
ml/js   workers  8        cpu=2  Soft
`
	if status != exitOK || out != want || errs != "" {
		t.Errorf("status %d, %s\n%s\nwant\n%s", status, errs, out, want)
	}

	var asJSON, asYAML []explained
	_, out, _ = invoke(t, "managers", "explain", "jobset", "--manifest", manifest, "-o", "json")
	if err := json.Unmarshal([]byte(out), &asJSON); err != nil || len(asJSON) != 2 || asJSON[0].Groups[0].MinMember != 8 || asJSON[1].Matches {
		t.Errorf("%v: %s", err, out)
	}
	_, out, _ = invoke(t, "managers", "explain", "jobset", "--manifest", manifest, "-o", "yaml")
	if err := yaml.UnmarshalStrict([]byte(out), &asYAML); err != nil || len(asYAML) != 2 || asYAML[0].ApplicationID != "jobset-ml-js-10203040" {
		t.Errorf("%v: %s", err, out)
	}
}

// An object that names no namespace is explained as kubectl would create it.
func TestExplainWithoutANamespace(t *testing.T) {
	manifest := file(t, "set.yaml", "apiVersion: jobset.x-k8s.io/v1alpha2\nkind: JobSet\nmetadata: {name: js}\nspec: {}\n")
	status, out, errs := invoke(t, "managers", "explain", "jobset", "--manifest", manifest)
	if status != exitOK || !strings.Contains(out, "default/js  jobset-default-js ") {
		t.Errorf("status %d, %s\n%s", status, errs, out)
	}
}

const thingCRD = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
spec:
  group: example.org
  names: {kind: Thing, plural: things}
  versions:
  - name: v1
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {team: {type: string}}}}}}
`

func TestExplainDefinition(t *testing.T) {
	definition := "apiVersion: example.org/v1\nkind: Thing\nqueue: \"'root.' + object.spec.team\"\n"
	thing := func(spec string) string {
		return file(t, "thing.yaml", "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a, namespace: ns}\nspec: "+spec+"\n")
	}
	config := minimal + "managers:\n- {name: general}\n" +
		"- {name: things, type: custom, settings: {apiVersion: example.org/v1, kind: Thing, queue: \"'root.' + object.spec.team\"}}\n" +
		"- {name: sets, type: custom, settings: {preset: jobset}}\n"
	for name, c := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"definition":    {[]string{file(t, "d.yaml", definition), "--manifest", thing("{team: x}")}, exitOK, "root.x"},
		"configuration": {[]string{file(t, "c.yaml", config), "--name", "things", "--manifest", thing("{team: z}")}, exitOK, "root.z"},
		"with schema":   {[]string{file(t, "d.yaml", definition), "--manifest", thing("{team: x}"), "--crd", file(t, "crd.yaml", thingCRD)}, exitOK, "root.x"},
		"against the schema": {[]string{file(t, "d.yaml", strings.ReplaceAll(definition, "spec.team", "spec.taem")), "--manifest", thing("{}"), "--crd", file(t, "crd.yaml", thingCRD)},
			exitFailed, "definition thing: queue: 1:22: undefined field 'taem'"},
		"an object that fails": {[]string{file(t, "d.yaml", definition), "--manifest", thing("{}")}, exitFailed, "! ns/a: definition thing: ns/a: queue: no such key: team"},
		"a mistake":            {[]string{file(t, "d.yaml", definition+"failed: objet.x\n"), "--manifest", thing("{}")}, exitFailed, "definition thing: failed: 1:1: undeclared reference to 'objet'"},
		"an unknown field":     {[]string{file(t, "d.yaml", definition+"faild: x\n"), "--manifest", thing("{}")}, exitFailed, "field faild not found"},
		"several in a file":    {[]string{file(t, "c.yaml", config), "--manifest", thing("{}")}, exitUsage, "has 2 managers of the type custom"},
		"another kind":         {[]string{"job", "--manifest", thing("{}")}, exitFailed, "has no batch/v1, Kind=Job, but example.org/v1, Kind=Thing"},
		"another CRD":          {[]string{"job", "--manifest", thing("{}"), "--crd", file(t, "crd.yaml", thingCRD)}, exitFailed, "is not the CustomResourceDefinition of batch/v1, Kind=Job"},
		"no manifest":          {[]string{"job"}, exitUsage, "--manifest is missing"},
		"no preset":            {[]string{"jobs", "--manifest", thing("{}")}, exitFailed, "jobs: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			status, out, errs := invoke(t, append([]string{"managers", "explain"}, c.args...)...)
			if status != c.status || !strings.Contains(out+errs, c.want) {
				t.Errorf("status %d\n%s%s\nwant %d, %s", status, out, errs, c.status, c.want)
			}
		})
	}
}

func TestRBAC(t *testing.T) {
	config := file(t, "c.yaml", minimal+"managers:\n- {name: general}\n- {name: rayjob, type: custom, settings: {preset: rayjob}}\n"+
		"- {name: raycluster, type: custom, settings: {preset: raycluster}}\n- {name: job, type: custom, settings: {preset: job}}\n")
	status, out, errs := invoke(t, "managers", "rbac", "--config", config)
	want := `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: understudy-managers
rules:
- apiGroups:
  - ray.io
  resources:
  - rayjobs
  verbs:
  - get
  - list
  - watch
- apiGroups:
  - ray.io
  resources:
  - rayclusters
  verbs:
  - get
  - list
  - watch
- apiGroups:
  - batch
  resources:
  - jobs
  verbs:
  - get
  - list
  - watch
`
	if status != exitOK || out != want {
		t.Errorf("status %d, %s\n%s", status, errs, out)
	}
	broken := file(t, "c.yaml", minimal+"managers:\n- {name: mine, type: custom, settings: {preset: job, queue: oops}}\n")
	status, _, errs = invoke(t, "managers", "rbac", "--config", broken)
	if status != exitFailed || !strings.Contains(errs, "app manager mine: definition mine: queue: 1:1: undeclared reference to 'oops'") {
		t.Errorf("status %d, %s", status, errs)
	}
}

// Settings of managers are checked with the file.
func TestValidateChecksManagers(t *testing.T) {
	config := file(t, "c.yaml", minimal+"managers:\n- {name: one, type: custom, settings: {preset: job, queue: oops, user: '1'}}\n"+
		"- {name: two, type: custom, settings: {preset: job, qeue: a}}\n- {name: three, type: nothing}\n")
	status, out, _ := invoke(t, "config", "validate", config)
	if want := config + ": app manager three: there is no type \"nothing\""; status != exitFailed || !strings.HasPrefix(out, want) {
		t.Errorf("status %d, %s\nwant %s", status, out, want)
	}
	config = file(t, "c.yaml", minimal+"managers:\n- {name: one, type: custom, settings: {preset: job, queue: oops, user: '1'}}\n"+
		"- {name: two, type: custom, settings: {preset: job, qeue: a}}\n")
	status, out, _ = invoke(t, "config", "validate", config)
	want := config + ": definition one: queue: 1:1: undeclared reference to 'oops' (in container '')\n" +
		config + ": definition one: user: yields int, want string\n" +
		config + ":7: settings.qeue: unknown field\n"
	if status != exitFailed || out != want {
		t.Errorf("status %d\n%s\nwant\n%s", status, out, want)
	}
	if status, out, _ := invoke(t, "config", "validate", file(t, "c.yaml", minimal+"managers: [{name: job, type: custom, settings: {preset: job}}]\n")); status != exitOK {
		t.Errorf("status %d, %s", status, out)
	}
}

func TestManagersAreListed(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(serve.Status{Replica: "r1", Managers: []serve.Manager{
			{Name: "jobs", Noted: 2, Applications: 5, Problem: "AppChanged: panic: broken\nstack", Resources: []serve.Resource{
				{Name: "batch/v1, Kind=Job", Served: true, Objects: 7},
			}},
			{Name: "rays", Resources: []serve.Resource{{Name: "ray.io/, Kind=RayJob", LastError: "not found"}}},
			{Name: "general"},
		}})
	}))
	defer srv.Close()
	status, out, errs := invoke(t, "managers", "list", "--server", srv.URL)
	var rows [][]string
	for line := range strings.Lines(out) {
		rows = append(rows, strings.Fields(line))
	}
	want := [][]string{
		{"REPLICA", "MANAGER", "RESOURCE", "SERVED", "OBJECTS", "APPLICATIONS", "NOTED", "PROBLEM"},
		{"r1", "jobs", "batch/v1,", "Kind=Job", "yes", "7", "5", "2", "AppChanged:", "panic:", "broken"},
		{"r1", "rays", "ray.io/,", "Kind=RayJob", "no", "0", "0", "0", "not", "found"},
		{"r1", "general", "-", "-", "-", "0", "0", "-"},
	}
	if status != exitOK || !slices.EqualFunc(rows, want, slices.Equal) {
		t.Errorf("status %d, %s\n%s", status, errs, out)
	}
}
