package admission

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/kube"
)

// Maps are the ConfigMaps of the configuration, by name, a later one overriding an earlier
// one. A nil one does not exist.
type Maps struct {
	Names []string
	Held  []*v1.ConfigMap
}

// Judge says why the scheduler would not take a ConfigMap, together with the others as they
// are, and what is odd in it. A ConfigMap of another name is none of its business.
func (m Maps) Judge(req *admissionv1.AdmissionRequest) (refusal string, warnings []string, err error) {
	var pending v1.ConfigMap
	if err := json.Unmarshal(req.Object.Raw, &pending); err != nil {
		return "", nil, fmt.Errorf("%w: the ConfigMap: %w", errObject, err)
	}
	at := slices.Index(m.Names, pending.Name)
	if at < 0 {
		return "", nil, nil
	}
	held := slices.Clone(m.Held)
	held[at] = &pending
	data, err := kube.Merge(held)
	if err == nil {
		err = engine.Validate(data)
	}
	if err != nil {
		return fmt.Sprintf("ConfigMap %s: %v", pending.Name, err), nil, nil
	}
	_, wrong := ReadSettings(data)
	for _, e := range wrong {
		warnings = append(warnings, e.Error())
	}
	own, err := kube.Merge([]*v1.ConfigMap{&pending})
	if err != nil {
		return "", nil, err // it was merged before
	}
	for _, key := range slices.Sorted(maps.Keys(own)) {
		if like, known := knownKey(key); !known {
			warnings = append(warnings, strings.TrimSuffix(fmt.Sprintf("%s: no such key%s", key, like), " "))
		}
	}
	return "", warnings, nil
}
