package admission

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/understudy-ha/understudy/coordinator/settings"
)

// known are facts; err is in the way of all of them.
type known struct {
	namespaces map[string]map[string]string // annotations
	classes    map[string]map[string]string
	err        error
}

func (k known) Namespace(_ context.Context, name string) (*v1.Namespace, error) {
	annotations, ok := k.namespaces[name]
	if !ok {
		return nil, k.err
	}
	return &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}, k.err
}

func (k known) PriorityClass(_ context.Context, name string) (*schedulingv1.PriorityClass, error) {
	annotations, ok := k.classes[name]
	if !ok {
		return nil, k.err
	}
	return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}, k.err
}

type set = map[string]string

const (
	uid        = "0d4b7e0c-5d5e-4a52-9a53-6c1c1f1c9a11"
	userKey    = "yunikorn.apache.org/user.info"
	appKey     = "yunikorn.apache.org/app-id"
	queueKey   = "yunikorn.apache.org/queue"
	allowKey   = "yunikorn.apache.org/allow-preemption"
	ignoreKey  = "yunikorn.apache.org/ignore-application"
	ann        = "ann"
	annInfo    = `{"user":"ann","groups":["dev","system:authenticated"]}`
	bobInfo    = `{"user":"bob","groups":["ops"]}`
	controller = "system:serviceaccount:kube-system:job-controller"
)

var annGroups = []string{"dev", "system:authenticated"}

func settingsOf(t *testing.T, data set) Settings {
	t.Helper()
	s, wrong := ReadSettings(data)
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	return s
}

func podOf(labels, annotations set, spec map[string]any) map[string]any {
	metadata := map[string]any{"name": "pod", "uid": uid}
	if labels != nil {
		metadata["labels"] = labels
	}
	if annotations != nil {
		metadata["annotations"] = annotations
	}
	if spec == nil {
		spec = map[string]any{"schedulerName": "default-scheduler"}
	}
	return map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
}

func raw(t *testing.T, object any) runtime.RawExtension {
	t.Helper()
	if object == nil {
		return runtime.RawExtension{}
	}
	data, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return runtime.RawExtension{Raw: data}
}

func requestFor(t *testing.T, resource string, object, old any) *admissionv1.AdmissionRequest {
	t.Helper()
	group, name, grouped := strings.Cut(resource, "/")
	if !grouped {
		group, name = "", resource
	}
	req := &admissionv1.AdmissionRequest{
		UID: "1", Namespace: "team", Operation: admissionv1.Create, Object: raw(t, object), OldObject: raw(t, old),
		Resource: metav1.GroupVersionResource{Group: group, Resource: name},
		UserInfo: authenticationv1.UserInfo{Username: ann, Groups: annGroups},
	}
	if old != nil {
		req.Operation = admissionv1.Update
	}
	return req
}

// patched applies a decision to the object.
func patched(t *testing.T, req *admissionv1.AdmissionRequest, d Decision) map[string]any {
	t.Helper()
	out := req.Object.Raw
	if len(d.Patch) > 0 {
		encoded, err := patch(d.Patch).encode()
		if err != nil {
			t.Fatal(err)
		}
		operations, err := jsonpatch.DecodePatch(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if out, err = operations.Apply(out); err != nil {
			t.Fatalf("%s: %v", encoded, err)
		}
	}
	object := map[string]any{}
	if err := json.Unmarshal(out, &object); err != nil {
		t.Fatal(err)
	}
	return object
}

// inMap returns a map of strings in an object.
func inMap(object map[string]any, path ...string) set {
	var at any = object
	for _, key := range path {
		m, _ := at.(map[string]any)
		at = m[key]
	}
	out := set{}
	m, _ := at.(map[string]any)
	for k, v := range m {
		out[k], _ = v.(string)
	}
	return out
}

// TestPods has the rows of YuniKorn's contract on the creation of pods.
func TestPods(t *testing.T) {
	const scheduled, other = "yunikorn", "default-scheduler"
	generated := set{appKey: "yunikorn-team-autogen", "applicationId": "yunikorn-team-autogen"}
	told := set{userKey: annInfo, allowKey: "true"}
	for _, c := range []struct {
		name                string
		config              set
		namespace           set // annotations
		user                string
		groups              []string
		labels, annotations set
		spec                map[string]any
		// what comes of it
		refusal                     string
		scheduler                   string
		wantLabels, wantAnnotations set
	}{
		{name: "plain", scheduler: scheduled, wantLabels: generated, wantAnnotations: told},
		{name: "another scheduler is overwritten", spec: map[string]any{"schedulerName": "volcano"}, scheduler: scheduled, wantLabels: generated, wantAnnotations: told},
		{name: "labels and annotations are kept", labels: set{"a": "1"}, annotations: set{"b~/c": "2"}, scheduler: scheduled,
			wantLabels: set{"a": "1", appKey: "yunikorn-team-autogen", "applicationId": "yunikorn-team-autogen"}, wantAnnotations: set{"b~/c": "2", userKey: annInfo, allowKey: "true"}},
		{name: "canonical app ID", labels: set{appKey: "mine"}, scheduler: scheduled, wantLabels: set{appKey: "mine", "applicationId": "mine"}, wantAnnotations: told},
		{name: "old app ID", labels: set{"applicationId": "mine"}, scheduler: scheduled, wantLabels: set{"applicationId": "mine"}, wantAnnotations: told},
		{name: "Spark's app ID", labels: set{"spark-app-selector": "mine"}, scheduler: scheduled, wantLabels: set{"spark-app-selector": "mine"}, wantAnnotations: told},
		{name: "app ID by annotation", annotations: set{appKey: "mine"}, scheduler: scheduled, wantLabels: set{}, wantAnnotations: set{appKey: "mine", userKey: annInfo, allowKey: "true"}},
		{name: "queue", labels: set{appKey: "a", queueKey: "root.q"}, scheduler: scheduled,
			wantLabels: set{appKey: "a", "applicationId": "a", queueKey: "root.q", "queue": "root.q"}, wantAnnotations: told},
		{name: "old queue alone", labels: set{"applicationId": "a", "queue": "root.q"}, scheduler: scheduled, wantLabels: set{"applicationId": "a", "queue": "root.q"}, wantAnnotations: told},
		{name: "unique app ID", config: set{keyUnique: "true"}, scheduler: scheduled, wantLabels: set{appKey: "team-" + uid, "applicationId": "team-" + uid}, wantAnnotations: told},

		{name: "YuniKorn's own", labels: set{"app": "yunikorn"}, scheduler: other, wantLabels: set{"app": "yunikorn"}, wantAnnotations: set{}},
		{name: "bypassed", config: set{keyBypass: "^te"}, scheduler: other, wantLabels: set{}, wantAnnotations: set{}},
		{name: "bypassed and asking for us", config: set{keyBypass: "^te"}, spec: map[string]any{"schedulerName": "yunikorn"}, scheduler: scheduled, wantLabels: set{}, wantAnnotations: set{userKey: annInfo}},
		{name: "posing as YuniKorn's own", labels: set{"app": "yunikorn"}, spec: map[string]any{"schedulerName": "yunikorn"}, scheduler: scheduled, wantLabels: set{"app": "yunikorn"}, wantAnnotations: set{userKey: annInfo}},
		{name: "not among the processed", config: set{keyProcess: "^x$, ^y$"}, scheduler: other, wantLabels: set{}, wantAnnotations: set{}},
		{name: "among the processed", config: set{keyProcess: "x,ea"}, scheduler: scheduled, wantLabels: generated, wantAnnotations: told},
		{name: "processed and bypassed", config: set{keyProcess: "team", keyBypass: "team"}, scheduler: other, wantLabels: set{}, wantAnnotations: set{}},
		{name: "annotation enables", config: set{keyBypass: "team"}, namespace: set{annotationEnable: "true"}, scheduler: scheduled, wantLabels: generated, wantAnnotations: told},
		{name: "annotation disables", config: set{keyProcess: "team"}, namespace: set{annotationEnable: "false"}, scheduler: other, wantLabels: set{}, wantAnnotations: set{}},
		{name: "annotation says nothing", namespace: set{annotationEnable: "perhaps"}, scheduler: scheduled, wantLabels: generated, wantAnnotations: told},
		{name: "not labelled", config: set{keyNoLabel: "team"}, scheduler: scheduled, wantLabels: set{}, wantAnnotations: set{userKey: annInfo, ignoreKey: "true"}},
		{name: "not among the labelled", config: set{keyLabel: "x"}, scheduler: scheduled, wantLabels: set{}, wantAnnotations: set{userKey: annInfo, ignoreKey: "true"}},
		{name: "annotation labels", config: set{keyNoLabel: "team"}, namespace: set{annotationGenerate: "true"}, scheduler: scheduled, wantLabels: generated, wantAnnotations: told},
		{name: "annotation does not label", namespace: set{annotationGenerate: "false"}, scheduler: scheduled, wantLabels: set{}, wantAnnotations: set{userKey: annInfo, ignoreKey: "true"}},

		{name: "forged", annotations: set{userKey: bobInfo}, refusal: "user ann with groups [dev,system:authenticated] is not allowed to set user annotation"},
		{name: "forged in a bypassed namespace", config: set{keyBypass: "team"}, annotations: set{userKey: bobInfo}, refusal: "user ann with groups [dev,system:authenticated] is not allowed to set user annotation"},
		{name: "forged as YuniKorn's own", labels: set{"app": "yunikorn"}, annotations: set{userKey: bobInfo}, refusal: "user ann with groups [dev,system:authenticated] is not allowed to set user annotation"},
		{name: "its own name", annotations: set{userKey: annInfo}, scheduler: scheduled, wantLabels: generated, wantAnnotations: told},
		{name: "its own name and more groups", annotations: set{userKey: `{"user":"ann","groups":["dev","ops"]}`}, refusal: "user ann with groups [dev,system:authenticated] is not allowed to set user annotation"},
		{name: "by a controller", user: controller, annotations: set{userKey: bobInfo}, scheduler: scheduled, wantLabels: generated, wantAnnotations: set{userKey: bobInfo, allowKey: "true"}},
		{name: "by a controller that is not trusted", config: set{keyTrust: "false"}, user: controller, annotations: set{userKey: bobInfo},
			refusal: "user " + controller + " with groups [dev,system:authenticated] is not allowed to set user annotation"},
		{name: "by a system user of the configuration", config: set{keySystem: "^an"}, annotations: set{userKey: bobInfo}, scheduler: scheduled, wantLabels: generated, wantAnnotations: set{userKey: bobInfo, allowKey: "true"}},
		{name: "by an external user", config: set{keyUsers: "^ann$"}, annotations: set{userKey: bobInfo}, scheduler: scheduled, wantLabels: generated, wantAnnotations: set{userKey: bobInfo, allowKey: "true"}},
		{name: "by an external group", config: set{keyGroups: "^x$,^dev$"}, annotations: set{userKey: bobInfo}, scheduler: scheduled, wantLabels: generated, wantAnnotations: set{userKey: bobInfo, allowKey: "true"}},
		{name: "unreadable, by a controller", user: controller, annotations: set{userKey: "bob"}, refusal: "invalid user annotation " + userKey},
		{name: "no authentication", config: set{keyBypassAuth: "true"}, annotations: set{userKey: bobInfo}, scheduler: scheduled, wantLabels: generated, wantAnnotations: set{userKey: bobInfo, allowKey: "true"}},
		{name: "no authentication, nobody named", config: set{keyBypassAuth: "true"}, scheduler: scheduled, wantLabels: generated, wantAnnotations: set{allowKey: "true"}},
		{name: "odd names", user: "o\"b\\r\n\u2028é", groups: []string{"a,b", "]"}, scheduler: scheduled, wantLabels: generated,
			wantAnnotations: set{userKey: `{"user":"o\"b\\r\n\u2028é","groups":["a,b","]"]}`, allowKey: "true"}},

		{name: "preemption by class", spec: map[string]any{"priorityClassName": "calm"}, scheduler: scheduled, wantLabels: generated, wantAnnotations: set{userKey: annInfo, allowKey: "false"}},
		{name: "preemption by unknown class", spec: map[string]any{"priorityClassName": "none"}, scheduler: scheduled, wantLabels: generated, wantAnnotations: told},
		{name: "preemption by the pod", annotations: set{allowKey: "true"}, spec: map[string]any{"priorityClassName": "calm"}, scheduler: scheduled, wantLabels: generated, wantAnnotations: told},
		{name: "preemption by nonsense", annotations: set{allowKey: "maybe"}, spec: map[string]any{"priorityClassName": "calm"}, scheduler: scheduled, wantLabels: generated, wantAnnotations: set{userKey: annInfo, allowKey: "false"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rules := Rules{
				Settings: settingsOf(t, c.config), SchedulerName: "yunikorn", Workloads: BuiltIn(),
				Facts: known{namespaces: map[string]map[string]string{"team": c.namespace}, classes: map[string]map[string]string{"calm": {allowKey: "false"}}},
			}
			req := requestFor(t, "pods", podOf(c.labels, c.annotations, c.spec), nil)
			if c.user != "" {
				req.UserInfo.Username = c.user
			}
			if c.groups != nil {
				req.UserInfo.Groups = c.groups
			}
			d, err := rules.Mutate(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if c.refusal != "" {
				if !strings.HasPrefix(d.Refusal, c.refusal) || d.Patch != nil {
					t.Errorf("refusal %q with patch %v, want %q", d.Refusal, d.Patch, c.refusal)
				}
				return
			}
			if d.Refusal != "" {
				t.Fatalf("refused: %s", d.Refusal)
			}
			pod := patched(t, req, d)
			if got := inMap(pod, "spec")["schedulerName"]; got != c.scheduler {
				t.Errorf("schedulerName %q, want %q", got, c.scheduler)
			}
			if got := inMap(pod, "metadata", "labels"); !maps.Equal(got, c.wantLabels) {
				t.Errorf("labels %v, want %v", got, c.wantLabels)
			}
			if got := inMap(pod, "metadata", "annotations"); !maps.Equal(got, c.wantAnnotations) {
				t.Errorf("annotations %v, want %v", got, c.wantAnnotations)
			}
			// The API server may ask again about what it has now.
			req.Object = raw(t, pod)
			again, err := rules.Mutate(t.Context(), req)
			if err != nil || again.Refusal != "" || len(again.Patch) > 0 {
				t.Errorf("asked again: %+v, %v", again, err)
			}
			if len(d.Steps) == 0 {
				t.Error("nothing says why")
			}
		})
	}
}

func TestAnIDThatNoLabelCanHoldIsLeftToTheScheduler(t *testing.T) {
	rules := Rules{Settings: settingsOf(t, nil), SchedulerName: "yunikorn", Facts: known{}}
	req := requestFor(t, "pods", podOf(nil, nil, nil), nil)
	req.Namespace = strings.Repeat("n", 63)
	d, err := rules.Mutate(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if got := inMap(patched(t, req, d), "metadata", "labels"); len(got) > 0 {
		t.Errorf("labels %v", got)
	}
}

// TestPodUpdates has what may become of user.info later.
func TestPodUpdates(t *testing.T) {
	for _, c := range []struct {
		name    string
		config  set
		user    string
		labels  set
		was, is set
		refusal string
	}{
		{name: "something else", was: set{userKey: annInfo}, is: set{userKey: annInfo, "x": "y"}},
		{name: "changed", was: set{userKey: annInfo}, is: set{userKey: bobInfo}, refusal: changeRefused},
		{name: "changed by a controller", user: controller, was: set{userKey: annInfo}, is: set{userKey: bobInfo}, refusal: changeRefused},
		{name: "taken away", was: set{userKey: annInfo}, refusal: changeRefused},
		{name: "added", is: set{userKey: annInfo}, refusal: changeRefused},
		{name: "changed where there are no labels", config: set{keyNoLabel: "team"}, was: set{userKey: annInfo}, is: set{userKey: bobInfo}, refusal: "user ann with groups"},
		{name: "changed with an app ID where there are none", config: set{keyNoLabel: "team"}, labels: set{appKey: "a"}, was: set{userKey: annInfo}, is: set{userKey: bobInfo}, refusal: changeRefused},
		{name: "forged in a bypassed namespace", config: set{keyBypass: "team"}, is: set{userKey: bobInfo}, refusal: "user ann with groups"},
		{name: "changed by a controller in a bypassed namespace", config: set{keyBypass: "team"}, user: controller, is: set{userKey: bobInfo}},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := requestFor(t, "pods", podOf(c.labels, c.is, nil), podOf(c.labels, c.was, nil))
			if c.user != "" {
				req.UserInfo.Username = c.user
			}
			d, err := Rules{Settings: settingsOf(t, c.config), SchedulerName: "yunikorn", Facts: known{}}.Mutate(t.Context(), req)
			if err != nil || len(d.Patch) > 0 {
				t.Fatalf("%+v, %v", d, err)
			}
			if !strings.HasPrefix(d.Refusal, c.refusal) || (c.refusal == "") != (d.Refusal == "") {
				t.Errorf("refusal %q, want %q", d.Refusal, c.refusal)
			}
		})
	}
}

func TestWithoutFactsThereIsNoDecision(t *testing.T) {
	away := errors.New("away")
	rules := Rules{Settings: settingsOf(t, nil), SchedulerName: "yunikorn", Facts: known{err: away}}
	if d, err := rules.Mutate(t.Context(), requestFor(t, "pods", podOf(nil, nil, nil), nil)); !errors.Is(err, away) {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestBadSettingsCountAsTheDefaults(t *testing.T) {
	s, wrong := ReadSettings(set{keyBypass: "^ok$,(", keyTrust: "yes?", keyProcess: "team"})
	if len(wrong) != 2 || !strings.Contains(wrong[0].Error(), keyBypass) || !strings.Contains(wrong[1].Error(), keyTrust) {
		t.Errorf("wrong: %v", wrong)
	}
	if !s.Bypass.match("kube-system") || s.Bypass.match("ok") || !s.TrustControllers || !s.Process.match("my-team-x") {
		t.Errorf("%+v", s)
	}
	for _, key := range settings.Table() {
		if _, wrong := ReadSettings(set{key.Name: key.Default}); len(wrong) > 0 {
			t.Error(wrong)
		}
	}
}
