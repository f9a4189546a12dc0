package deploy

import (
	"math/rand"
	"reflect"
	"strings"
	"testing"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/randfill"
	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// crd is the one version of the CRD, as the API server sees it.
type crd struct {
	structural *structuralschema.Structural
	validator  validation.SchemaValidator
}

func loadCRD(t *testing.T) crd {
	t.Helper()
	definition := only[*apiextensionsv1.CustomResourceDefinition](t, "applications."+v1alpha1.GroupName)
	if definition.Spec.Group != v1alpha1.GroupName || definition.Spec.Versions[0].Name != v1alpha1.Version {
		t.Fatalf("the CRD defines %s/%s", definition.Spec.Group, definition.Spec.Versions[0].Name)
	}
	if definition.Spec.Versions[0].Subresources.Status == nil {
		t.Fatal("the CRD has no status subresource")
	}
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(
		definition.Spec.Versions[0].Schema.OpenAPIV3Schema, &props, nil); err != nil {
		t.Fatal(err)
	}
	structural, err := structuralschema.NewStructural(&props)
	if err != nil {
		t.Fatal(err)
	}
	if errs := structuralschema.ValidateStructural(nil, structural); len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	validator, _, err := validation.NewSchemaValidator(&props)
	if err != nil {
		t.Fatal(err)
	}
	return crd{structural, validator}
}

// errors returns what the API server would say of an object.
func (c crd) errors(object map[string]any) string {
	errs := validation.ValidateCustomResource(nil, object, c.validator)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, c.structural, object)...)
	if len(errs) == 0 {
		return ""
	}
	return errs.ToAggregate().Error()
}

// TestSchemaHoldsEveryField fills every field of the Go types and looks whether
// the API server would store all of it: a field that the schema does not know
// is dropped without a word.
func TestSchemaHoldsEveryField(t *testing.T) {
	c := loadCRD(t)
	fill := randfill.New().NilChance(0).NumElements(1, 2).RandSource(rand.NewSource(1)).Funcs(
		func(q *resource.Quantity, _ randfill.Continue) { *q = resource.MustParse("1500m") },
		func(at *metav1.Time, _ randfill.Continue) { *at = metav1.NewTime(time.Unix(1_700_000_000, 0).UTC()) },
		func(p *v1alpha1.SchedulingPolicyType, _ randfill.Continue) { *p = v1alpha1.TryReserve },
		func(s *v1alpha1.ApplicationStateType, _ randfill.Continue) { *s = v1alpha1.RunningApplicationState },
		func(o *metav1.ObjectMeta, _ randfill.Continue) { o.Name, o.Namespace = "app", "default" },
	)
	var app v1alpha1.Application
	fill.Fill(&app)
	app.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.GroupName + "/" + v1alpha1.Version, Kind: "Application"}
	for i := range app.Spec.TaskGroups {
		app.Spec.TaskGroups[i].MinMember = 3
		app.Spec.TaskGroups[i].Name += string(rune('a' + i))
	}

	full := toMap(t, app)
	if said := c.errors(full); said != "" {
		t.Errorf("a full application is refused: %s", said)
	}
	stored := runtime.DeepCopyJSON(full)
	pruning.Prune(stored, c.structural, true)
	if !reflect.DeepEqual(full, stored) {
		t.Errorf("fields are lost:\nwritten %s\nstored  %s", toYAML(t, full), toYAML(t, stored))
	}
}

func TestSchemaAcceptsAndRefuses(t *testing.T) {
	c := loadCRD(t)
	group := func(name string, members int) map[string]any {
		return map[string]any{"name": name, "minMember": int64(members), "minResource": map[string]any{"cpu": int64(1), "memory": "1Gi"}}
	}
	for name, test := range map[string]struct {
		spec map[string]any
		want string // part of the error; empty means accepted
	}{
		"nothing but a queue": {map[string]any{"queue": "root.a"}, ""},
		"gang": {map[string]any{"queue": "root.a", "schedulingPolicy": map[string]any{"type": "TryReserve"},
			"taskGroups": []any{group("driver", 1), group("executor", 5)}}, ""},
		"policy unknown": {map[string]any{"schedulingPolicy": map[string]any{"type": "TryHarder"}}, "schedulingPolicy.type"},
		"group twice":    {map[string]any{"taskGroups": []any{group("a", 1), group("a", 2)}}, "Duplicate value"},
		"no members":     {map[string]any{"taskGroups": []any{group("a", 0)}}, "minMember"},
		"no name":        {map[string]any{"taskGroups": []any{map[string]any{"minMember": int64(1)}}}, "name"},
		"bad quantity": {map[string]any{"taskGroups": []any{map[string]any{"name": "a", "minMember": int64(1),
			"minResource": map[string]any{"cpu": "much"}}}}, "minResource"},
		"queue of a wrong type": {map[string]any{"queue": int64(7)}, "spec.queue"},
	} {
		t.Run(name, func(t *testing.T) {
			said := c.errors(map[string]any{"apiVersion": "yunikorn.apache.org/v1alpha1", "kind": "Application",
				"metadata": map[string]any{"name": "app"}, "spec": test.spec})
			if (said == "") != (test.want == "") || !strings.Contains(said, test.want) {
				t.Errorf("errors = %q, want %q", said, test.want)
			}
		})
	}
}

func toMap(t *testing.T, app v1alpha1.Application) map[string]any {
	t.Helper()
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&app)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func toYAML(t *testing.T, v any) string {
	t.Helper()
	data, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
