package lab

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Queues returns a queue configuration with a quota on root.default, which is where
// pods go that ask for it, or for none that exists and are of the namespace default.
func Queues(cpu, memory string) string {
	return fmt.Sprintf(`partitions:
  - name: default
    placementrules:
      - name: provided
      - name: tag
        value: namespace
        create: true
    queues:
      - name: root
        submitacl: "*"
        queues:
          - name: default
            resources:
              max:
                vcore: %q
                memory: %q
`, cpu, memory)
}

// allQueues sets the quota to what all nodes offer: one that never keeps a pod from
// a node with room for it, and can still be seen to hold.
func (o Options) allQueues() string {
	total := func(each string) string {
		q := resource.MustParse(each)
		q.Mul(int64(max(1, o.Nodes)))
		return q.String()
	}
	return Queues(total(o.Node.CPU), total(o.Node.Memory))
}

// queuesConfigMap is where users write their queue configuration.
const queuesConfigMap = "yunikorn-configs"

// createQueues writes the queue configuration to where users write theirs.
func (l *Lab) createQueues(ctx context.Context, namespace string) error {
	cm := &v1.ConfigMap{}
	cm.Name, cm.Data = queuesConfigMap, map[string]string{"queues.yaml": l.plan.opts.Queues}
	if _, err := l.client.CoreV1().ConfigMaps(namespace).Create(ctx, cm, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("queue configuration: %w", err)
	}
	return nil
}

// SetQueues replaces the queue configuration.
func (l *Lab) SetQueues(ctx context.Context, queues string) error {
	state, err := l.State()
	if err != nil {
		return err
	}
	configs := l.client.CoreV1().ConfigMaps(state.Namespace)
	cm, err := configs.Get(ctx, queuesConfigMap, metav1.GetOptions{})
	if err != nil {
		return err
	}
	cm.Data["queues.yaml"] = queues
	_, err = configs.Update(ctx, cm, metav1.UpdateOptions{})
	return err
}
