package custom

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// example is a manifest of a preset's kind, and what has to be said of it.
type example struct {
	Object    map[string]any `json:"object"`
	AppID     string         `json:"appID"`
	Queue     string         `json:"queue"`
	User      string         `json:"user"`
	Style     string         `json:"style"`
	Scheduled bool           `json:"scheduled"`
	Groups    []wantGroup    `json:"groups"`
	Warnings  []string       `json:"warnings"`
	// States are versions of the object by name; what they do not say is as above.
	States map[string]struct {
		Patch     map[string]any `json:"patch"` // a JSON merge patch
		Matches   *bool          `json:"matches"`
		Phase     Phase          `json:"phase"`
		Message   string         `json:"message"`
		Style     string         `json:"style"`
		Scheduled *bool          `json:"scheduled"`
		Groups    *[]wantGroup   `json:"groups"`
		Warnings  *[]string      `json:"warnings"`
	} `json:"states"`
	Pods []struct {
		Pod v1.Pod `json:"pod"`
		// Of is the name of its object, Through the object to be read on the way to it;
		// both empty for a pod of none.
		Of      string `json:"of"`
		Through string `json:"through"`
		Group   string `json:"group"`
	} `json:"pods"`
}

type wantGroup struct {
	Name         string            `json:"name"`
	MinMember    int32             `json:"minMember"`
	MinResource  map[string]string `json:"minResource"`
	NodeSelector map[string]string `json:"nodeSelector"`
	Tolerations  int               `json:"tolerations"`
}

func compiled(t testing.TB, name string) *Program {
	t.Helper()
	d, err := Preset(name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(name, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func readExample(t testing.TB, name string) example {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var ex example
	if err := yaml.UnmarshalStrict(data, &ex); err != nil {
		t.Fatal(err)
	}
	return ex
}

// manifest returns the object as the API server would give it, with a patch.
func manifest(t testing.TB, object, patch map[string]any) *unstructured.Unstructured {
	t.Helper()
	data, err := yaml.Marshal(mergePatch(object, patch))
	if err != nil {
		t.Fatal(err)
	}
	if data, err = yaml.YAMLToJSON(data); err != nil {
		t.Fatal(err)
	}
	out := &unstructured.Unstructured{}
	if err := out.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	return out
}

// mergePatch applies a patch as RFC 7386 says.
func mergePatch(target, patch map[string]any) map[string]any {
	out := maps.Clone(target)
	if out == nil {
		out = map[string]any{}
	}
	for key, value := range patch {
		switch v := value.(type) {
		case nil:
			delete(out, key)
		case map[string]any:
			under, _ := out[key].(map[string]any)
			out[key] = mergePatch(under, v)
		default:
			out[key] = v
		}
	}
	return out
}

func groupsOf(groups []v1alpha1.TaskGroup) []wantGroup {
	var out []wantGroup
	for _, g := range groups {
		is := wantGroup{Name: g.Name, MinMember: g.MinMember, NodeSelector: g.NodeSelector, Tolerations: len(g.Tolerations)}
		for name, quantity := range g.MinResource {
			if is.MinResource == nil {
				is.MinResource = map[string]string{}
			}
			is.MinResource[name] = quantity.String()
		}
		out = append(out, is)
	}
	return out
}

// Every preset is shown every state of a realistic manifest.
func TestPresets(t *testing.T) {
	for _, name := range Presets() {
		t.Run(name, func(t *testing.T) {
			p, ex := compiled(t, name), readExample(t, name)
			for _, needed := range []string{"created", "suspended", "running"} {
				if _, ok := ex.States[needed]; !ok {
					t.Errorf("no example of the state %s", needed)
				}
			}
			for _, state := range slices.Sorted(maps.Keys(ex.States)) {
				t.Run(state, func(t *testing.T) { checkState(t, p, ex, state) })
			}
			checkPods(t, p, ex)
		})
	}
}

func checkState(t *testing.T, p *Program, ex example, state string) {
	want := ex.States[state]
	object := manifest(t, ex.Object, want.Patch)
	before := object.DeepCopy()
	got, err := p.Evaluate(object, Surroundings{SchedulerName: "yunikorn", UserLabel: workload.DefaultUserLabel})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(object, before) {
		t.Error("the object was changed")
	}
	if want.Matches != nil && !*want.Matches {
		if got.Matches {
			t.Error("it matches")
		}
		return
	}
	groups, warnings, scheduled, style := ex.Groups, ex.Warnings, ex.Scheduled, ex.Style
	if want.Groups != nil {
		groups = *want.Groups
	}
	if want.Warnings != nil {
		warnings = *want.Warnings
	}
	if want.Scheduled != nil {
		scheduled = *want.Scheduled
	}
	if want.Style != "" {
		style = want.Style
	}
	if style == "" {
		style = "Soft"
	}
	app := got.App
	for _, c := range []struct{ what, got, want string }{
		{"matches", fmt.Sprint(got.Matches), "true"},
		{"app ID", app.ApplicationID, ex.AppID}, {"queue", app.QueueName, ex.Queue}, {"user", app.User, ex.User},
		{"phase", string(got.Phase), string(want.Phase)}, {"message", got.Message, want.Message},
		{"scheduled", fmt.Sprint(got.Scheduled), fmt.Sprint(scheduled)},
		{"style", app.SchedulingPolicyParameters.GetGangSchedulingStyle(), style},
		{"namespace", app.Tags[workload.TagNamespace], object.GetNamespace()},
		{"owner", string(app.OwnerReferences[0].UID), string(object.GetUID())},
	} {
		if c.got != c.want {
			t.Errorf("%s = %q, want %q", c.what, c.got, c.want)
		}
	}
	if is := groupsOf(app.TaskGroups); len(is)+len(groups) > 0 && !reflect.DeepEqual(is, groups) {
		t.Errorf("groups = %+v\nwant     %+v", is, groups)
	}
	if !slices.Equal(got.Warnings, warnings) {
		t.Errorf("warnings = %q, want %q", got.Warnings, warnings)
	}
}

func checkPods(t *testing.T, p *Program, ex example) {
	if len(ex.Pods) == 0 {
		t.Error("no example of a pod")
	}
	for i := range ex.Pods {
		pod := &ex.Pods[i].Pod
		of, through := "", ""
		if to, ok := p.fromPod(pod); ok && to.object {
			of = to.name
		} else if ok {
			through = to.kind.Kind + "/" + to.name
		}
		if of != ex.Pods[i].Of || through != ex.Pods[i].Through {
			t.Errorf("pod %s is of %q, through %q; want %q, through %q", pod.Name, of, through, ex.Pods[i].Of, ex.Pods[i].Through)
		}
		if of+through == "" {
			continue
		}
		group, err := p.groupOf(pod, "yunikorn")
		if err != nil || group != ex.Pods[i].Group {
			t.Errorf("pod %s is of the group %q, %v; want %q", pod.Name, group, err, ex.Pods[i].Group)
		}
	}
}
