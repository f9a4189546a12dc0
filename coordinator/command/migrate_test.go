package command

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/understudy-ha/understudy/coordinator/migrate"
)

// runningYuniKorn serves a cluster with a Deployment of YuniKorn's scheduler and the
// configuration of replicas, and returns a kubeconfig.
func runningYuniKorn(t *testing.T, replicas int, config string) string {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(pattern, body string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, body)
		})
	}
	answer("/", `{"items":[]}`)
	answer("/version", `{"gitVersion":"v1.37.2"}`)
	answer("/apis/apps/v1/deployments", fmt.Sprintf(`{"items":[{"metadata":{"namespace":"yunikorn","name":"yunikorn-scheduler"},"spec":{"replicas":%d,
		"template":{"metadata":{"labels":{"app":"yunikorn","component":"yunikorn-scheduler"}},"spec":{"containers":[{"name":"yunikorn-scheduler-k8s","image":"i"}]}}}}]}`, replicas))
	data, _ := json.Marshal(map[string]any{"kind": "ConfigMap", "apiVersion": "v1", "data": map[string]string{"config.yaml": config}})
	answer("/api/v1/namespaces/understudy-system/configmaps/understudy-config", string(data))
	answer("/apis/coordination.k8s.io/v1/namespaces/understudy-system/leases/understudy", `{"kind":"Lease","apiVersion":"coordination.k8s.io/v1"}`)
	mux.HandleFunc("/apis/authorization.k8s.io/v1/subjectaccessreviews", func(w http.ResponseWriter, r *http.Request) {
		asked := &authorizationv1.SubjectAccessReview{}
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = runtime.DecodeInto(scheme.Codecs.UniversalDeserializer(), body, asked)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		asked.Status.Allowed = asked.Spec.User != "nobody"
		asked.SetGroupVersionKind(authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview"))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(asked)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return file(t, "kubeconfig", `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "`+s.URL+`"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: c
`)
}

func TestMigrateCheck(t *testing.T) {
	runs, stopped := runningYuniKorn(t, 1, minimal), runningYuniKorn(t, 0, minimal)
	status, out, errs := invoke(t, "migrate", "check", "--kubeconfig", runs)
	if status != exitFailed || !strings.Contains(out, "blocks     scheduler-runs deployment yunikorn/yunikorn-scheduler") ||
		!strings.Contains(out, "to do: kubectl -n yunikorn scale deployment yunikorn-scheduler --replicas=0") || !strings.Contains(errs, "blocked by 1 of") {
		t.Errorf("exit %d\n%s%s", status, out, errs)
	}
	if status, out, errs := invoke(t, "migrate", "check", "--kubeconfig", stopped); status != exitOK || !strings.Contains(out, "0 block") {
		t.Errorf("exit %d\n%s%s", status, out, errs)
	}
	for _, format := range []string{"json", "yaml"} {
		status, out, _ := invoke(t, "migrate", "check", "--kubeconfig", runs, "-o", format)
		if status != exitFailed || !strings.Contains(out, "scheduler-runs") {
			t.Errorf("%s: exit %d\n%s", format, status, out)
		}
		var list []migrate.Finding
		if err := json.Unmarshal([]byte(out), &list); format == "json" && (err != nil || len(list) == 0 || list[0].Kind != migrate.SchedulerRuns) {
			t.Errorf("%v\n%s", err, out)
		}
	}
	// The configuration of the cluster counts, unless a file is named.
	other := runningYuniKorn(t, 0, minimal+"schedulerName: other\n")
	if _, out, _ := invoke(t, "migrate", "check", "--kubeconfig", other); !strings.Contains(out, "scheduler-name") {
		t.Errorf("the ConfigMap of the replicas is not read:\n%s", out)
	}
	if _, out, _ := invoke(t, "migrate", "check", "--kubeconfig", other, "--config", file(t, "mine.yaml", minimal)); strings.Contains(out, "scheduler-name") {
		t.Errorf("the file is not read:\n%s", out)
	}
	// The replicas are their service account, unless a user is named.
	if status, out, _ := invoke(t, "migrate", "check", "--kubeconfig", stopped, "--user", "nobody"); status != exitFailed || !strings.Contains(out, "blocks     permission-missing user nobody") {
		t.Errorf("exit %d\n%s", status, out)
	}
	byFile := file(t, "file.yaml", minimal+"kubernetes: {kubeconfig: /somewhere}\n")
	if status, out, _ := invoke(t, "migrate", "check", "--kubeconfig", stopped, "--config", byFile); status != exitOK || !strings.Contains(out, "permission-unknown") {
		t.Errorf("exit %d\n%s", status, out)
	}
	if status, out, _ := invoke(t, "migrate", "check", "--kubeconfig", stopped, "--config", byFile, "--user", "nobody"); status != exitFailed || strings.Contains(out, "permission-unknown") {
		t.Errorf("exit %d\n%s", status, out)
	}
	// Managers need more.
	batch := file(t, "batch.yaml", minimal+"managers: [{name: general}, {name: application}]\n")
	if _, out, _ := invoke(t, "migrate", "check", "--kubeconfig", stopped, "--config", batch, "--user", "nobody"); !strings.Contains(out, "ClusterRole understudy-managers") {
		t.Errorf("what the managers need is not asked for:\n%s", out)
	}
	bad := runningYuniKorn(t, 0, "no: configuration")
	if status, _, errs := invoke(t, "migrate", "check", "--kubeconfig", bad); status != exitFailed || !strings.Contains(errs, "understudy-config") {
		t.Errorf("exit %d, %s", status, errs)
	}
}
