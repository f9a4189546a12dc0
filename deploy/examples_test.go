package deploy

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// notManifests is what an API server does not take.
var notManifests = []string{"managers.yaml"}

// examples are the files with manifests.
func examples(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("examples/*.yaml")
	if err != nil || len(all) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	return slices.DeleteFunc(all, func(f string) bool { return slices.Contains(notManifests, filepath.Base(f)) })
}

// An example with a field that nobody knows does not do what it says.
func TestExamplesAreStrict(t *testing.T) {
	decoder := strict(t)
	for _, file := range examples(t) {
		for _, doc := range documents(t, file) {
			_, _, err := decoder.Decode(doc, nil, nil)
			if runtime.IsNotRegisteredError(err) {
				err = customStrict(doc)
			}
			if err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// customStrict reads what is known of an object of a custom resource.
func customStrict(doc []byte) error {
	var object struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              map[string]any `json:"spec"`
	}
	if err := sigsyaml.UnmarshalStrict(doc, &object); err != nil {
		return err
	}
	if object.Name == "" || len(object.Spec) == 0 {
		return fmt.Errorf("%s without a name, or without a spec", object.Kind)
	}
	if object.Kind == "Application" {
		return sigsyaml.UnmarshalStrict(doc, &v1alpha1.Application{})
	}
	return templatesStrict(object.Spec)
}

// templatesStrict reads every pod template below a value.
func templatesStrict(value any) error {
	switch value := value.(type) {
	case []any:
		for _, each := range value {
			if err := templatesStrict(each); err != nil {
				return err
			}
		}
	case map[string]any:
		if spec, ok := value["spec"].(map[string]any); ok && spec["containers"] != nil {
			data, err := sigsyaml.Marshal(value)
			if err != nil {
				return err
			}
			return sigsyaml.UnmarshalStrict(data, &corev1.PodTemplateSpec{})
		}
		for _, each := range value {
			if err := templatesStrict(each); err != nil {
				return err
			}
		}
	}
	return nil
}

// A queue that does not exist has its applications rejected.
func TestExamplesNameQueuesThatThereAre(t *testing.T) {
	var queues corev1.ConfigMap
	if err := sigsyaml.UnmarshalStrict(documents(t, "examples/queues.yaml")[0], &queues); err != nil {
		t.Fatal(err)
	}
	if base := only[*corev1.ServiceAccount](t, "understudy"); queues.Name != "yunikorn-configs" || queues.Namespace != base.Namespace {
		t.Errorf("the queues are in %s/%s, where nobody reads them", queues.Namespace, queues.Name)
	}
	conf, err := configs.LoadSchedulerConfigFromByteArray([]byte(queues.Data["queues.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	leaves := make(map[string]bool)
	for _, queue := range conf.Partitions[0].Queues {
		addLeaves(leaves, "", queue)
	}
	used := 0
	for _, file := range examples(t) {
		for _, doc := range documents(t, file) {
			var object any
			if err := sigsyaml.Unmarshal(doc, &object); err != nil {
				t.Fatal(err)
			}
			for _, queue := range queuesIn(object) {
				used++
				if !leaves[queue] {
					t.Errorf("%s names the queue %s; there are %v", file, queue, slices.Sorted(maps.Keys(leaves)))
				}
			}
		}
	}
	if used == 0 {
		t.Error("no example names a queue")
	}
}

func addLeaves(leaves map[string]bool, parent string, queue configs.QueueConfig) {
	name := strings.TrimPrefix(parent+"."+queue.Name, ".")
	if len(queue.Queues) == 0 {
		leaves[name] = true
	}
	for _, child := range queue.Queues {
		addLeaves(leaves, name, child)
	}
}

// queuesIn returns what stands under a key that names a queue.
func queuesIn(value any) (queues []string) {
	switch value := value.(type) {
	case []any:
		for _, each := range value {
			queues = append(queues, queuesIn(each)...)
		}
	case map[string]any:
		for key, each := range value {
			name, ok := each.(string)
			if ok && (key == workload.KeyQueue || key == workload.LabelOldQueue) {
				queues = append(queues, name)
			}
			queues = append(queues, queuesIn(each)...)
		}
	}
	return queues
}

// Who copies an example looks at its top, and finds it in the list.
func TestExamplesSayWhatTheyNeed(t *testing.T) {
	readme, err := os.ReadFile("examples/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range examples(t) {
		name := filepath.Base(file)
		if !strings.Contains(string(readme), "("+name+")") {
			t.Errorf("the README does not link %s", name)
		}
		if name == "queues.yaml" || strings.HasSuffix(name, "-crd.yaml") {
			continue
		}
		head, _, _ := strings.Cut(string(documents(t, file)[0]), "\napiVersion:")
		for _, says := range []string{"\n# Enable: ", "\n# Queue:  ", "\n# Try:    "} {
			if !strings.Contains(head, says) {
				t.Errorf("%s does not begin with a comment that has a line %q", name, strings.TrimSpace(says))
			}
		}
	}
}
