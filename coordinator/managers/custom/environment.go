package custom

import (
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/types"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/openapi"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// The variables of expressions.
const (
	varObject        = "object"
	varSchedulerName = "schedulerName"
	varEach          = "each"
	varKey           = "key"
	varPod           = "pod"
)

// The limits of cost are in the units of the API server, and below its own for admission
// policies: an object is evaluated each time that it changes, one after the other.
const (
	// costPerCall bounds one expression, costPerObject all of them over one object.
	costPerCall   = celconfig.PerCallLimit / 5
	costPerObject = celconfig.PerCallLimit
	// maxEstimate bounds what an expression may cost at worst, as far as can be told
	// from itself.
	maxEstimate = celconfig.PerCallLimit
	// assumedSize is how many elements or characters a value is taken to have of which
	// nothing is known. More than that cost what they cost when it is evaluated.
	assumedSize = 64
)

// environments are what the expressions of a definition are compiled in.
type environments struct {
	// plain takes objects as they come: every field may be anything. Programs run in it.
	plain *cel.Env
	// typed knows the fields of objects; nil without a schema.
	typed *cel.Env
	// pod is for expressions over a pod.
	pod *cel.Env
}

func newEnvironments(schema *spec.Schema) (environments, error) {
	base := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	name := cel.Variable(varSchedulerName, cel.StringType)
	var envs environments
	var err error
	if envs.plain, err = extend(base, nil, cel.Variable(varObject, cel.DynType), name); err != nil {
		return envs, err
	}
	if envs.pod, err = extend(base, nil, cel.Variable(varPod, cel.DynType), name); err != nil {
		return envs, err
	}
	if schema == nil {
		return envs, nil
	}
	declared := common.SchemaDeclType(&openapi.Schema{Schema: readable(schema)}, false)
	if declared == nil {
		return envs, nil // The schema says nothing of its fields.
	}
	declared = declared.MaybeAssignTypeName("Object")
	envs.typed, err = extend(base, []*apiservercel.DeclType{declared}, cel.Variable(varObject, declared.CelType()), name)
	return envs, err
}

func extend(base *environment.EnvSet, declared []*apiservercel.DeclType, options ...cel.EnvOption) (*cel.Env, error) {
	set, err := base.Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0), // always
		EnvOptions:        options,
		DeclTypes:         declared,
	})
	if err != nil {
		return nil, err
	}
	return set.StoredExpressionsEnv(), nil
}

// readable returns what of a schema can be relied on when expressions read plain values:
// strings of a format are strings, and what may have fields that the schema does not
// name may be anything. The metadata, of which a CRD says nothing, is declared.
func readable(s *spec.Schema) *spec.Schema {
	out := plainValues(s)
	if !out.Type.Contains("object") || len(out.Properties) == 0 {
		return out
	}
	out.Properties["metadata"] = metadataSchema()
	for _, field := range []string{"apiVersion", "kind"} {
		out.Properties[field] = *spec.StringProperty()
	}
	return out
}

// anything is the schema of a value of any type.
func anything() *spec.Schema {
	s := &spec.Schema{}
	s.AddExtension("x-kubernetes-int-or-string", true)
	return s
}

func plainValues(s *spec.Schema) *spec.Schema {
	if preserve, _ := s.Extensions.GetBool("x-kubernetes-preserve-unknown-fields"); preserve {
		return anything()
	}
	out := *s
	out.Format, out.Default, out.Enum = "", nil, nil
	if len(s.Properties) > 0 {
		out.Properties = make(map[string]spec.Schema, len(s.Properties))
		for name := range s.Properties {
			property := s.Properties[name]
			out.Properties[name] = *plainValues(&property)
		}
	}
	if s.Items != nil && s.Items.Schema != nil {
		out.Items = &spec.SchemaOrArray{Schema: plainValues(s.Items.Schema)}
	}
	if more := s.AdditionalProperties; more != nil {
		if more.Schema != nil {
			out.AdditionalProperties = &spec.SchemaOrBool{Allows: true, Schema: plainValues(more.Schema)}
		} else if more.Allows {
			return anything()
		}
	}
	if untyped := len(s.Type) == 0; untyped && len(s.Properties) == 0 || s.Type.Contains("object") && len(s.Properties) == 0 && out.AdditionalProperties == nil {
		return anything()
	}
	return &out
}

// metadataSchema declares what an expression may read of an object's metadata.
func metadataSchema() spec.Schema {
	texts := spec.MapProperty(spec.StringProperty())
	object := func(properties map[string]spec.Schema) *spec.Schema {
		return &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}, Properties: properties}}
	}
	text, number, flag := *spec.StringProperty(), *spec.Int64Property(), *spec.BooleanProperty()
	text.Format, number.Format = "", ""
	owner := object(map[string]spec.Schema{
		"apiVersion": text, "kind": text, "name": text, "uid": text, "controller": flag, "blockOwnerDeletion": flag,
	})
	return *object(map[string]spec.Schema{
		"name": text, "generateName": text, "namespace": text, "uid": text, "resourceVersion": text,
		"creationTimestamp": text, "deletionTimestamp": text, "generation": number,
		"labels": *texts, "annotations": *texts,
		"finalizers": *spec.ArrayProperty(spec.StringProperty()), "ownerReferences": *spec.ArrayProperty(owner),
	})
}

// estimate returns the most that an expression costs, as far as can be told.
func estimate(env *cel.Env, ast *cel.Ast) (uint64, error) {
	cost, err := env.EstimateCost(ast, &library.CostEstimator{SizeEstimator: sizes{}})
	return cost.Max, err
}

// sizes estimates values of which nothing is known.
type sizes struct{}

func (sizes) EstimateSize(node checker.AstNode) *checker.SizeEstimate {
	switch node.Type().Kind() {
	case types.BoolKind, types.IntKind, types.UintKind, types.DoubleKind, types.NullTypeKind, types.DurationKind, types.TimestampKind:
		return nil
	}
	return &checker.SizeEstimate{Min: 0, Max: assumedSize}
}

func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
