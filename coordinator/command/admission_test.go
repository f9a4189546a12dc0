package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const manifest = `
apiVersion: v1
kind: ConfigMap
metadata: {name: yunikorn-configs}
data:
  admissionController.filtering.bypassNamespaces: ^quiet$
  admissionController.filtering.bypassNamspaces: x
---
apiVersion: v1
kind: Namespace
metadata: {name: loud, annotations: {yunikorn.apache.org/namespace.generateAppId: "false"}}
---
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec: {containers: []}
---
apiVersion: v1
kind: Pod
metadata: {name: left, namespace: quiet}
spec: {}
---
apiVersion: v1
kind: Pod
metadata: {name: ignored, namespace: loud}
spec: {}
---
apiVersion: v1
kind: Pod
metadata: {name: forged, annotations: {yunikorn.apache.org/user.info: '{"user":"bob"}'}}
spec: {}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec: {jobTemplate: {spec: {template: {}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: system, namespace: kube-system}
spec: {}
`

func TestAdmissionIsExplained(t *testing.T) {
	file := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, errs := invoke(t, "admission", "explain", file, "--as", "ann", "--as-group", "dev")
	if status != exitOK {
		t.Fatalf("status %d: %s", status, errs)
	}
	for _, want := range [][]string{
		{"configmap default/yunikorn-configs", "did you mean admissionController.filtering.bypassNamespaces?"},
		{"pod default/plain changed", "namespace default is processed", "yunikorn-default-autogen is generated", `add /spec/schedulerName "yunikorn"`},
		{"pod quiet/left as it is", "admissionController.filtering.bypassNamespaces namespace quiet is not processed"},
		{"pod loud/ignored changed", "annotation yunikorn.apache.org/namespace.generateAppId of the namespace namespace loud is not labelled"},
		{"pod default/forged refused", "user ann with groups [dev] is not allowed to set user annotation"},
		{"cronjob default/nightly changed", `add /spec/jobTemplate/spec/template/metadata {"annotations":`},
		{"pod kube-system/system as it is", "namespaceSelector"},
	} {
		found := false
		for part := range strings.SplitSeq(out, "\n\n") {
			said := strings.Join(strings.Fields(part), " ")
			if !strings.HasPrefix(said, want[0]) {
				continue
			}
			found = true
			for _, w := range want[1:] {
				if !strings.Contains(said, w) {
					t.Errorf("%q is not said:\n%s", w, part)
				}
			}
		}
		if !found {
			t.Errorf("nothing of %s in\n%s", want[0], out)
		}
	}
	if status, _, _ := invoke(t, "admission", "explain", file); status != exitUsage {
		t.Errorf("without a user: status %d", status)
	}
}
