package drill

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// relabelled bounds the scenario, with all waiting.
const relabelled = 2 * time.Minute

// Labels by which a pod says of which application it is, the first before the others.
const (
	appLabel, oldAppLabel, sparkLabel = "yunikorn.apache.org/app-id", "applicationId", "spark-app-selector"
	groupAnnotation                   = "yunikorn.apache.org/task-group-name"
)

// relabel edits the labels of pods that run, wait, hold the place of a gang or are
// Spark's, to those of another application or to none, and has two leads recover from
// that. A pod stays what it was.
func relabel(ctx context.Context, s *Session, _ *load.Generator) error {
	ctx, cancel := context.WithTimeoutCause(ctx, relabelled, fmt.Errorf("%v have passed", relabelled))
	defer cancel()
	c := cast{s: s, tag: fmt.Sprint(time.Now().Unix())}
	if err := c.enter(ctx); err != nil {
		return err
	}
	// To an application that exists, to one that does not, and to none.
	for _, pods := range [][]*v1.Pod{c.runs, c.waits, c.spark, c.holds} {
		for i, labels := range []map[string]any{
			{appLabel: "other-" + c.tag}, {appLabel: "nowhere-" + c.tag}, {appLabel: nil, oldAppLabel: nil, sparkLabel: nil},
		} {
			if err := s.relabel(ctx, pods[i], labels); err != nil {
				return err
			}
		}
	}
	fault, err := s.KillLead(ctx, syscall.SIGKILL)
	if err != nil {
		return err
	}
	if err := s.boundAgain(ctx, fault); err != nil {
		return fmt.Errorf("after the labels were edited: %w", err)
	}
	// Putting a label back is an edit like any other.
	for _, pod := range []*v1.Pod{c.runs[0], c.waits[1]} {
		if err := s.relabel(ctx, pod, map[string]any{appLabel: nil, oldAppLabel: pod.Labels[oldAppLabel]}); err != nil {
			return err
		}
	}
	if err := s.AwaitReady(ctx); err != nil {
		return err
	}
	if fault, err = s.KillLead(ctx, syscall.SIGKILL); err != nil {
		return err
	}
	if err := s.boundAgain(ctx, fault); err != nil {
		return fmt.Errorf("after labels were put back: %w", err)
	}
	if err := c.exit(ctx); err != nil {
		return err
	}
	return c.stayed(ctx)
}

// stayed sees to it that no pod was ever recorded as one of another application: a lead
// that does that, and puts it right when it notices, has counted the pod twice meanwhile.
func (c *cast) stayed(ctx context.Context) error {
	if err := c.s.Etcd.Settle(ctx); err != nil {
		return err
	}
	records := make(map[string]string) // of each pod, by UID
	for _, pod := range slices.Concat(c.runs, c.waits, c.spark, c.holds) {
		app := cmp.Or(pod.Labels[appLabel], pod.Labels[oldAppLabel], pod.Labels[sparkLabel]) // as it was created
		records[string(pod.UID)] = "tasks/" + app + "/" + string(pod.UID)
	}
	seen := make(map[string]bool)
	for _, ev := range c.s.Etcd.Events() {
		uid := ev.Key[strings.LastIndexByte(ev.Key, '/')+1:]
		if want := records[uid]; want != "" && ev.Key != want {
			return fmt.Errorf("a relabelled pod was recorded as %s, and is %s", ev.Key, want)
		}
		seen[uid] = true
	}
	for uid, key := range records {
		if !seen[uid] {
			return fmt.Errorf("no record %s was ever seen", key)
		}
	}
	return nil
}

// cast are pods in all the states in which one can be relabelled, three of each.
type cast struct {
	s                         *Session
	tag                       string
	runs, waits, spark, holds []*v1.Pod
}

const gangGroup = "workers"

func (c *cast) enter(ctx context.Context) error {
	app := func(name string) string { return name + "-" + c.tag }
	three := func(kind, label string, edit ...func(*v1.Pod)) ([]*v1.Pod, error) {
		var pods []*v1.Pod
		for i := range 3 {
			pod := podOf(app(kind), fmt.Sprintf("%s-%s-%d", kind, c.tag, i), edit...)
			pod.Labels = map[string]string{label: app(kind), "queue": "root.default"}
			pods = append(pods, pod)
		}
		pods, err := c.s.create(ctx, pods...)
		c.s.expect(pods...)
		return pods, err
	}
	later := func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"relabel": c.tag} }
	var err error
	if c.runs, err = three("runs", oldAppLabel); err != nil {
		return err
	}
	if c.waits, err = three("waits", oldAppLabel, later); err != nil {
		return err
	}
	if c.spark, err = three("spark", sparkLabel); err != nil {
		return err
	}
	groups := fmt.Sprintf(`[{"name":%q,"minMember":3,"minResource":{"cpu":"100m"}}]`, gangGroup)
	driver, err := c.s.create(ctx,
		podOf(app("gang"), "driver-"+c.tag, annotated("yunikorn.apache.org/task-groups", groups)),
		podOf(app("other"), "other-"+c.tag))
	if err != nil {
		return err
	}
	c.s.expect(driver...)
	if err := c.s.awaitPods(ctx, "pods to run", append(driver, append(c.runs, c.spark...)...), isRunning); err != nil {
		return err
	}
	return c.findPlaceholders(ctx, app("gang"))
}

// findPlaceholders waits until those of the gang run. Members are to replace them: that
// they go is none of the faults.
func (c *cast) findPlaceholders(ctx context.Context, app string) error {
	err := await(ctx, "placeholders", func() (bool, error) {
		list, err := c.s.Lab.Client().CoreV1().Pods(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{LabelSelector: appLabel + "=" + app})
		if err != nil {
			return false, err
		}
		c.holds = c.holds[:0]
		for i, pod := range list.Items {
			if pod.Annotations[groupAnnotation] == gangGroup {
				c.holds = append(c.holds, &list.Items[i])
			}
		}
		return len(c.holds) == 3, nil
	})
	if err != nil {
		return err
	}
	c.s.mu.Lock()
	for _, pod := range c.holds {
		c.s.gone[string(pod.UID)] = true
	}
	c.s.mu.Unlock()
	return c.s.awaitPods(ctx, "placeholders to run", c.holds, isRunning)
}

// exit lets what waits be bound, and members take the places that were held for them.
func (c *cast) exit(ctx context.Context) error {
	node := fmt.Appendf(nil, `{"metadata":{"labels":{"relabel":%q}}}`, c.tag)
	if _, err := c.s.Lab.Client().CoreV1().Nodes().Patch(ctx, "node-0000", types.MergePatchType, node, metav1.PatchOptions{}); err != nil {
		return err
	}
	var members []*v1.Pod
	for i := range 3 {
		member := podOf("gang-"+c.tag, fmt.Sprintf("member-%s-%d", c.tag, i), annotated(groupAnnotation, gangGroup))
		members = append(members, member)
	}
	members, err := c.s.create(ctx, members...)
	if err != nil {
		return err
	}
	c.s.expect(members...)
	if err := c.s.awaitPods(ctx, "what waited to be bound", c.waits, isBound); err != nil {
		return err
	}
	if err := c.s.awaitPods(ctx, "the gang to be bound", members, isBound); err != nil {
		return err
	}
	return await(ctx, "placeholders to go", func() (bool, error) {
		there := map[string]bool{}
		for _, ev := range c.s.Cluster.Pods() {
			there[ev.Pod.UID] = ev.Kind != history.Gone
		}
		for _, pod := range c.holds {
			if there[string(pod.UID)] {
				return false, nil
			}
		}
		return true, nil
	})
}

// relabel sets labels of a pod, or takes those away that are nil.
func (s *Session) relabel(ctx context.Context, pod *v1.Pod, labels map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
	if err != nil {
		return err
	}
	_, err = s.Lab.Client().CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("relabel pod %s: %w", pod.Name, err)
	}
	return nil
}
