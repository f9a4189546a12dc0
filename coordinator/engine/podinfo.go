package engine

import (
	"cmp"
	"log/slog"
	"strings"

	sicommon "github.com/apache/yunikorn-scheduler-interface/lib/go/common"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// ownLabels begins the labels that the replicas put on pods. A binding does too, so that a pod
// has them only once it is bound: they are no tags.
const ownLabels = "understudy.dev/"

// tagsOf returns what the core is told about a pod beyond its resources. The
// pod may be nil.
func tagsOf(rec *ledger.Task, pod *v1.Pod) map[string]string {
	tags := podTags(rec.Namespace, rec.Name, pod)
	if node := requiredNode(pod); node != "" {
		tags[sicommon.DomainYuniKorn+sicommon.KeyRequiredNode] = node
	}
	return tags
}

func podTags(namespace, name string, pod *v1.Pod) map[string]string {
	const meta = sicommon.DomainK8s + sicommon.GroupMeta
	tags := map[string]string{
		meta + sicommon.KeyNamespace:                    namespace,
		meta + sicommon.KeyPodName:                      name,
		sicommon.DomainYuniKorn + sicommon.KeyPodName:   name,
		sicommon.DomainYuniKorn + sicommon.KeyNamespace: namespace,
	}
	if pod != nil {
		for k, v := range pod.Labels {
			if strings.HasPrefix(k, ownLabels) {
				continue
			}
			tags[sicommon.DomainK8s+sicommon.GroupLabel+k] = v
		}
	}
	return tags
}

// requiredNode returns the one node that a DaemonSet made the pod for.
func requiredNode(pod *v1.Pod) string {
	if pod == nil || pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil {
		return ""
	}
	if owner := metav1.GetControllerOf(pod); owner == nil || owner.Kind != "DaemonSet" {
		return ""
	}
	required := pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil {
		return ""
	}
	for _, term := range required.NodeSelectorTerms {
		for _, f := range term.MatchFields {
			if f.Key == metav1.ObjectNameField && f.Operator == v1.NodeSelectorOpIn && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}

func priorityOf(pod *v1.Pod) int32 {
	if pod == nil || pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

// priorityIn returns the priority of a task of that rank.
func priorityIn(rank ledger.Rank, pod *v1.Pod) int32 {
	if rank.Ranked {
		return rank.Priority
	}
	return priorityOf(pod)
}

// preemptionIn returns the policy of a task of that rank.
func (e *Engine) preemptionIn(rank ledger.Rank, pod *v1.Pod) *si.PreemptionPolicy {
	p := e.preemptionOf(pod)
	p.AllowPreemptOther = p.AllowPreemptOther && !rank.Yields
	p.AllowPreemptSelf = p.AllowPreemptSelf && !rank.Together
	return p
}

func (e *Engine) preemptionOf(pod *v1.Pod) *si.PreemptionPolicy {
	p := &si.PreemptionPolicy{AllowPreemptSelf: true, AllowPreemptOther: true}
	if pod == nil {
		return p
	}
	if policy := pod.Spec.PreemptionPolicy; policy != nil && *policy == v1.PreemptNever {
		p.AllowPreemptOther = false
	}
	var class *schedulingv1.PriorityClass
	if e.cfg.PriorityClass != nil && pod.Spec.PriorityClassName != "" {
		class = e.cfg.PriorityClass(pod.Spec.PriorityClassName)
	}
	p.AllowPreemptSelf = workload.AllowPreemption(pod, class)
	return p
}

// bySubmission orders tasks as they were submitted.
func bySubmission(a, b *task) int {
	return cmp.Or(cmp.Compare(a.rec.Submitted, b.rec.Submitted), cmp.Compare(a.rec.ID, b.rec.ID))
}

func attrApp(id string) slog.Attr  { return slog.String("app", id) }
func attrTask(id string) slog.Attr { return slog.String("task", id) }
func attrNode(id string) slog.Attr { return slog.String("node", id) }
func attrErr(err error) slog.Attr  { return slog.String("error", err.Error()) }
