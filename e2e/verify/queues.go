package verify

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// Queues is what a queue configuration says about quotas.
type Queues struct {
	// Max are the quotas, by the full name of the queue, in the units of pods.
	Max map[string]map[v1.ResourceName]int64

	rules  []placement
	leaves map[string]bool // of the configuration
}

// Same reports whether both say the same.
func (q Queues) Same(o Queues) bool { return reflect.DeepEqual(q, o) }

// placement is a rule that finds a queue for a pod.
type placement struct {
	Name   string     `json:"name"`
	Value  string     `json:"value"`
	Create bool       `json:"create"`
	Parent *placement `json:"parent"`
}

type queueConfig struct {
	Name      string `json:"name"`
	Resources struct {
		Max map[string]any `json:"max"`
	} `json:"resources"`
	Queues []queueConfig `json:"queues"`
}

type schedulerConfig struct {
	Partitions []struct {
		Name  string        `json:"name"`
		Rules []placement   `json:"placementrules"`
		List  []queueConfig `json:"queues"`
	} `json:"partitions"`
}

// queuesKey is where a ConfigMap has the queues.
const queuesKey = "queues.yaml"

// ReadQueues reads the queue configuration where YuniKorn's users write it. Without
// one there are no quotas.
func ReadQueues(ctx context.Context, kube kubernetes.Interface, namespace string) (Queues, error) {
	text := ""
	for _, name := range []string{"yunikorn-defaults", "yunikorn-configs"} {
		cm, err := kube.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return Queues{}, fmt.Errorf("queues: %w", err)
		}
		if len(cm.BinaryData) > 0 {
			return Queues{}, fmt.Errorf("queues: ConfigMap %s holds binary data", name)
		}
		if data, ok := cm.Data[queuesKey]; ok {
			text = data
		}
	}
	return ParseQueues(text)
}

// ParseQueues reads a queue configuration. It knows the rules by which a pod is
// placed where it says, or by its namespace, and refuses any other.
func ParseQueues(text string) (Queues, error) {
	q := Queues{Max: map[string]map[v1.ResourceName]int64{}, leaves: map[string]bool{}}
	if strings.TrimSpace(text) == "" {
		q.rules = []placement{{Name: "tag", Value: "namespace", Create: true}}
		return q, nil
	}
	var config schedulerConfig
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		return q, fmt.Errorf("queues: %w", err)
	}
	if len(config.Partitions) != 1 {
		return q, fmt.Errorf("queues: %d partitions, want one", len(config.Partitions))
	}
	q.rules = config.Partitions[0].Rules
	if len(q.rules) == 0 {
		q.rules = []placement{{Name: "provided"}}
	}
	for _, rule := range q.rules {
		if rule.Parent != nil || rule.Name != "provided" && (rule.Name != "tag" || rule.Value != "namespace") {
			return q, fmt.Errorf("queues: the placement rule %s %s is not known here", rule.Name, rule.Value)
		}
	}
	for _, queue := range config.Partitions[0].List {
		if err := q.add("", queue); err != nil {
			return q, fmt.Errorf("queues: %w", err)
		}
	}
	return q, nil
}

func (q Queues) add(parent string, c queueConfig) error {
	name := strings.ToLower(parent + c.Name)
	for resourceName, quantity := range c.Resources.Max {
		parsed, err := resource.ParseQuantity(fmt.Sprint(quantity))
		if err != nil {
			return fmt.Errorf("%s: %s %v: %w", name, resourceName, quantity, err)
		}
		if q.Max[name] == nil {
			q.Max[name] = map[v1.ResourceName]int64{}
		}
		if resourceName == "vcore" {
			q.Max[name][v1.ResourceCPU] = parsed.MilliValue()
		} else {
			q.Max[name][v1.ResourceName(resourceName)] = parsed.Value()
		}
	}
	q.leaves[name] = len(c.Queues) == 0
	for _, child := range c.Queues {
		if err := q.add(name+".", child); err != nil {
			return err
		}
	}
	return nil
}

var errUnplaced = errors.New("no rule finds a queue for it")

// Of returns the queue of a pod, by the first rule that finds one. That is the queue
// of its application too: pods of one application ask for the same.
func (q Queues) Of(p *history.Pod) (string, error) {
	for _, rule := range q.rules {
		queue, asked := strings.ToLower(p.Queue), p.Queue != ""
		if rule.Name == "tag" {
			queue, asked = strings.ToLower(p.Namespace), true
		}
		if !strings.HasPrefix(queue, "root.") {
			queue = "root." + queue
		}
		if asked && (q.leaves[queue] || rule.Create) {
			return queue, nil
		}
	}
	return "", errUnplaced
}
