package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	admissionregv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/understudy-ha/understudy/coordinator/config"
)

// Object names what the API server holds for admission.
type Object struct{ Resource, Name string }

// Objects keeps what the API server holds for admission.
type Objects interface {
	// Told returns the authorities, in PEM form, by which the API server knows the replicas.
	Told(context.Context) ([]byte, error)
	// Keep has the wanted objects be as they are, and of all the others not be.
	Keep(ctx context.Context, want []runtime.Object, all []Object) error
}

const fieldManager = "understudy-admission"

var resources = map[string]string{
	"MutatingWebhookConfiguration": "mutatingwebhookconfigurations", "ValidatingWebhookConfiguration": "validatingwebhookconfigurations",
	"MutatingAdmissionPolicy": "mutatingadmissionpolicies", "MutatingAdmissionPolicyBinding": "mutatingadmissionpolicybindings",
	"ValidatingAdmissionPolicy": "validatingadmissionpolicies", "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}

func resource(name string) schema.GroupVersionResource {
	return admissionregv1.SchemeGroupVersion.WithResource(name)
}

// wanted are the objects of a mode.
func (c Config) wanted(s Settings, bundle []byte) []runtime.Object {
	var want []runtime.Object
	add := func(objects ...runtime.Object) { want = append(want, objects...) }
	if !s.BypassAuth {
		for _, w := range append([]Workload{podWorkload()}, c.Workloads...) {
			policy, bound := c.guard(s, w)
			add(policy, bound)
		}
	}
	if c.Mode == config.AdmissionWebhook {
		add(c.mutations(s, bundle), c.validations(bundle))
		return want
	}
	policy, bound := c.podMutation(s)
	add(policy, bound)
	if !s.BypassAuth {
		for _, w := range BuiltIn() {
			policy, bound := c.workloadMutation(s, w)
			add(policy, bound)
		}
	}
	return want
}

// All names what a replica may ever have written.
func All() []Object {
	list := []Object{{resources["MutatingWebhookConfiguration"], nameMutations}, {resources["ValidatingWebhookConfiguration"], nameValidations}}
	pair := func(kind, name string) {
		list = append(list, Object{resources[kind+"Binding"], name}, Object{resources[kind], name})
	}
	for _, w := range append([]Workload{podWorkload()}, append(BuiltIn(), Custom()...)...) {
		pair("ValidatingAdmissionPolicy", nameUser+w.Name)
	}
	for _, w := range append([]Workload{podWorkload()}, BuiltIn()...) {
		pair("MutatingAdmissionPolicy", namePolicy+w.Name)
	}
	return list
}

// Cluster keeps objects in a cluster. All replicas do so at once: they want the same.
// To be used by one goroutine.
type Cluster struct {
	client dynamic.Interface
	// gone are those that are known not to be there. Nobody but the replicas makes them.
	gone map[Object]bool
}

// NewCluster writes with a client that may.
func NewCluster(client dynamic.Interface) *Cluster {
	return &Cluster{client: client, gone: make(map[Object]bool)}
}

// Told reads the webhook for pods. What YuniKorn's controller has written does not count.
func (c *Cluster) Told(ctx context.Context) ([]byte, error) {
	o, err := c.client.Resource(resource("mutatingwebhookconfigurations")).Get(ctx, nameMutations, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && o.GetLabels()[labelName] != ourName {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("what the API server knows: %w", err)
	}
	var held admissionregv1.MutatingWebhookConfiguration
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &held); err != nil {
		return nil, fmt.Errorf("what the API server knows: %w", err)
	}
	if len(held.Webhooks) == 0 {
		return nil, nil
	}
	return held.Webhooks[0].ClientConfig.CABundle, nil
}

// Keep writes by server-side apply, which changes nothing that is as it should be.
func (c *Cluster) Keep(ctx context.Context, want []runtime.Object, all []Object) error {
	wanted := make(map[Object]bool)
	var errs []error
	for _, w := range want {
		o, err := plain(w)
		if err != nil {
			return err
		}
		at := Object{resources[o.GetKind()], o.GetName()}
		wanted[at] = true
		delete(c.gone, at)
		if err := c.apply(ctx, at, o); err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", o.GetKind(), at.Name, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...) // what is there may be needed still
	}
	for _, at := range all {
		if wanted[at] || c.gone[at] {
			continue
		}
		err := c.client.Resource(resource(at.Resource)).Delete(ctx, at.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("%s %s: %w", at.Resource, at.Name, err))
			continue
		}
		// YuniKorn's controller writes the webhooks, under the same names, whenever it starts.
		c.gone[at] = at.Name != nameMutations && at.Name != nameValidations
	}
	return errors.Join(errs...)
}

// apply has an object be as it is wanted. What others have added besides stays, unless the API
// server does not take both: of YuniKorn's webhook, which has the name of the first of ours, a
// Service stays where a URL is wanted. Then the webhooks are replaced as a whole.
func (c *Cluster) apply(ctx context.Context, at Object, o *unstructured.Unstructured) error {
	objects := c.client.Resource(resource(at.Resource))
	_, err := objects.Apply(ctx, at.Name, o, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	hooks, ok := o.Object["webhooks"]
	if !apierrors.IsInvalid(err) || !ok {
		return err
	}
	whole, marshal := json.Marshal(map[string]any{"webhooks": hooks})
	if marshal != nil {
		return marshal
	}
	if _, err := objects.Patch(ctx, at.Name, types.MergePatchType, whole, metav1.PatchOptions{FieldManager: fieldManager}); err != nil {
		return err
	}
	_, err = objects.Apply(ctx, at.Name, o, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	return err
}

// plain is an object as it is applied.
func plain(o runtime.Object) (*unstructured.Unstructured, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, err
	}
	delete(fields, "status")
	unstructured.RemoveNestedField(fields, "metadata", "creationTimestamp")
	return &unstructured.Unstructured{Object: fields}, nil
}
