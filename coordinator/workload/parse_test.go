package workload

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type set = map[string]string

func podWith(labels, annotations set) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "pod", UID: "uid",
			Labels: labels, Annotations: annotations,
			CreationTimestamp: metav1.Unix(1000, 0),
		},
		Spec: v1.PodSpec{SchedulerName: DefaultSchedulerName},
	}
}

// The rows of the table that says where each fact about a pod is read, earlier
// sources first.
func TestPrecedence(t *testing.T) {
	user := func(p *v1.Pod) string { m, _ := ParseApplication(p, nil, DefaultUserLabel); return m.User }
	others := func(p *v1.Pod) string { m, _ := ParseApplication(p, nil, "example.com/owner"); return m.User }
	held := func(p *v1.Pod) string { m, _ := ParseTask(p); return fmt.Sprint(m.Placeholder) }
	tests := []struct {
		fact    string
		read    func(*v1.Pod) string
		sources []string // "label key=value" or "annotation key=value"
		want    []string // with the sources from i on, and last with none
	}{
		{"app ID", AppID, []string{
			"label yunikorn.apache.org/app-id=a", "annotation yunikorn.apache.org/app-id=b",
			"label applicationId=c", "label spark-app-selector=d",
		}, []string{"a", "b", "c", "d", "yunikorn-ns-autogen"}},
		{"queue", Queue, []string{
			"label yunikorn.apache.org/queue=root.a", "annotation yunikorn.apache.org/queue=root.b", "label queue=root.c",
		}, []string{"root.a", "root.b", "root.c", ""}},
		{"user", user, []string{
			`annotation yunikorn.apache.org/user.info={"user":"ann","groups":["g"]}`, "label yunikorn.apache.org/username=bob",
		}, []string{"ann", "bob", "nobody"}},
		{"user by a label of one's own", others, []string{
			"label example.com/owner=ann", "label yunikorn.apache.org/username=bob",
		}, []string{"ann", "nobody", "nobody"}},
		{"placeholder", held, []string{
			"annotation internal.yunikorn.apache.org/placeholder=true", "annotation yunikorn.apache.org/placeholder=true", "label placeholder=true",
		}, []string{"true", "true", "true", "false"}},
		{"placeholder denied first", held, []string{
			"annotation internal.yunikorn.apache.org/placeholder=false", "label placeholder=true",
		}, []string{"false", "true", "false"}},
		{"blank is absent", AppID, []string{"label yunikorn.apache.org/app-id= ", "label applicationId=c"}, []string{"c", "c", "yunikorn-ns-autogen"}},
	}
	for _, tt := range tests {
		t.Run(tt.fact, func(t *testing.T) {
			for i := range tt.want {
				labels, annotations := set{}, set{}
				for _, source := range tt.sources[i:] {
					kind, rest, _ := strings.Cut(source, " ")
					key, value, _ := strings.Cut(rest, "=")
					if kind == "label" {
						labels[key] = value
					} else {
						annotations[key] = value
					}
				}
				if got := tt.read(podWith(labels, annotations)); got != tt.want[i] {
					t.Errorf("from %q: got %q, want %q", tt.sources[i:], got, tt.want[i])
				}
			}
		})
	}
}

func TestOurs(t *testing.T) {
	if !Ours(podWith(nil, nil), DefaultSchedulerName) {
		t.Error("a pod that names this scheduler is not ours")
	}
	if Ours(podWith(nil, nil), "other") {
		t.Error("a pod that names another scheduler is ours")
	}
	if Ours(podWith(nil, set{AnnotationIgnore: "true"}), DefaultSchedulerName) {
		t.Error("a pod to be ignored is ours")
	}
	if !Ours(podWith(nil, set{AnnotationIgnore: "perhaps"}), DefaultSchedulerName) {
		t.Error("a malformed annotation keeps a pod from being scheduled")
	}
}

func TestLongNamespacesDoNotShareAnApplication(t *testing.T) {
	a, b := podWith(nil, nil), podWith(nil, nil)
	a.Namespace = strings.Repeat("n", 62) + "a"
	b.Namespace = strings.Repeat("n", 62) + "b"
	if AppID(a) == AppID(b) {
		t.Errorf("both namespaces got %s", AppID(a))
	}
}

func TestUniqueApplicationsHaveALengthThatLabelsTake(t *testing.T) {
	p := podWith(nil, nil)
	p.Namespace, p.UID = strings.Repeat("n", 63), "0d4b7e0c-5d5e-4a52-9a53-6c1c1f1c9a11"
	if got, want := UniqueAppID(p), strings.Repeat("n", 26)+"-0d4b7e0c-5d5e-4a52-9a53-6c1c1f1c9a11"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Labels = set{KeyAppID: "mine"}
	if got := UniqueAppID(p); got != "mine" {
		t.Errorf("got %q for a pod that names its application", got)
	}
}

func TestAllowPreemption(t *testing.T) {
	class := func(value string) *schedulingv1.PriorityClass {
		return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Annotations: set{AnnotationAllowPreemption: value}}}
	}
	for _, tt := range []struct {
		pod   set
		class *schedulingv1.PriorityClass
		want  bool
	}{
		{nil, nil, true},
		{nil, class("false"), false},
		{nil, class("no idea"), true},
		{set{AnnotationAllowPreemption: "true"}, class("false"), true},
		{set{AnnotationAllowPreemption: "false"}, nil, false},
		{set{AnnotationAllowPreemption: "?"}, class("false"), false},
	} {
		if got := AllowPreemption(podWith(nil, tt.pod), tt.class); got != tt.want {
			t.Errorf("pod %v, class %v: got %v, want %v", tt.pod, tt.class, got, tt.want)
		}
	}
}

// Every kind of malformed input leaves a problem that names its key, and the
// default in place of what could not be read.
func TestProblems(t *testing.T) {
	namespace := func(key, value string) *v1.Namespace {
		return &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Annotations: set{key: value}}}
	}
	tests := []struct {
		name      string
		pod       set
		namespace *v1.Namespace
		key       string
		says      string
	}{
		{"user not JSON", set{AnnotationUserInfo: "ann"}, nil, AnnotationUserInfo, "ignored"},
		{"user empty", set{AnnotationUserInfo: `{"groups":["a"]}`}, nil, AnnotationUserInfo, "no user"},
		{"placeholder", set{AnnotationPlaceholder: "yes!"}, nil, AnnotationPlaceholder, "neither true nor false"},
		{"ignore", set{AnnotationIgnore: "yes!"}, nil, AnnotationIgnore, "neither true nor false"},
		{"preemption", set{AnnotationAllowPreemption: "yes!"}, nil, AnnotationAllowPreemption, "neither true nor false"},
		{"groups not JSON", set{AnnotationTaskGroups: "[{"}, nil, AnnotationTaskGroups, "not a JSON list"},
		{"groups an object", set{AnnotationTaskGroups: "{}"}, nil, AnnotationTaskGroups, "not a JSON list"},
		{"group without name", set{AnnotationTaskGroups: `[{"minMember":1}]`}, nil, AnnotationTaskGroups, "no name"},
		{"group twice", set{AnnotationTaskGroups: `[{"name":"a","minMember":1},{"name":"a","minMember":1}]`}, nil, AnnotationTaskGroups, "twice"},
		{"no members", set{AnnotationTaskGroups: `[{"name":"a"}]`}, nil, AnnotationTaskGroups, "not above zero"},
		{"too many members", set{AnnotationTaskGroups: `[{"name":"a","minMember":15000},{"name":"b","minMember":5001,"minResource":{"cpu":"1u"}}]`}, nil, AnnotationTaskGroups, "more than 20000 members"},
		{"members that add up to less than none", set{AnnotationTaskGroups: `[{"name":"a","minMember":2147483647},{"name":"b","minMember":2147483647}]`}, nil, AnnotationTaskGroups, "more than 20000 members"},
		{"bad quantity", set{AnnotationTaskGroups: `[{"name":"a","minMember":1,"minResource":{"cpu":"lots"}}]`}, nil, AnnotationTaskGroups, `cpu: "lots"`},
		{"negative quantity", set{AnnotationTaskGroups: `[{"name":"a","minMember":1,"minResource":{"cpu":-1}}]`}, nil, AnnotationTaskGroups, "below zero"},
		{"absurd quantity", set{AnnotationTaskGroups: `[{"name":"a","minMember":1,"minResource":{"cpu":"1e-2000000000"}}]`}, nil, AnnotationTaskGroups, "not a quantity"},
		{"policy part", set{AnnotationPolicy: "placeholderTimeoutInSeconds"}, nil, AnnotationPolicy, "key=value"},
		{"timeout", set{AnnotationPolicy: "placeholderTimeoutInSeconds=soon"}, nil, AnnotationPolicy, "number of seconds"},
		{"timeout negative", set{AnnotationPolicy: "placeholderTimeoutInSeconds=-1"}, nil, AnnotationPolicy, "number of seconds"},
		{"timeout beyond time", set{AnnotationPolicy: "placeholderTimeoutInSeconds=9223372036854775807"}, nil, AnnotationPolicy, "number of seconds"},
		{"style", set{AnnotationPolicy: "gangSchedulingStyle=soft"}, nil, AnnotationPolicy, "Soft or Hard"},
		{"unknown parameter", set{AnnotationPolicy: "x=y"}, nil, AnnotationPolicy, "not known"},
		{"quota", nil, namespace(annotationQuota, `{"cpu":"x"}`), annotationQuota, "cpu"},
		{"quota not JSON", nil, namespace(annotationQuota, `10`), annotationQuota, "not a JSON object"},
		{"guaranteed", nil, namespace(annotationGuaranteed, `{"memory":"-1"}`), annotationGuaranteed, "below zero"},
		{"max apps", nil, namespace(annotationMaxApps, "many"), annotationMaxApps, "not a number"},
		{"old max cpu", nil, namespace(annotationOldMaxCPU, "many"), annotationOldMaxCPU, "many"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := podWith(nil, tt.pod)
			app, found := ParseApplication(pod, tt.namespace, DefaultUserLabel)
			_, more := ParseTask(pod)
			found = append(found, more...)
			if len(found) != 1 || found[0].Key != tt.key || !strings.Contains(found[0].Message, tt.says) {
				t.Fatalf("problems = %q; want one for %s that says %q", found, tt.key, tt.says)
			}
			want, _ := ParseApplication(podWith(nil, nil), nil, DefaultUserLabel)
			for _, raw := range []string{AnnotationPolicy, AnnotationTaskGroups} {
				delete(app.Tags, raw)
			}
			if !reflect.DeepEqual(app, want) {
				t.Errorf("application = %+v\nwant the defaults: %+v", app, want)
			}
		})
	}
}

func TestPolicySkipsOnlyTheMalformedPart(t *testing.T) {
	var found problems
	policy := parsePolicy("  placeholderTimeoutInSeconds=60 nonsense  gangSchedulingStyle=Hard ", &found)
	if policy.GetPlaceholderTimeout() != 60 || policy.GetGangSchedulingStyle() != "Hard" || len(found) != 1 {
		t.Errorf("got %d, %s, %q", policy.GetPlaceholderTimeout(), policy.GetGangSchedulingStyle(), found)
	}
	policy = parsePolicy("", &found)
	if policy.GetPlaceholderTimeout() != 0 || policy.GetGangSchedulingStyle() != "Soft" {
		t.Errorf("defaults are %d, %s", policy.GetPlaceholderTimeout(), policy.GetGangSchedulingStyle())
	}
}

func TestTaskGroups(t *testing.T) {
	var found problems
	groups := parseTaskGroups(`[{"name":"driver","minMember":1,"minResource":{"cpu":1,"memory":"2Gi","nvidia.com/gpu":"1"},
		"labels":{"l":"1"},"annotations":{"a":"1"},"nodeSelector":{"disk":"ssd"},
		"tolerations":[{"key":"k","operator":"Exists"}],
		"affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"zone"}]}},
		"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule"}]},
		{"name":"executor","minMember":10}]`, &found)
	if len(found) > 0 || len(groups) != 2 {
		t.Fatalf("groups = %v, problems = %q", groups, found)
	}
	g := groups[0]
	cpu, memory, gpu := g.MinResource["cpu"], g.MinResource["memory"], g.MinResource["nvidia.com/gpu"]
	if cpu.MilliValue() != 1000 || memory.Value() != 2<<30 || gpu.Value() != 1 {
		t.Errorf("minResource = %v", g.MinResource)
	}
	if g.Labels["l"] != "1" || g.Annotations["a"] != "1" || g.NodeSelector["disk"] != "ssd" || len(g.Tolerations) != 1 ||
		g.Affinity.PodAntiAffinity == nil || len(g.TopologySpreadConstraints) != 1 {
		t.Errorf("driver = %+v", g)
	}
	if groups[1].MinMember != 10 {
		t.Errorf("executor = %+v", groups[1])
	}
}

func TestTags(t *testing.T) {
	pod := podWith(
		set{LabelDisableStateAware: "true"},
		set{AnnotationTaskGroups: `[{"name":"a","minMember":1}]`, AnnotationPolicy: "gangSchedulingStyle=Hard", AnnotationUserInfo: `{"user":"ann","groups":["x","y"]}`},
	)
	pod.Spec.ImagePullSecrets = []v1.LocalObjectReference{{Name: "one"}, {Name: "two"}}
	pod.Spec.PriorityClassName = "high"
	namespace := &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Annotations: set{
		annotationParentQueue: "root.parent",
		annotationQuota:       `{"cpu":"1500m","memory":"1Gi","nvidia.com/gpu":"2"}`,
		annotationGuaranteed:  `{"cpu":"1"}`,
		annotationMaxApps:     "5",
		annotationOldMaxCPU:   "99",
	}}}
	app, found := ParseApplication(pod, namespace, DefaultUserLabel)
	if len(found) > 0 {
		t.Fatalf("problems: %q", found)
	}
	want := set{
		"namespace":                      "ns",
		AnnotationTaskGroups:             pod.Annotations[AnnotationTaskGroups],
		AnnotationPolicy:                 pod.Annotations[AnnotationPolicy],
		AnnotationUserInfo:               pod.Annotations[AnnotationUserInfo],
		"application.stateaware.disable": "true",
		"imagePullSecrets":               "one,two",
		"priorityClassName":              "high",
		"namespace.parentqueue":          "root.parent",
		"namespace.resourcequota":        `{"resources":{"memory":{"value":1073741824},"nvidia.com/gpu":{"value":2},"vcore":{"value":1500}}}`,
		"namespace.resourceguaranteed":   `{"resources":{"vcore":{"value":1000}}}`,
		"namespace.resourcemaxapps":      "5",
	}
	if !maps.Equal(app.Tags, want) {
		t.Errorf("tags = %v\nwant  %v", app.Tags, want)
	}
	if groups := Groups(app.Tags); !slices.Equal(groups, []string{"x", "y"}) {
		t.Errorf("groups = %v", groups)
	}
	if app.CreationTime != 1000 {
		t.Errorf("creation time = %d", app.CreationTime)
	}

	old := &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Annotations: set{annotationOldMaxCPU: "2", annotationOldMaxMemory: "1k"}}}
	app, _ = ParseApplication(podWith(nil, nil), old, DefaultUserLabel)
	if got := app.Tags["namespace.resourcequota"]; got != `{"resources":{"memory":{"value":1000},"vcore":{"value":2000}}}` {
		t.Errorf("quota of the old annotations = %s", got)
	}
}

func TestOwnerReferences(t *testing.T) {
	yes := true
	t.Run("a placeholder's own", func(t *testing.T) {
		pod := podWith(nil, set{AnnotationPlaceholder: "true"})
		pod.OwnerReferences = []metav1.OwnerReference{
			{APIVersion: "batch/v1", Kind: "Job", Name: "job", UID: "j", Controller: &yes, BlockOwnerDeletion: &yes},
			{APIVersion: "v1", Kind: "ConfigMap", Name: "cm", UID: "c"}, // Controller is nil
		}
		before := pod.DeepCopy()
		app, _ := ParseApplication(pod, nil, DefaultUserLabel)
		refs := app.OwnerReferences
		if len(refs) != 2 || refs[0].UID != "j" || refs[1].UID != "c" {
			t.Fatalf("owners = %+v", refs)
		}
		for _, ref := range refs {
			if ref.Controller == nil || *ref.Controller {
				t.Errorf("%s is the controller of placeholders", ref.Name)
			}
		}
		*refs[0].BlockOwnerDeletion = false
		if !equality.Semantic.DeepEqual(pod, before) {
			t.Error("the pod of the cache was changed")
		}
	})
	t.Run("the pod itself", func(t *testing.T) {
		// Not its Job: a new pod of that has another gang.
		pod := podWith(nil, nil)
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: "job", UID: "j", Controller: &yes}}
		app, _ := ParseApplication(pod, nil, DefaultUserLabel)
		got, _ := json.Marshal(app.OwnerReferences)
		want := `[{"apiVersion":"v1","kind":"Pod","name":"pod","uid":"uid","controller":false,"blockOwnerDeletion":true}]`
		if string(got) != want {
			t.Errorf("owners = %s\nwant     %s", got, want)
		}
	})
}

func TestUserInfo(t *testing.T) {
	user, groups, err := ParseUserInfo(`{"user":"o\"brien","groups":["a","b"]}`)
	if err != nil || user != `o"brien` || !slices.Equal(groups, []string{"a", "b"}) {
		t.Errorf("got %q, %v, %v", user, groups, err)
	}
}

func FuzzTaskGroups(f *testing.F) {
	for _, seed := range []string{"", "[]", "[null]", `[{"name":"a","minMember":1,"minResource":{"cpu":"1","memory":1e3}}]`, `[{"name":"a","minMember":1,"minResource":{"cpu":"1e-2000000000"}}]`, "{"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		var found problems
		groups := parseTaskGroups(value, &found)
		if len(found) > 0 && groups != nil {
			t.Fatalf("%d groups in spite of %q", len(groups), found)
		}
		for _, g := range groups {
			if g.Name == "" || g.MinMember <= 0 {
				t.Fatalf("accepted %+v", g)
			}
			for name, q := range g.MinResource {
				if q.Sign() < 0 {
					t.Fatalf("accepted %s of %s", q.String(), name)
				}
			}
		}
	})
}

func FuzzPolicy(f *testing.F) {
	f.Add("placeholderTimeoutInSeconds=60 gangSchedulingStyle=Hard")
	f.Add("= == placeholderTimeoutInSeconds=99999999999999999999")
	f.Fuzz(func(t *testing.T, value string) {
		var found problems
		policy := parsePolicy(value, &found)
		timeout, style := policy.GetPlaceholderTimeout(), policy.GetGangSchedulingStyle()
		if timeout < 0 || time.Duration(timeout)*time.Second < 0 || (style != "Soft" && style != "Hard") {
			t.Fatalf("accepted %d, %q", timeout, style)
		}
	})
}

func FuzzUserInfo(f *testing.F) {
	f.Add(`{"user":"ann","groups":["a"]}`)
	f.Add(`{"user":" "}`)
	f.Fuzz(func(t *testing.T, value string) {
		user, _, err := ParseUserInfo(value)
		if (err == nil) == (user == "") {
			t.Fatalf("user %q, error %v", user, err)
		}
	})
}

func FuzzPod(f *testing.F) {
	f.Add(KeyAppID, "a", AnnotationPlaceholder, "true")
	f.Add(AnnotationIgnore, "x", annotationQuota, `{"cpu":"1"}`)
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 string) {
		values := set{key1: value1, key2: value2}
		pod := podWith(values, values)
		app, _ := ParseApplication(pod, &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Annotations: values}}, DefaultUserLabel)
		task, _ := ParseTask(pod)
		if app.ApplicationID == "" || app.User == "" || app.ApplicationID != task.ApplicationID {
			t.Fatalf("app %+v, task %+v", app, task)
		}
		AllowPreemption(pod, nil)
	})
}

func FuzzNamespace(f *testing.F) {
	f.Add(`{"cpu":"1"}`, "5", "1", "1Gi")
	f.Fuzz(func(t *testing.T, quota, maxApps, cpu, memory string) {
		var found problems
		tags := namespaceTags(set{annotationQuota: quota, annotationMaxApps: maxApps, annotationOldMaxCPU: cpu, annotationOldMaxMemory: memory}, &found)
		if value, ok := tags[tagQuota]; ok && !json.Valid([]byte(value)) {
			t.Fatalf("quota %s", value)
		}
	})
}
