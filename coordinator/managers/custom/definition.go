package custom

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Definition says how objects of one kind are applications. What is marked as CEL is an
// expression over the variables object, which is the whole object, and schedulerName,
// which is that of the pods to schedule. An expression that is empty, or that yields null
// or an optional without a value, says nothing.
type Definition struct {
	// Preset is the name of a shipped definition that this one begins with. The fields
	// that are given here replace its fields.
	Preset string `yaml:"preset"`

	// APIVersion and Kind are those of the objects.
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	// Resource is the plural name under which the API server serves them. Empty selects
	// the usual plural of Kind.
	Resource string `yaml:"resource"`

	// Match (CEL, bool) is false for objects that are none of this manager's business,
	// such as a Job that a JobSet controls. Empty is true.
	Match string `yaml:"match"`
	// Pods says which pods are those of an object.
	Pods Pods `yaml:"pods"`
	// Template (CEL, map) is the pod template that speaks for the object: its labels and
	// annotations count, as those of a pod would, where neither an expression here nor
	// the object's own labels and annotations say something.
	Template string `yaml:"template"`
	// Scheduled (CEL, bool) says that the application begins with the object, and not
	// only with its first pod. Empty asks the schedulerName of Template; without a
	// Template it is true.
	Scheduled string `yaml:"scheduled"`

	// AppID (CEL, string) is the ID of the application. Objects of the same ID share an
	// application. Empty takes the labels of the object and of Template, and then makes
	// one up from kind, namespace and name.
	AppID string `yaml:"appID"`
	// Queue and User (CEL, string) are as in protocol.ApplicationMetadata.
	Queue string `yaml:"queue"`
	User  string `yaml:"user"`

	// Failed, Succeeded, Suspended and Running (CEL, bool) say how far the object is. The
	// first one of this order that is true counts; if none is, it has been created.
	Failed    string `yaml:"failed"`
	Succeeded string `yaml:"succeeded"`
	Suspended string `yaml:"suspended"`
	Running   string `yaml:"running"`
	// Message (CEL, string) says why.
	Message string `yaml:"message"`

	// Gang (CEL, bool) says that Groups count. Empty is true.
	Gang string `yaml:"gang"`
	// Groups are the task groups of the gang.
	Groups []Group `yaml:"groups"`
}

// Pods says which pods belong to an object of their namespace: by Label, or, if that is
// empty, by their owners.
type Pods struct {
	// Label is the key of the label that holds the name of the object.
	Label string `yaml:"label"`
	// Selector is a label selector in the notation of kubectl. Other pods are not looked
	// at.
	Selector string `yaml:"selector"`
	// Owner follows the controllers of a pod. Without it, and without Label, the object
	// has to be the controller of its pods.
	Owner *Owner `yaml:"owner"`
	// Group (CEL, string) is the name of the task group that a pod is a member of. Its
	// variable is pod, of which there is the metadata. Empty takes the pod's annotation,
	// and then the only group if there is just one.
	Group string `yaml:"group"`
}

// Owner is a chain of controllers from a pod to its object.
type Owner struct {
	// Depth is how many controllers there are at most between a pod and its object, the
	// object included. Zero is one more than there are kinds in Through.
	Depth int `yaml:"depth"`
	// Through are the kinds that the chain may pass. They are read one by one when a pod
	// of theirs is first seen.
	Through []Kind `yaml:"through"`
}

// Kind names a kind of objects.
type Kind struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	// Resource is as in Definition.
	Resource string `yaml:"resource"`
}

// Group is one task group, or several that are alike.
type Group struct {
	// ForEach (CEL, list or map) makes a group of each element: the other expressions are
	// evaluated with the variable each, and, for a map, key.
	ForEach string `yaml:"forEach"`
	// Name (CEL, string) and MinMember (CEL, int) are as in v1alpha1.TaskGroup. A group of
	// which no member is needed is left out.
	Name      string `yaml:"name"`
	MinMember string `yaml:"minMember"`
	// Template (CEL, map) is the pod template of the members. Where they may run is
	// copied from it, and what they request unless MinResource says it.
	Template string `yaml:"template"`
	// MinResource (CEL, map of strings or numbers) is what one member requests, by the
	// Kubernetes names of resources.
	MinResource string `yaml:"minResource"`
}

// maxDepth bounds how many objects are read to find the object of a pod.
const maxDepth = 8

// Parse reads a definition from YAML. A field that Definition does not have is an error.
// The preset that it may begin with is filled in.
func Parse(data []byte) (Definition, error) {
	return Decode(func(into any) error {
		dec := yaml.NewDecoder(bytes.NewReader(data))
		dec.KnownFields(true)
		if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		return nil
	})
}

// Decode takes a definition from settings, as managers.Deps has them.
func Decode(settings func(into any) error) (Definition, error) {
	var given Definition
	if err := settings(&given); err != nil {
		return Definition{}, err
	}
	if given.Preset == "" {
		return given, nil
	}
	d, err := Preset(given.Preset)
	if err != nil {
		return Definition{}, err
	}
	// What is not given keeps what the preset says.
	if err := settings(&d); err != nil {
		return Definition{}, err
	}
	return d, nil
}

// kind returns what the objects are.
func (d *Definition) kind() Kind {
	return Kind{APIVersion: d.APIVersion, Kind: d.Kind, Resource: d.Resource}
}

func (k Kind) gvk() schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(k.APIVersion, k.Kind)
}

// gvr returns the resource that objects of the kind are served as.
func (k Kind) gvr() schema.GroupVersionResource {
	if k.Resource != "" {
		return k.gvk().GroupVersion().WithResource(k.Resource)
	}
	plural, _ := meta.UnsafeGuessKindToResource(k.gvk())
	return plural
}

func (k Kind) check() error {
	if k.APIVersion == "" || k.Kind == "" {
		return errors.New("apiVersion and kind are needed")
	}
	if _, err := schema.ParseGroupVersion(k.APIVersion); err != nil {
		return fmt.Errorf("apiVersion: %w", err)
	}
	return nil
}

// check returns how the pods are found, and what is wrong with what says so, as pairs of
// field and error.
func (p *Pods) check() (selector labels.Selector, depth int, wrong []fieldError) {
	selector, depth = labels.Everything(), 1
	if p.Selector != "" {
		parsed, err := labels.Parse(p.Selector)
		if err != nil {
			wrong = append(wrong, fieldError{"pods.selector", err})
		} else {
			selector = parsed
		}
	}
	if p.Owner == nil {
		return selector, depth, wrong
	}
	if p.Label != "" {
		wrong = append(wrong, fieldError{"pods.owner", errors.New("pods are found by label or by owner, not by both")})
	}
	depth = p.Owner.Depth
	if depth == 0 {
		depth = len(p.Owner.Through) + 1
	}
	switch {
	case depth < 0 || depth > maxDepth:
		wrong = append(wrong, fieldError{"pods.owner.depth", fmt.Errorf("%d is not between 1 and %d", depth, maxDepth)})
	case depth > 1 && len(p.Owner.Through) == 0:
		wrong = append(wrong, fieldError{"pods.owner.through", errors.New("a chain of several owners needs the kinds that it may pass")})
	}
	for i, k := range p.Owner.Through {
		if err := k.check(); err != nil {
			wrong = append(wrong, fieldError{fmt.Sprintf("pods.owner.through[%d]", i), err})
		}
	}
	return selector, depth, wrong
}

// fieldError is what is wrong with one field.
type fieldError struct {
	field string
	err   error
}
