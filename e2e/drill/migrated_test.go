package drill

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/e2e/lab"
)

// What YuniKorn reads of pods. This is written from its contract and shares nothing with what
// Understudy writes.
const (
	queueLabel      = "yunikorn.apache.org/queue"
	oldQueueLabel   = "queue"
	policy          = "yunikorn.apache.org/schedulingPolicyParameters"
	holdsPlace      = "internal.yunikorn.apache.org/placeholder"
	placeholderName = `^tg-.{1,28}-.{1,20}-[a-z0-9]{10}$`
)

// holds reports whether a pod is a placeholder.
func holds(p *v1.Pod) bool { return p.Annotations[holdsPlace] == "true" }

// unlikeYuniKorn says what YuniKorn would not read as it wrote it itself, were it started with
// these pods.
func unlikeYuniKorn(pods []*v1.Pod) (wrong []string) {
	byUID := make(map[types.UID]*v1.Pod)
	for _, p := range pods {
		byUID[p.UID] = p
	}
	takes := make(map[string]int) // members and placeholders with a place, by application and group
	waits := make(map[string]bool)
	for _, p := range pods {
		say := func(format string, args ...any) { wrong = append(wrong, p.Name+": "+fmt.Sprintf(format, args...)) }
		group := p.Labels[appLabel] + "/" + p.Annotations[taskGroup]
		switch {
		case len(p.Finalizers) > 0:
			say("has finalizers %q", p.Finalizers)
		case p.Spec.SchedulerName != "yunikorn":
			say("is scheduled by %q", p.Spec.SchedulerName)
		case p.Labels[appLabel] == "" || p.Labels[appLabel] != p.Labels[oldAppLabel]:
			say("is of the application %q and of %q", p.Labels[appLabel], p.Labels[oldAppLabel])
		case p.Labels[queueLabel] == "" || p.Labels[queueLabel] != p.Labels[oldQueueLabel]:
			say("is in the queue %q and in %q", p.Labels[queueLabel], p.Labels[oldQueueLabel])
		}
		for _, c := range p.Status.Conditions {
			if c.Type == v1.PodScheduled && (c.Status == v1.ConditionTrue) != (p.Spec.NodeName != "") {
				say("has PodScheduled %s on the node %q", c.Status, p.Spec.NodeName)
			}
		}
		if holds(p) {
			for _, what := range unlikePlaceholder(p, byUID) {
				say("%s", what)
			}
			waits[group] = true
			takes[group]++
		} else if p.Spec.NodeName != "" {
			takes[group]++
		}
	}
	for _, p := range pods {
		group := p.Labels[appLabel] + "/" + p.Annotations[taskGroup]
		if g := groupOf(p); g != nil && waits[group] && takes[group] > g.MinMember {
			wrong = append(wrong, fmt.Sprintf("%s has %d members and placeholders, and needs %d", group, takes[group], g.MinMember))
			delete(waits, group)
		}
	}
	return wrong
}

// group is what YuniKorn reads of a task group.
type group struct {
	Name        string
	MinMember   int
	MinResource map[v1.ResourceName]resource.Quantity
}

// groupOf is the group that a pod is of; nil if it does not say.
func groupOf(p *v1.Pod) *group {
	var all []group
	if json.Unmarshal([]byte(p.Annotations[taskGroups]), &all) != nil {
		return nil
	}
	if i := slices.IndexFunc(all, func(g group) bool { return g.Name == p.Annotations[taskGroup] }); i >= 0 {
		return &all[i]
	}
	return nil
}

func unlikePlaceholder(p *v1.Pod, byUID map[types.UID]*v1.Pod) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	g := groupOf(p)
	if g == nil || g.MinMember < 1 {
		return []string{"does not say its group"}
	}
	if len(p.Name) > 63 || !regexp.MustCompile(placeholderName).MatchString(p.Name) {
		say("is no name of a placeholder")
	}
	if !equality.Semantic.DeepEqual(map[v1.ResourceName]resource.Quantity(p.Spec.Containers[0].Resources.Requests), g.MinResource) {
		say("requests %v, want %v", p.Spec.Containers[0].Resources.Requests, g.MinResource)
	}
	if p.Spec.RestartPolicy != v1.RestartPolicyNever || p.Spec.SecurityContext == nil || p.Spec.SecurityContext.RunAsNonRoot == nil || !*p.Spec.SecurityContext.RunAsNonRoot {
		say("restarts, or may be root")
	}
	if len(p.OwnerReferences) != 1 {
		return append(wrong, fmt.Sprintf("has %d owners", len(p.OwnerReferences)))
	}
	ref := p.OwnerReferences[0]
	if ref.Kind != "Pod" || ref.Controller == nil || *ref.Controller || ref.BlockOwnerDeletion == nil || !*ref.BlockOwnerDeletion {
		say("has the owner %+v", ref)
	}
	owner := byUID[ref.UID]
	switch {
	case owner == nil:
		say("has an owner that is gone: %s", ref.Name)
	case owner.Name != ref.Name || holds(owner) || owner.Labels[appLabel] != p.Labels[appLabel]:
		say("has the owner %s, which is no pod of its application", owner.Name)
	case owner.Annotations[taskGroups] != p.Annotations[taskGroups] || owner.Annotations[policy] != p.Annotations[policy]:
		say("says other groups or another policy than %s", owner.Name)
	}
	return wrong
}

// recordedPods are those of the record, but for the one whose owner is gone.
func recordedPods(t *testing.T) map[string]*v1.Pod {
	t.Helper()
	list, err := lab.ReadManifests(yunikornLeaves + "workloads.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pods := make(map[string]*v1.Pod)
	for _, o := range list {
		if o.GetKind() != "Pod" || strings.HasPrefix(o.GetName(), "tg-train-gone") {
			continue
		}
		pod := &v1.Pod{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, pod); err != nil {
			t.Fatal(err)
		}
		pods[pod.Name] = pod
	}
	return pods
}

// TestYuniKornReadsItsOwn: the judge has nothing against what YuniKorn itself leaves, and sees
// what it would not have left so.
func TestYuniKornReadsItsOwn(t *testing.T) {
	const held, waits = "tg-train-run-workers-5m2kq0x7fa", "train-reserve-0"
	for name, c := range map[string]struct {
		spoil func(map[string]*v1.Pod)
		says  string
	}{
		"as it is":     {func(map[string]*v1.Pod) {}, ""},
		"finalizer":    {func(p map[string]*v1.Pod) { p[waits].Finalizers = []string{"x/y"} }, "finalizers"},
		"scheduler":    {func(p map[string]*v1.Pod) { p[waits].Spec.SchedulerName = "other" }, "scheduled by"},
		"application":  {func(p map[string]*v1.Pod) { p[waits].Labels[oldAppLabel] = "other" }, "of the application"},
		"queue":        {func(p map[string]*v1.Pod) { delete(p[held].Labels, queueLabel) }, "in the queue"},
		"condition":    {func(p map[string]*v1.Pod) { p[waits].Spec.NodeName = "node-0000" }, "PodScheduled False"},
		"name":         {func(p map[string]*v1.Pod) { p[held].Name = "tg-workers-train-run-0" }, "no name of a placeholder"},
		"group":        {func(p map[string]*v1.Pod) { p[held].Annotations[taskGroup] = "others" }, "does not say its group"},
		"no groups":    {func(p map[string]*v1.Pod) { delete(p[held].Annotations, taskGroups) }, "does not say its group"},
		"other policy": {func(p map[string]*v1.Pod) { p[held].Annotations[policy] = "gangSchedulingStyle=Hard" }, "another policy"},
		"requests": {func(p map[string]*v1.Pod) {
			p[held].Spec.Containers[0].Resources.Requests[v1.ResourceCPU] = mustParse("2")
		}, "requests"},
		"root":        {func(p map[string]*v1.Pod) { p[held].Spec.SecurityContext = nil }, "may be root"},
		"no owner":    {func(p map[string]*v1.Pod) { p[held].OwnerReferences = nil }, "0 owners"},
		"other owner": {func(p map[string]*v1.Pod) { p["train-run-0"].UID = "x" }, "owner that is gone"},
		"foreign":     {func(p map[string]*v1.Pod) { p[held].Labels[appLabel], p[held].Labels[oldAppLabel] = "etl", "etl" }, "no pod of its application"},
		"controller":  {func(p map[string]*v1.Pod) { yes := true; p[held].OwnerReferences[0].Controller = &yes }, "has the owner"},
		"one too many": {func(p map[string]*v1.Pod) {
			more := p["train-run-1"].DeepCopy()
			more.Name, more.UID = "m", "m"
			p["m"] = more
		}, "needs 3"},
	} {
		t.Run(name, func(t *testing.T) {
			pods := recordedPods(t)
			c.spoil(pods)
			wrong := strings.Join(unlikeYuniKorn(slices.Collect(maps.Values(pods))), "\n")
			if (c.says == "") != (wrong == "") || !strings.Contains(wrong, c.says) {
				t.Errorf("it says %q, want %q", wrong, c.says)
			}
		})
	}
}

func mustParse(q string) resource.Quantity { return resource.MustParse(q) }
