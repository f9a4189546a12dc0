package command

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// examplesCopy goes to a copy of deploy/examples, with the configuration of deploy/base
// and the examples' managers in it as config.yaml.
func examplesCopy(t *testing.T) {
	t.Helper()
	shipped, err := os.ReadFile("../../deploy/base/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../../deploy/examples")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	var base corev1.ConfigMap
	if err := yaml.UnmarshalStrict(shipped, &base); err != nil {
		t.Fatal(err)
	}
	enabled, err := os.ReadFile("managers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("config.yaml", append([]byte(base.Data["config.yaml"]+"\n"), enabled...), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestManagersOfTheExamples(t *testing.T) {
	examplesCopy(t)
	status, out, errs := invoke(t, "config", "validate", "config.yaml")
	if status != exitOK || out != "config.yaml: valid\n" {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
	status, out, errs = invoke(t, "managers", "rbac", "--config", "config.yaml")
	if status != exitOK {
		t.Fatalf("status %d, %s", status, errs)
	}
	for _, resource := range []string{
		"applications", "sparkapplications", "rayjobs", "rayclusters", "trainjobs", "jobsets", "workflows", "podgroups", "crawls", "jobs",
	} {
		if !strings.Contains(out, "- "+resource+"\n") {
			t.Errorf("no right to %s:\n%s", resource, out)
		}
	}
}

// The examples say how to have a manager explain them. What it says is what they are
// about.
func TestExamplesExplained(t *testing.T) {
	examplesCopy(t)
	for file, want := range map[string][]string{
		"batch-job.yaml":  {"job-default-pi with the object root.batch.jobs"},
		"gang-hard.yaml":  {"job-default-gang-hard with the object root.batch.jobs Hard job=4(cpu=1,memory=256Mi)"},
		"raycluster.yaml": {"raycluster-default-notebook with the object root.ml Soft headgroup=1(cpu=1,memory=2Gi) workers=2(cpu=1,memory=1Gi)"},
		"rayjob.yaml":     {"rayjob-default-fit with the object root.ml Soft headgroup=1(cpu=1,memory=2Gi) workers=2(cpu=1,memory=1Gi)"},
		"jobset.yaml":     {"jobset-default-sweep with the object root.ml Soft leader=1(cpu=500m,memory=128Mi) workers=3(cpu=1,memory=256Mi)"},
		"trainjob.yaml":   {"trainjob-default-tune with its first pod root.ml Soft node=3(cpu=1,memory=2Gi)"},
		"workflow.yaml":   {"workflow-default-build with the object root.batch.jobs"},
		"crawl.yaml":      {"crawl-default-news with the object root.batch.search Soft worker=3(cpu=500m,memory=128Mi)"},
	} {
		t.Run(file, func(t *testing.T) {
			args := explainIn(t, file)
			status, out, errs := invoke(t, append(args, "-o", "json")...)
			if status != exitOK {
				t.Fatalf("%v: status %d, %s", args, status, errs)
			}
			var objects []explained
			if err := json.Unmarshal([]byte(out), &objects); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range objects {
				if len(o.Warnings) > 0 {
					t.Errorf("warnings: %v", o.Warnings)
				}
				got = append(got, inShort(o))
			}
			if !slices.Equal(got, want) {
				t.Errorf("explained as\n%q, want\n%q", got, want)
			}
		})
	}
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tried += strings.Count(string(data), " understudy managers explain ")
	}
	if tried != 8 {
		t.Errorf("the examples have %d commands that explain them, and 8 are tried", tried)
	}
}

// explainIn returns the arguments of the command in the comment of an example.
func explainIn(t *testing.T, file string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if _, command, ok := strings.Cut(line, " understudy managers explain "); ok {
			return append([]string{"managers", "explain"}, strings.Fields(command)...)
		}
	}
	t.Fatalf("%s does not say how to explain it", file)
	return nil
}

func inShort(o explained) string {
	parts := []string{o.ApplicationID, o.Begins, o.Queue}
	if o.GangStyle != "" {
		parts = append(parts, o.GangStyle)
	}
	for _, g := range o.Groups {
		parts = append(parts, fmt.Sprintf("%s=%d(cpu=%s,memory=%s)", g.Name, g.MinMember, g.MinResource["cpu"], g.MinResource["memory"]))
	}
	return strings.Join(parts, " ")
}
