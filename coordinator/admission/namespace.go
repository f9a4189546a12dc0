package admission

import v1 "k8s.io/api/core/v1"

// The annotations of a namespace that win over the regular expressions.
const (
	annotationEnable   = "yunikorn.apache.org/namespace.enableYuniKorn"
	annotationGenerate = "yunikorn.apache.org/namespace.generateAppId"
)

// NamespaceAnnotations returns their keys.
func NamespaceAnnotations() []string { return []string{annotationEnable, annotationGenerate} }

// treatment is what becomes of the pods of a namespace.
type treatment struct {
	process, label bool
	// why names what decided, for a person.
	processWhy, labelWhy string
}

// treat says how the pods of a namespace are treated; namespace is nil if it is not known
// to exist.
func (s Settings) treat(name string, namespace *v1.Namespace) treatment {
	var annotations map[string]string
	if namespace != nil {
		annotations = namespace.Annotations
	}
	var t treatment
	t.process, t.processWhy = choose(name, annotations, annotationEnable, keyProcess, s.Process, keyBypass, s.Bypass)
	t.label, t.labelWhy = choose(name, annotations, annotationGenerate, keyLabel, s.Label, keyNoLabel, s.NoLabel)
	return t
}

// choose decides by an annotation, then by the patterns of names that are in, of which none
// means all, and of those that are out.
func choose(name string, annotations map[string]string, annotation, inKey string, in Patterns, outKey string, out Patterns) (ok bool, why string) {
	switch annotations[annotation] {
	case "true":
		return true, "annotation " + annotation + " of the namespace"
	case "false":
		return false, "annotation " + annotation + " of the namespace"
	}
	switch {
	case len(in) > 0 && !in.match(name):
		return false, inKey
	case out.match(name):
		return false, outKey
	case len(in) > 0:
		return true, inKey
	}
	return true, "default"
}
