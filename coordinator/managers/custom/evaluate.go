package custom

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/understudy-ha/understudy/coordinator/requests"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
)

// Phase is how far an object is.
type Phase string

// The phases.
const (
	Created   Phase = "Created"
	Suspended Phase = "Suspended"
	Running   Phase = "Running"
	Succeeded Phase = "Succeeded"
	Failed    Phase = "Failed"
)

// Ended reports whether an object of this phase needs no pod any more.
func (p Phase) Ended() bool { return p == Succeeded || p == Failed }

// Surroundings is what an evaluation depends on besides the object.
type Surroundings struct {
	// SchedulerName and UserLabel are as in managers.Deps.
	SchedulerName, UserLabel string
	// Namespace is that of the object, nil while it is not known.
	Namespace *v1.Namespace
}

// Evaluation is what a definition says of an object.
type Evaluation struct {
	// Matches is false for an object that is not for this manager; nothing else is said
	// of it then.
	Matches bool
	// App is the application, with its task groups.
	App protocol.ApplicationMetadata
	// Scheduled says that the application begins with the object, unless its pods are
	// another manager's: Pod is what tells whose they are.
	Scheduled bool
	Pod       *v1.Pod
	Phase     Phase
	// Message says why it is in this phase; empty for nothing.
	Message string
	// Warnings say what was left out. They are for the user who made the object.
	Warnings []string
}

// EvaluationError is why an object could not be evaluated.
type EvaluationError struct {
	Definition string
	// Object is namespace/name.
	Object string
	// Field is that of the definition.
	Field string
	Err   error
}

func (e *EvaluationError) Error() string {
	return fmt.Sprintf("definition %s: %s: %s: %v", e.Definition, e.Object, e.Field, e.Err)
}

func (e *EvaluationError) Unwrap() error { return e.Err }

// Evaluate returns what the definition says of an object, which is not changed. An error
// is an EvaluationError.
func (p *Program) Evaluate(object *unstructured.Unstructured, in Surroundings) (Evaluation, error) {
	e := evaluator{p: p, left: costPerObject, variables: map[string]any{
		varObject: object.Object, varSchedulerName: in.SchedulerName,
	}}
	e.matches()
	if !e.out.Matches || e.err != nil {
		return e.result(object)
	}
	template := e.podTemplate(p.template)
	e.phase()
	e.out.Message = e.text(p.message)
	e.application(object, template, in)
	e.out.Scheduled = p.template == nil || template.Spec.SchedulerName == in.SchedulerName
	if p.scheduled != nil {
		e.out.Scheduled = e.truth(p.scheduled)
	}
	e.out.Pod = p.example(object, template, in.SchedulerName)
	return e.result(object)
}

// matches reports whether an object is for this manager. An error is an EvaluationError.
func (p *Program) matches(object *unstructured.Unstructured, schedulerName string) (bool, error) {
	e := evaluator{p: p, left: costPerObject, variables: map[string]any{
		varObject: object.Object, varSchedulerName: schedulerName,
	}}
	e.matches()
	out, err := e.result(object)
	return out.Matches, err
}

// evaluator evaluates the expressions of a program over one object. After the first
// error, everything yields nothing.
type evaluator struct {
	p         *Program
	variables map[string]any
	// left is what of the budget is left.
	left uint64
	out  Evaluation
	err  *EvaluationError
}

func (e *evaluator) result(object *unstructured.Unstructured) (Evaluation, error) {
	if e.err == nil {
		return e.out, nil
	}
	e.err.Object = object.GetNamespace() + "/" + object.GetName()
	return Evaluation{}, e.err
}

func (e *evaluator) matches() {
	e.out.Matches = e.p.match == nil || e.truth(e.p.match)
}

func (e *evaluator) phase() {
	e.out.Phase = Created
	for _, is := range []struct {
		expression *expression
		phase      Phase
	}{{e.p.failed, Failed}, {e.p.succeeded, Succeeded}, {e.p.suspended, Suspended}, {e.p.running, Running}} {
		if e.truth(is.expression) {
			e.out.Phase = is.phase
			return
		}
	}
}

// application reads the object as if it were a pod: what labels and annotations mean is
// known there.
func (e *evaluator) application(object *unstructured.Unstructured, template *v1.PodTemplateSpec, in Surroundings) {
	annotations := object.GetAnnotations() // a copy
	// Nobody has checked who wrote that. In a template, it is checked as that of a pod is.
	delete(annotations, workload.AnnotationUserInfo)
	speaker := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: object.GetNamespace(), Name: object.GetName(), UID: object.GetUID(),
			Labels:            merged(template.Labels, object.GetLabels()),
			Annotations:       merged(template.Annotations, annotations),
			CreationTimestamp: object.GetCreationTimestamp(),
		},
		Spec: template.Spec,
	}
	if groups := e.groups(); len(groups) > 0 {
		data, err := json.Marshal(groups)
		if err != nil {
			e.fail("groups", err)
			return
		}
		speaker.Annotations[workload.AnnotationTaskGroups] = string(data)
	}
	app, problems := workload.ParseApplication(speaker, in.Namespace, in.UserLabel)
	for _, problem := range problems {
		e.out.Warnings = append(e.out.Warnings, problem.Key+": "+problem.Message)
	}
	app.ApplicationID = cmp.Or(e.text(e.p.appID), workload.NamedAppID(speaker), e.generated(object))
	app.QueueName = cmp.Or(e.text(e.p.queue), app.QueueName)
	app.User = cmp.Or(e.text(e.p.user), app.User)
	controller := false
	app.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: object.GetAPIVersion(), Kind: object.GetKind(), Name: object.GetName(), UID: object.GetUID(),
		Controller: &controller,
	}}
	e.out.App = app
}

// rawGroup is a task group as an annotation has it: what reads it checks it.
type rawGroup struct {
	Name        string         `json:"name"`
	MinMember   int64          `json:"minMember"`
	MinResource map[string]any `json:"minResource,omitempty"`

	NodeSelector              map[string]string             `json:"nodeSelector,omitempty"`
	Tolerations               []v1.Toleration               `json:"tolerations,omitempty"`
	Affinity                  *v1.Affinity                  `json:"affinity,omitempty"`
	TopologySpreadConstraints []v1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
}

// groups returns the task groups of the gang, none if it is not one.
func (e *evaluator) groups() []rawGroup {
	if len(e.p.groups) == 0 || e.p.gang != nil && !e.truth(e.p.gang) {
		return nil
	}
	var out []rawGroup
	for i := range e.p.groups {
		g := &e.p.groups[i]
		e.each(g.forEach, func() {
			raw, ok := e.group(g)
			if ok {
				out = append(out, raw)
			}
		})
		delete(e.variables, varEach)
		delete(e.variables, varKey)
	}
	return out
}

// group returns one task group, and false if no member of it is needed.
func (e *evaluator) group(g *group) (rawGroup, bool) {
	raw := rawGroup{Name: e.text(g.name), MinMember: e.number(g.minMember)}
	if e.err != nil {
		return raw, false
	}
	if raw.MinMember <= 0 {
		e.out.Warnings = append(e.out.Warnings, fmt.Sprintf("task group %s is left out: it needs no member", shown(raw.Name)))
		return raw, false
	}
	if g.template != nil {
		template := e.podTemplate(g.template)
		raw.MinResource = requested(template)
		raw.NodeSelector, raw.Tolerations, raw.Affinity = template.Spec.NodeSelector, template.Spec.Tolerations, template.Spec.Affinity
		raw.TopologySpreadConstraints = template.Spec.TopologySpreadConstraints
	}
	if given := e.dictionary(g.minResource); given != nil {
		raw.MinResource = given
	}
	return raw, e.err == nil
}

// requested returns what a pod of a template requests.
func requested(template *v1.PodTemplateSpec) map[string]any {
	out := make(map[string]any)
	for name, quantity := range requests.Of(&v1.Pod{Spec: template.Spec}) {
		out[string(name)] = quantity.String()
	}
	return out
}

// maxGroups bounds how many task groups one object may make; nobody reads a list of more.
const maxGroups = 1000

// each calls do with every element of what forEach yields as a variable, or once without
// one. Elements of a map come in the order of their keys.
func (e *evaluator) each(forEach *expression, do func()) {
	if forEach == nil {
		do()
		return
	}
	value := e.evaluate(forEach)
	if value == nil {
		return
	}
	if sized, ok := value.(traits.Sizer); ok && intOf(sized.Size()) > maxGroups {
		e.fail(forEach.field, fmt.Errorf("yields more than %d elements", maxGroups))
		return
	}
	var keys []ref.Val
	var get func(key ref.Val) ref.Val
	switch of := value.(type) {
	case traits.Lister:
		for i := range intOf(of.Size()) {
			keys = append(keys, number64(i))
		}
		get = of.Get
	case traits.Mapper:
		for it := of.Iterator(); it.HasNext() == types.True; {
			keys = append(keys, it.Next())
		}
		slices.SortFunc(keys, func(a, b ref.Val) int { return cmp.Compare(fmt.Sprint(a.Value()), fmt.Sprint(b.Value())) })
		get = of.Get
	default:
		e.fail(forEach.field, mistyped(value, sequence))
		return
	}
	for _, key := range keys {
		if e.err != nil {
			return
		}
		e.variables[varKey], e.variables[varEach] = key, get(key)
		do()
	}
}

// generated returns an application ID for an object that names none. The UID tells it
// from what else may have the same name.
func (e *evaluator) generated(object *unstructured.Unstructured) string {
	return generatedID(e.p.definition.Kind, object.GetNamespace(), object.GetName(), string(object.GetUID()))
}

func merged(under, over map[string]string) map[string]string {
	out := make(map[string]string, len(under)+len(over)+1)
	for _, from := range []map[string]string{under, over} {
		for key, value := range from {
			out[key] = value
		}
	}
	return out
}
