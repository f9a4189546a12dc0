package load

import (
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Limits of what a generator may be asked for.
const (
	maxPods    = 200_000
	maxWorkers = 64
)

// Config says what to create.
type Config struct {
	// Name tells this load from others: pods are called NAME-NUMBER, and carry
	// it as a label.
	Name      string
	Namespace string
	// Pods is how many to create.
	Pods int
	// Rate is pods a second; zero means as fast as possible.
	Rate float64
	// Held is how many of the pods, the last ones, are not created before Release: what a new
	// lead has to bind for certain, however far the old one had come.
	Held int
	// Apps is among how many applications the pods are dealt out.
	Apps int
	// Gang is how many pods an application has, which all begin or none: they take the
	// places of placeholders. Apps does not count then. Zero means no gangs.
	Gang int
	// Queue is the label of that name; empty means none.
	Queue string
	// CPU and Memory are what each pod requests.
	CPU, Memory string
	// Scheduler is spec.schedulerName.
	Scheduler string
	// Workers bounds the creations in flight.
	Workers int
	// Timeout bounds the whole load, including the wait for the last bind.
	Timeout time.Duration
	// Shape, if there is one, changes the pod of each number before it is created. It must
	// leave the name and the namespace, and share nothing between pods that it writes to.
	Shape func(number int, pod *v1.Pod)
}

// Default returns a small burst.
func Default() Config {
	return Config{
		Name:      "load",
		Namespace: "default",
		Pods:      1000,
		Apps:      10,
		Queue:     "root.default",
		CPU:       "100m",
		Memory:    "128Mi",
		Scheduler: "yunikorn",
		Workers:   24,
		Timeout:   10 * time.Minute,
	}
}

// Steady returns c at rate pods a second for d.
func (c Config) Steady(rate float64, d time.Duration) Config {
	c.Rate = rate
	c.Pods = int(rate * d.Seconds())
	return c
}

// Validate names every field that cannot work.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Name != "" && len(c.Name) <= 50, "name %q: want 1 to 50 characters", c.Name)
	check(c.Namespace != "", "namespace is empty")
	check(c.Scheduler != "", "scheduler is empty")
	check(c.Pods > 0 && c.Pods <= maxPods, "pods %d: want 1 to %d", c.Pods, maxPods)
	check(c.Rate >= 0, "rate %v is negative", c.Rate)
	check(c.Held >= 0 && c.Held <= c.Pods, "held %d: want 0 to %d", c.Held, c.Pods)
	check(c.Gang >= 0, "gang %d is negative", c.Gang)
	check(c.Apps > 0, "apps %d: want at least 1", c.Apps)
	check(c.Workers > 0 && c.Workers <= maxWorkers, "workers %d: want 1 to %d", c.Workers, maxWorkers)
	check(c.Timeout > 0, "timeout %v: a load must be bounded", c.Timeout)
	for field, q := range map[string]string{"cpu": c.CPU, "memory": c.Memory} {
		_, err := resource.ParseQuantity(q)
		check(err == nil, "%s %q: %w", field, q, err)
	}
	return errors.Join(errs...)
}

// pod returns the pod of the given number.
func (c Config) pod(i int, requests v1.ResourceList) *v1.Pod {
	p := &v1.Pod{}
	p.Namespace, p.Name = c.Namespace, c.podName(i)
	app := i % c.Apps
	if c.Gang > 0 {
		app = i / c.Gang
		p.Annotations = c.gang()
	}
	p.Labels = map[string]string{
		loadLabel:       c.Name,
		"applicationId": fmt.Sprintf("%s-app-%d", c.Name, app),
	}
	if c.Queue != "" {
		p.Labels["queue"] = c.Queue
	}
	no, grace := false, int64(0)
	p.Spec = v1.PodSpec{
		SchedulerName:                 c.Scheduler,
		AutomountServiceAccountToken:  &no,
		EnableServiceLinks:            &no,
		TerminationGracePeriodSeconds: &grace,
		Containers: []v1.Container{{
			Name:      "main",
			Image:     "registry.k8s.io/pause:3.10",
			Resources: v1.ResourceRequirements{Requests: requests},
		}},
	}
	if c.Shape != nil {
		c.Shape(i, p)
	}
	return p
}

// gang are the annotations of the pods of a gang, which waits as long as the load.
func (c Config) gang() map[string]string {
	return map[string]string{
		"yunikorn.apache.org/task-group-name": "members",
		"yunikorn.apache.org/task-groups": fmt.Sprintf(
			`[{"name": "members", "minMember": %d, "minResource": {"cpu": %q, "memory": %q}}]`, c.Gang, c.CPU, c.Memory),
		"yunikorn.apache.org/schedulingPolicyParameters": fmt.Sprintf(
			"gangSchedulingStyle=Hard placeholderTimeoutInSeconds=%d", int(c.Timeout.Seconds())+1),
	}
}

// loadLabel marks the pods of a load.
const loadLabel = "understudy.dev/load"

func (c Config) podName(i int) string { return fmt.Sprintf("%s-%d", c.Name, i) }
