package admission

import (
	"errors"
	"fmt"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/understudy-ha/understudy/coordinator/settings"
)

// Maps are the ConfigMaps of the configuration, by name, a later one overriding an earlier
// one. A nil one does not exist.
type Maps struct {
	Names []string
	Held  []*v1.ConfigMap
}

// Judge says why the scheduler would not take a ConfigMap, together with the others as they
// are, and what is odd in it. What is wrong with the others already is no reason: who has to
// mend several can begin with any. A ConfigMap of another name is none of its business.
func (m Maps) Judge(req *admissionv1.AdmissionRequest) (refusal string, warnings []string, err error) {
	var pending v1.ConfigMap
	if err := json.Unmarshal(req.Object.Raw, &pending); err != nil {
		return "", nil, fmt.Errorf("%w: the ConfigMap: %w", errObject, err)
	}
	at := slices.Index(m.Names, pending.Name)
	if at < 0 {
		return "", nil, nil
	}
	before := settings.Validate(m.Held...)
	held := slices.Clone(m.Held)
	held[at] = &pending
	var refusals []error
	for _, p := range settings.Validate(held...) {
		switch own := p.ConfigMap == pending.Name; {
		case p.Severity == settings.Error && (own || !slices.Contains(before, p)):
			refusals = append(refusals, &p)
		case own:
			p.ConfigMap = ""
			warnings = append(warnings, p.Error())
		}
	}
	if len(refusals) > 0 {
		return errors.Join(refusals...).Error(), nil, nil
	}
	return "", warnings, nil
}
