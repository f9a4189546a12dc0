package coordinator_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// tale is facts that somebody makes up, so far apart that everybody knows them all.
type tale struct {
	now   time.Time
	facts []fact
	pods  map[string]*v1.Pod
}

func (s *tale) tell(f fact) *tale {
	s.now = s.now.Add(2 * oracleGracePeriod)
	f.at = s.now
	s.facts = append(s.facts, f)
	return s
}

// soon has the last fact follow the one before at once.
func (s *tale) soon() *tale {
	s.now = s.facts[len(s.facts)-2].at
	s.facts[len(s.facts)-1].at = s.now
	return s
}

func (s *tale) node(name, cpu string, change ...func(*v1.Node)) *tale {
	node := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"zone": name}},
		Status:     v1.NodeStatus{Allocatable: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}},
	}
	for _, each := range change {
		each(node)
	}
	return s.tell(fact{node: node})
}

// pod is one of root.a that asks for one CPU, as it has been told of last, or a new one.
func (s *tale) pod(name string, change ...func(*v1.Pod)) *tale {
	pod := s.pods[name]
	if pod == nil {
		pod = soakPod("h", name, "1")
		pod.UID, pod.Spec.SchedulerName = types.UID(name), oracleScheduler
		pod.Labels = map[string]string{labelApp: "app", labelQueue: "root.a"}
		pod.Annotations = make(map[string]string)
	}
	pod = pod.DeepCopy()
	for _, each := range change {
		each(pod)
	}
	s.pods[name] = pod
	return s.tell(fact{pod: pod})
}

func (s *tale) gone(name string) *tale {
	pod := s.pods[name]
	delete(s.pods, name)
	return s.tell(fact{pod: pod, gone: true})
}

func (s *tale) queues(queues map[string]quota) *tale { return s.tell(fact{queues: queues}) }
func (s *tale) asks(verb, pod, node string) *tale {
	return s.tell(fact{asked: &asked{by: "r1", verb: verb, pod: pod, uid: types.UID(pod), node: node}})
}

func to(node string) func(*v1.Pod) { return func(p *v1.Pod) { p.Spec.NodeName = node } }
func in(queue string) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Labels[labelQueue] = queue }
}
func of(user string) func(*v1.Pod) { return func(p *v1.Pod) { p.Annotations[noteUser] = user } }
func sized(cpu string) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.Containers[0].Resources.Requests[v1.ResourceCPU] = resource.MustParse(cpu) }
}
func isNow(phase v1.PodPhase) func(*v1.Pod) { return func(p *v1.Pod) { p.Status.Phase = phase } }
func refused(p *v1.Pod)                     { p.Status.Phase, p.Status.Reason = v1.PodFailed, reasonRefused }
func cordoned(n *v1.Node)                   { n.Spec.Unschedulable = true }
func tainted(n *v1.Node)                    { n.Spec.Taints = []v1.Taint{dedicated} }
func tolerating(p *v1.Pod)                  { p.Spec.Tolerations = []v1.Toleration{{Key: dedicated.Key}} }
func placeholderOf(p *v1.Pod)               { p.Annotations[notePlaceholder] = "true" }
func memberOfHard(p *v1.Pod) {
	p.Annotations[noteGroups], p.Annotations[notePolicy] = `[{"name":"g","minMember":2,"minResource":{"cpu":"1"}}]`, "gangSchedulingStyle=Hard"
}
func memberOfSoft(p *v1.Pod) {
	memberOfHard(p)
	p.Annotations[notePolicy] = "gangSchedulingStyle=Soft"
}

func patientFor(seconds string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Annotations[notePolicy] = "placeholderTimeoutInSeconds=" + seconds + " " + p.Annotations[notePolicy]
	}
}
func other(p *v1.Pod) { p.Labels[labelApp] = "other" }

// TestTheOracleSees each fault that it is there to see, and takes for none what only looks
// like one.
func TestTheOracleSees(t *testing.T) {
	most := func(max int64) map[string]quota { return map[string]quota{"root.a": {max: max}} }
	coming := map[string]quota{"root.a": {max: -1}, "root.b": {max: -1, guaranteed: 1000}}
	for _, c := range []struct {
		wrong, because string
		tell           func(*tale)
	}{
		{"", "all is well", func(s *tale) { s.node("n", "2").pod("a").pod("a", to("n")).pod("b").pod("b", to("n")) }},
		{"a node over its capacity", "", func(s *tale) { s.node("n", "1").pod("a", to("n")).pod("b").pod("b", to("n")) }},
		{"", "it has just shrunk", func(s *tale) { s.node("n", "2").pod("a", to("n")).pod("b").node("n", "1").pod("b", to("n")).soon() }},
		{"a node over its capacity", "it shrank long ago", func(s *tale) { s.node("n", "2").pod("a", to("n")).pod("b").node("n", "1").pod("b", to("n")) }},
		{"a node over its capacity", "a pod was resized", func(s *tale) {
			s.node("n", "2").pod("a", to("n")).pod("a", sized("2")).pod("b").pod("b", to("n"))
		}},
		{"", "what has ended takes nothing", func(s *tale) {
			s.node("n", "1").pod("a", to("n")).pod("a", isNow(v1.PodSucceeded)).pod("b", to("n")).pod("b", refused).pod("c", to("n")).gone("c").pod("d", to("n"))
		}},
		{"", "who decided on it has died since", func(s *tale) {
			s.node("n", "2").pod("a").pod("z").asks("BIND", "z", "m").node("n", "2", cordoned)
			s.facts[2].pod.Spec.SchedulerName = ""
			s.tell(fact{asked: &asked{by: "r2", verb: "BIND", pod: "a", node: "n"}}).pod("a", to("n")).soon()
		}},
		{"a pod on a cordoned node", "who decided on it lives", func(s *tale) {
			s.node("n", "2").pod("a").pod("b").node("m", "2").asks("BIND", "b", "m").node("n", "2", cordoned).asks("BIND", "a", "n").pod("a", to("n")).soon()
		}},
		{"a pod on a node that is gone", "", func(s *tale) { s.pod("a").pod("a", to("n")) }},
		{"a pod on a cordoned node", "", func(s *tale) { s.node("n", "2", cordoned).pod("a").pod("a", to("n")) }},
		{"a pod on a node that it does not select", "", func(s *tale) {
			s.node("n", "2").pod("a", func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"zone": "m"} }).pod("a", to("n"))
		}},
		{"a pod on a node that it does not select", "it does not tolerate it", func(s *tale) {
			s.node("n", "2", tainted).pod("a").pod("a", to("n"))
		}},
		{"", "it tolerates it", func(s *tale) { s.node("n", "2", tainted).pod("a", tolerating).pod("a", to("n")) }},
		{"", "no node is tolerated", func(s *tale) { s.node("n", "2", tainted).pod("a") }},
		{"", "the node has just been tainted", func(s *tale) { s.node("n", "2").pod("a").node("n", "2", tainted).pod("a", to("n")).soon() }},
		{"a queue over its maximum", "the one above it", func(s *tale) {
			s.node("n", "4").queues(map[string]quota{"root.d": {max: 1000}, "root.d.x": {max: -1}, "root.d.y": {max: -1}}).
				pod("a", in("root.d.x"), to("n")).pod("b", in("root.d.y"), to("n"))
		}},
		{"a queue over its maximum", "", func(s *tale) { s.node("n", "4").queues(most(1000)).pod("a", to("n")).pod("b", to("n")) }},
		{"", "what ran before may go on", func(s *tale) { s.node("n", "4").pod("a", to("n")).pod("b", to("n")).queues(most(1000)) }},
		{"a queue over its maximum", "it was lowered long ago", func(s *tale) {
			s.node("n", "4").queues(most(3000)).pod("a", to("n")).pod("b", to("n")).queues(most(1000)).gone("b").pod("c", to("n"))
		}},
		{"a user over the limit", "", func(s *tale) {
			s.node("n", "4").queues(map[string]quota{"root.a": {max: -1, user: 1000}}).pod("a", of("u"), to("n")).pod("b", of("u"), to("n"))
		}},
		{"", "another user", func(s *tale) {
			s.node("n", "4").queues(map[string]quota{"root.a": {max: -1, user: 1000}}).pod("a", of("u"), to("n")).pod("b", of("v"), to("n")).pod("c", of("u"))
		}},
		{"a pod is decided on twice", "", func(s *tale) {
			s.node("n", "4").pod("a").asks("BIND", "a", "n").pod("a", to("n")).asks("BIND", "a", "m")
		}},
		{"", "the same decision again", func(s *tale) { s.node("n", "4").pod("a").pod("a", to("n")).asks("BIND", "a", "n") }},
		{"a running pod is deleted", "", func(s *tale) { s.node("n", "4").pod("a", to("n")).asks("DELETE", "a", "") }},
		{"", "another has it coming", func(s *tale) {
			s.node("n", "1").queues(coming).pod("a", to("n")).pod("b", in("root.b")).asks("DELETE", "a", "").gone("a").pod("b", to("n"))
		}},
		{"a running pod is deleted", "another has got it already", func(s *tale) {
			s.node("n", "2").queues(coming).pod("a", to("n")).pod("b", in("root.b"), to("n")).pod("c", in("root.b")).asks("DELETE", "a", "")
		}},
		{"a pod is made to fail", "", func(s *tale) { s.pod("a").pod("a", isNow(v1.PodFailed)) }},
		{"", "its gang has failed", func(s *tale) { s.pod("a", memberOfHard).pod("a", isNow(v1.PodFailed)) }},
		{"", "its gang is too big for its queue", func(s *tale) { s.queues(most(1000)).pod("a", memberOfSoft).pod("a", isNow(v1.PodFailed)) }},
		{"", "its gang was too big for its queue", func(s *tale) {
			s.queues(most(1000)).queues(most(2000)).pod("a", memberOfSoft).soon().pod("a", isNow(v1.PodFailed))
		}},
		{"a pod is made to fail", "its gang had been taken", func(s *tale) {
			s.queues(most(2000)).pod("a", memberOfSoft).pod("h", placeholderOf).queues(most(1000)).gone("h").pod("a", isNow(v1.PodFailed))
		}},
		{"half a gang", "", func(s *tale) {
			s.node("n", "4").pod("a", memberOfHard).pod("b", memberOfHard).pod("h", placeholderOf).pod("h", to("n")).
				asks("DELETE", "h", "").gone("h").pod("a", to("n")).pod("b", to("n"))
		}},
		{"half a gang", "a place was lost", func(s *tale) {
			s.node("n", "4").pod("a", memberOfHard).pod("b", memberOfHard).pod("h", placeholderOf, to("n")).pod("i", placeholderOf, to("n")).gone("i").
				asks("DELETE", "h", "").gone("h").pod("a", to("n")).pod("b", to("n"))
		}},
		{"", "a place has just been lost", func(s *tale) {
			s.node("n", "4").pod("a", memberOfHard).pod("h", placeholderOf, to("n")).pod("i", placeholderOf, to("n")).gone("i").
				pod("a", to("n")).soon().pod("b", to("n")).asks("DELETE", "h", "").gone("h")
		}},
		{"", "a whole gang", func(s *tale) {
			s.node("n", "4").pod("a", memberOfHard).pod("b", memberOfHard).pod("h", placeholderOf, to("n")).pod("i", placeholderOf, to("n")).
				asks("DELETE", "h", "").gone("h").pod("a", to("n")).asks("DELETE", "i", "").gone("i").pod("b", to("n"))
		}},
		{"a place is given up for nobody", "", func(s *tale) {
			s.node("n", "4").pod("a", memberOfHard).pod("h", placeholderOf, to("n")).pod("i", placeholderOf, to("n")).
				asks("DELETE", "h", "").asks("DELETE", "h", "").asks("DELETE", "i", "").gone("h").pod("a", to("n")).gone("i")
		}},
		{"", "a place was lost with its node", func(s *tale) {
			s.node("n", "4").node("m", "4").pod("a", memberOfHard).pod("h", placeholderOf, to("n")).pod("i", placeholderOf, to("m")).
				asks("DELETE", "h", "").node("n", "1").asks("DELETE", "i", "").gone("h").gone("i").pod("a", to("m"))
		}},
		{"", "nobody is left who needs places", func(s *tale) {
			s.node("n", "4").pod("a", memberOfHard).pod("h", placeholderOf, to("n")).pod("i", placeholderOf, to("n")).gone("a").
				asks("DELETE", "h", "").asks("DELETE", "i", "").gone("h").gone("i")
		}},
		{"a place is given up for nobody", "a node had less room before places were asked for", func(s *tale) {
			s.node("n", "4").node("n", "3").pod("a", memberOfSoft).pod("h", placeholderOf, to("n")).pod("i", placeholderOf, to("n")).
				asks("DELETE", "h", "").asks("DELETE", "i", "").gone("h").pod("a", to("n")).gone("i")
		}},
		{"", "the time of the gang is up", func(s *tale) {
			s.node("n", "4").pod("a", memberOfSoft, patientFor("1")).pod("h", placeholderOf, to("n")).pod("i", placeholderOf, to("n")).
				asks("DELETE", "h", "").asks("DELETE", "i", "").gone("h").pod("a", to("n")).gone("i")
		}},
		{"a place is given up for nobody", "the time of the gang is not up", func(s *tale) {
			s.node("n", "4").pod("a", memberOfSoft, patientFor("9000")).pod("h", placeholderOf, to("n")).pod("i", placeholderOf, to("n")).
				asks("DELETE", "h", "").asks("DELETE", "i", "").gone("h").pod("a", to("n")).gone("i")
		}},
		{"", "another has the place coming", func(s *tale) {
			s.node("n", "2").queues(coming).pod("a", memberOfSoft).pod("h", placeholderOf, to("n")).pod("i", placeholderOf, to("n")).pod("b", in("root.b"), other).
				asks("DELETE", "h", "").asks("DELETE", "i", "").gone("h").gone("i").pod("a", to("n")).pod("b", to("n"))
		}},
		{"a place is given up for nobody", "another has got what was coming already", func(s *tale) {
			s.node("n", "3").queues(coming).pod("a", memberOfSoft).pod("h", placeholderOf, to("n")).pod("i", placeholderOf, to("n")).
				pod("b", in("root.b"), other, to("n")).pod("c", in("root.b"), other).
				asks("DELETE", "h", "").asks("DELETE", "i", "").gone("h").gone("i").pod("a", to("n")).pod("c", to("n"))
		}},
		{"", "nobody of this application is left who needs places", func(s *tale) {
			s.node("n", "4").pod("a", memberOfHard).pod("h", placeholderOf, to("n")).pod("i", placeholderOf, to("n")).pod("c", other, to("n")).gone("a").
				asks("DELETE", "h", "").asks("DELETE", "i", "").gone("h").gone("i")
		}},
		{"", "who needed places has ended", func(s *tale) {
			s.node("n", "4").pod("a", memberOfSoft).pod("h", placeholderOf, to("n")).pod("i", placeholderOf, to("n")).pod("a", to("n")).pod("a", isNow(v1.PodSucceeded)).
				asks("DELETE", "h", "").asks("DELETE", "i", "").gone("h").gone("i")
		}},
		{"", "a Soft gang begins without", func(s *tale) { s.node("n", "4").pod("a", memberOfSoft).pod("a", to("n")) }},
		{"a placeholder after its gang has started", "", func(s *tale) {
			s.node("n", "4").pod("a", memberOfSoft).pod("a", to("n")).pod("h", placeholderOf).asks("DELETE", "h", "").gone("h")
		}},
		{"a placeholder of nobody", "", func(s *tale) { s.pod("h", placeholderOf).gone("h") }},
		{"a placeholder is left", "", func(s *tale) { s.node("n", "1").pod("a", memberOfSoft).pod("h", placeholderOf, to("n")) }},
		{"", "a gang waits for its first place", func(s *tale) { s.pod("a", memberOfSoft).pod("h", placeholderOf) }},
		{"a pod waits for nothing", "a gang may have its first place", func(s *tale) { s.node("n", "1").pod("a", memberOfSoft, sized("2")).pod("h", placeholderOf) }},
		{"a pod waits for nothing", "no place is held for a gang", func(s *tale) { s.node("n", "1").pod("a", memberOfSoft) }},
		{"a pod waits for nothing", "", func(s *tale) { s.node("n", "1").pod("a") }},
		{"", "no node has room", func(s *tale) { s.node("n", "1").pod("a", to("n")).pod("b") }},
		{"", "no node is selected", func(s *tale) {
			s.node("n", "1").pod("a", func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"zone": "m"} })
		}},
		{"", "no node is open", func(s *tale) { s.node("n", "1", cordoned).pod("a") }},
		{"", "its queue has no room", func(s *tale) { s.node("n", "4").queues(most(1000)).pod("a", to("n")).pod("b") }},
		{"", "the node may be kept for another", func(s *tale) { s.node("n", "1").pod("a").pod("b", sized("2")) }},
		{"a pod waits for nothing", "two nodes are not kept for one", func(s *tale) { s.node("n", "1").node("m", "1").pod("a").pod("b", sized("2")) }},
	} {
		t.Run(strings.Trim(c.wrong+", "+c.because, ", "), func(t *testing.T) {
			s := &tale{pods: make(map[string]*v1.Pod)}
			c.tell(s)
			o := judge(s.facts)
			wrong := slices.Concat(o.faults, o.unfinished())
			switch {
			case c.wrong == "" && len(wrong) > 0:
				t.Errorf("it sees %q", wrong)
			case c.wrong != "" && (len(wrong) == 0 || !strings.HasPrefix(wrong[0], c.wrong)):
				t.Errorf("it sees %q", wrong)
			}
		})
	}
}
