package admission

import (
	"context"
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
)

// Facts are what the rules ask of the cluster.
type Facts interface {
	// Namespace returns nil if there is none of that name.
	Namespace(ctx context.Context, name string) (*v1.Namespace, error)
	// PriorityClass returns nil if there is none of that name.
	PriorityClass(ctx context.Context, name string) (*schedulingv1.PriorityClass, error)
}

// errObject says that an object cannot be read.
var errObject = errors.New("the object cannot be read")

// Rules say what becomes of an object that is created or updated.
type Rules struct {
	Settings      Settings
	SchedulerName string
	// Workloads are the kinds whose pod templates are told the user.
	Workloads []Workload
	Facts     Facts
}

// Decision is what becomes of one request.
type Decision struct {
	// Refusal is empty if the request is allowed.
	Refusal string
	Patch   []Operation
	// Steps say in order which rule decided what.
	Steps []Step
}

// Step is a rule and what came of it.
type Step struct{ Rule, Outcome string }

// deciding is a decision that is being made.
type deciding struct {
	Rules
	req   *admissionv1.AdmissionRequest
	patch patch
	steps []Step
	said  string
}

func (d *deciding) step(rule, format string, args ...any) {
	d.steps = append(d.steps, Step{rule, fmt.Sprintf(format, args...)})
}

func (d *deciding) refuse(rule, message string) {
	d.step(rule, "refused: %s", message)
	d.said = message
}

// Mutate decides about a pod or a workload. The error says that a fact could not be found
// out, or that the object cannot be read.
func (r Rules) Mutate(ctx context.Context, req *admissionv1.AdmissionRequest) (Decision, error) {
	d := &deciding{Rules: r, req: req}
	var err error
	switch {
	case req.SubResource != "":
		d.step("subresource", "is left alone")
	case req.Resource.Group == "" && req.Resource.Resource == "pods":
		err = d.pod(ctx)
	default:
		if w := r.workload(req.Resource.Group, req.Resource.Resource); w != nil {
			err = d.workload(ctx, *w)
		} else {
			d.step("kind", "%s is left alone", req.Kind.Kind)
		}
	}
	if err != nil {
		return Decision{}, err
	}
	if d.said != "" {
		d.patch = nil
	}
	return Decision{Refusal: d.said, Patch: d.patch, Steps: d.steps}, nil
}

// treat looks up how the namespace of the request is treated.
func (d *deciding) treat(ctx context.Context) (treatment, error) {
	namespace, err := d.Facts.Namespace(ctx, d.req.Namespace)
	if err != nil {
		return treatment{}, fmt.Errorf("namespace %s: %w", d.req.Namespace, err)
	}
	t := d.Settings.treat(d.req.Namespace, namespace)
	d.step(t.processWhy, "namespace %s is %s", d.req.Namespace, either(t.process, "processed", "not processed"))
	d.step(t.labelWhy, "namespace %s is %s", d.req.Namespace, either(t.label, "labelled", "not labelled"))
	return t, nil
}

func either(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}
