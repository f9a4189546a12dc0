package coordinator_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/understudy-ha/understudy/internal/netfault"
)

// step is one thing that happens to a cluster. What its numbers mean depends on what it is;
// any number means something at any time, so that a history without some of its steps is one
// as well.
type step struct {
	Do      string
	A, B, C int
	// Pause is how many milliseconds pass before the next step.
	Pause int
}

// happenings are all that can happen.
var happenings = map[string]func(c *cluster, s step){
	nothing:           func(*cluster, step) {},
	"pods come":       podsCome,
	"pod ends":        podEnds,
	"pod is deleted":  podIsDeleted,
	"node comes":      nodeComes,
	"node goes":       nodeGoes,
	"node is drained": nodeIsDrained,
	"node is resized": nodeIsResized,
	"node is tainted": nodeIsTainted,
	"others' pod":     othersPod,
	"lead dies":       leadDies,
	"follower dies":   followerDies,
	"gang comes":      gangComes,
	"queue changes":   queueChanges,
	"queue is owed":   queueIsOwed,
	"limit changes":   limitChanges,
	"pod is resized":  podIsResized,
}

const nothing = "nothing"

// historyOf draws a history. Pods come more often than anything else. A history is shrunk to
// one in which nothing happens.
func historyOf(t *rapid.T) []step {
	kinds := append([]string{nothing}, slices.Sorted(maps.Keys(happenings))...)
	for range len(kinds) / 2 {
		kinds = append(kinds, "pods come")
	}
	one := rapid.Custom(func(t *rapid.T) step {
		number := rapid.IntRange(0, 11)
		return step{
			Do: rapid.SampledFrom(kinds).Draw(t, "do"), A: number.Draw(t, "a"), B: number.Draw(t, "b"), C: number.Draw(t, "c"),
			Pause: rapid.SampledFrom([]int{0, 0, 3, 30, 100, 300}).Draw(t, "pause"),
		}
	})
	return rapid.SliceOfN(one, 10, 40).Draw(t, "history")
}

// begin makes the cluster that every history begins with, and the first two replicas.
func (c *cluster) begin() {
	c.configure(map[string]quota{
		"root.a": {max: 6000}, "root.b": {max: -1, user: 4000}, "root.c": {max: 4000}, "root.d": {max: 5000}, "root.d.x": {max: -1}, "root.d.y": {max: 3000},
	})
	for i := range 3 {
		nodeComes(c, step{A: i, B: 2})
	}
	c.start()
	c.start()
}

// configure puts queues in force.
func (c *cluster) configure(queues map[string]quota) {
	c.queues = queues
	c.note(fact{queues: maps.Clone(queues)})
	var text strings.Builder
	text.WriteString("partitions:\n- name: default\n  queues:\n  - name: root\n    submitacl: '*'\n    queues:\n")
	paths := slices.Sorted(maps.Keys(queues)) // a parent comes before what is below it
	for i, path := range paths {
		depth := strings.Count(path, ".") - 1
		in := strings.Repeat("    ", depth+1)
		fmt.Fprintf(&text, "%s- name: %s\n", in, path[strings.LastIndexByte(path, '.')+1:])
		q := queues[path]
		fmt.Fprintf(&text, "%[1]s  properties: {preemption.delay: 1s}\n%[1]s  resources:\n", in)
		if q.guaranteed > 0 || depth == 0 && q.max >= 0 {
			fmt.Fprintf(&text, "%s    guaranteed: {vcore: %dm}\n", in, q.guaranteed)
		}
		if q.max >= 0 {
			fmt.Fprintf(&text, "%s    max: {vcore: %dm}\n", in, q.max)
		}
		if q.user > 0 {
			fmt.Fprintf(&text, "%[1]s  limits:\n%[1]s  - {limit: each, users: ['*'], maxresources: {vcore: %[2]dm}}\n", in, q.user)
		}
		if i+1 < len(paths) && strings.HasPrefix(paths[i+1], path+".") {
			fmt.Fprintf(&text, "%s  queues:\n", in)
		}
	}
	c.api.put("configmaps", &v1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: soakNamespace, Name: "yunikorn-configs"},
		Data:       map[string]string{"queues.yaml": text.String()},
	})
}

const historyNamespace = "histories"

// cpus are what pods ask for.
var cpus = []string{"500m", "1", "2", "3"}

func (c *cluster) newPod(app, queue, cpu string) *v1.Pod {
	c.mu.Lock()
	c.pods++
	name := fmt.Sprintf("p%03d", c.pods)
	c.mu.Unlock()
	pod := soakPod(historyNamespace, name, cpu)
	pod.Spec.SchedulerName = oracleScheduler
	pod.Labels = map[string]string{labelApp: app, labelQueue: queue}
	// All pods of an application are of one user.
	pod.Annotations = map[string]string{noteUser: fmt.Sprintf(`{"user":"u%d","groups":["g"]}`, app[len(app)-1]%2)}
	return pod
}

// queueFor is one of the queues that take applications.
func queueFor(n int) string {
	return []string{"root.a", "root.b", "root.c", "root.d.x", "root.d.y"}[n%5]
}

func podsCome(c *cluster, s step) {
	queue := queueFor(s.A)
	for range s.B%3 + 1 {
		pod := c.newPod(fmt.Sprintf("app-%s-%d", queue[len(queue)-1:], s.A/3), queue, cpus[s.C%len(cpus)])
		if s.B >= 6 {
			pod.Spec.Priority = ptr.To[int32](100)
		}
		if s.C >= 10 {
			pod.Spec.NodeSelector = map[string]string{"zone": fmt.Sprint(s.C % 2)}
		}
		if s.C%4 == 3 {
			pod.Spec.Tolerations = []v1.Toleration{{Key: dedicated.Key, Operator: v1.TolerationOpExists}}
		}
		c.api.put("pods", pod)
	}
}

// some returns the pods that are meant, in the order of their names.
func (c *cluster) some(meant func(*v1.Pod) bool) []*v1.Pod {
	pods := slices.DeleteFunc(list[*v1.Pod](c.api, "pods"), func(p *v1.Pod) bool { return !meant(p) })
	slices.SortFunc(pods, func(a, b *v1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods
}

func podEnds(c *cluster, s step) {
	if pods := c.some(func(p *v1.Pod) bool { return p.Status.Phase == v1.PodRunning && !held(p) }); len(pods) > 0 {
		pod := pods[s.A%len(pods)]
		edit(c.api, "pods", pod.Namespace, pod.Name, func(p *v1.Pod) { p.Status.Phase = v1.PodSucceeded })
	}
}

func podIsDeleted(c *cluster, s step) {
	if pods := c.some(func(p *v1.Pod) bool { return !held(p) }); len(pods) > 0 {
		pod := pods[s.A%len(pods)]
		c.api.remove("pods", pod.Namespace, pod.Name, pod.UID)
	}
}

func nodeName(n int) string { return fmt.Sprint("node-", n%5) }

func nodeSize(n int) v1.ResourceList {
	return v1.ResourceList{
		v1.ResourceCPU: *resource.NewQuantity(int64(n%5+2), resource.DecimalSI), v1.ResourceMemory: resource.MustParse("64Gi"),
		v1.ResourcePods: resource.MustParse("110"),
	}
}

// nodeComes adds a node, or makes one schedulable.
func nodeComes(c *cluster, s step) {
	name := nodeName(s.A)
	if c.editNode(name, func(n *v1.Node) { n.Spec.Unschedulable = false }) {
		return
	}
	size := nodeSize(s.B)
	node := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1.LabelHostname: name, "zone": fmt.Sprint(s.A % 2)}},
		Status:     v1.NodeStatus{Capacity: size, Allocatable: size},
	}
	c.note(fact{node: node.DeepCopy()})
	c.api.put("nodes", node)
}

// editNode changes a node, if it is there. The oracle knows it before anybody.
func (c *cluster) editNode(name string, change func(*v1.Node)) bool {
	for _, node := range list[*v1.Node](c.api, "nodes") {
		if node.Name == name {
			node = node.DeepCopy()
			change(node)
			c.note(fact{node: node})
			return edit(c.api, "nodes", "", name, change)
		}
	}
	return false
}

func nodeGoes(c *cluster, s step) {
	for _, node := range list[*v1.Node](c.api, "nodes") {
		if node.Name == nodeName(s.A) {
			c.note(fact{node: node, gone: true})
			c.api.remove("nodes", "", node.Name, "")
		}
	}
}

// nodeIsDrained cordons a node and deletes the pods there.
func nodeIsDrained(c *cluster, s step) {
	name := nodeName(s.A)
	c.editNode(name, func(n *v1.Node) { n.Spec.Unschedulable = true })
	if s.B%2 == 0 {
		return
	}
	for _, pod := range c.some(func(p *v1.Pod) bool { return p.Spec.NodeName == name }) {
		c.api.remove("pods", pod.Namespace, pod.Name, pod.UID)
	}
}

func nodeIsResized(c *cluster, s step) {
	c.editNode(nodeName(s.A), func(n *v1.Node) { n.Status.Allocatable = nodeSize(s.B) })
}

// dedicated is the taint of nodes that are.
var dedicated = v1.Taint{Key: "dedicated", Value: "some", Effect: v1.TaintEffectNoSchedule}

// nodeIsTainted gives a node its taint, or takes it.
func nodeIsTainted(c *cluster, s step) {
	c.editNode(nodeName(s.A), func(n *v1.Node) {
		n.Spec.Taints = nil
		if s.B%2 == 0 {
			n.Spec.Taints = []v1.Taint{dedicated}
		}
	})
}

// othersPod has a pod of another scheduler come to a node with room, or has one go.
func othersPod(c *cluster, s step) {
	others := c.some(func(p *v1.Pod) bool { return !ours(p) })
	if s.B%2 == 0 && len(others) > 0 {
		pod := others[s.A%len(others)]
		c.api.remove("pods", pod.Namespace, pod.Name, pod.UID)
		return
	}
	pod := c.newPod("others", "", cpus[s.C%2])
	pod.Spec.SchedulerName, pod.Spec.NodeName, pod.Labels = v1.DefaultSchedulerName, nodeName(s.A), nil
	if cpuOf(pod) <= c.room(pod.Spec.NodeName) {
		c.api.put("pods", pod)
	}
}

// room is what a node has left, nothing if it is not there.
func (c *cluster) room(name string) (left int64) {
	for _, node := range list[*v1.Node](c.api, "nodes") {
		if node.Name == name {
			left = cpuOfNode(node)
		}
	}
	for _, pod := range c.some(occupies) {
		if pod.Spec.NodeName == name {
			left -= cpuOf(pod)
		}
	}
	return left
}

// leadDies kills who leads: now, over one of its next requests, or over a commit that is
// lost or of which it does not hear.
func leadDies(c *cluster, s step) {
	p := c.leads()
	if p == nil {
		return
	}
	switch s.A % 5 {
	case 0:
		p.kill()
	case 1:
		p.lights(s.B, true)
	case 2:
		p.lights(s.B, false)
	case 3:
		p.cutOff(netfault.Held)
	case 4:
		p.cutOff(netfault.HeldAnswers)
	}
}

// cutOff has a replica die soon after it was cut off from etcd.
func (p *player) cutOff(how netfault.Fault) {
	p.etcd.Set(how)
	p.c.running.Go(func() {
		select {
		case <-time.After(200 * time.Millisecond):
			p.kill()
		case <-p.over:
		case <-p.c.ctx.Done():
		}
	})
}

func followerDies(c *cluster, s step) {
	lead := c.leads()
	c.mu.Lock()
	replicas := slices.Clone(c.replicas)
	c.mu.Unlock()
	replicas = slices.DeleteFunc(replicas, func(p *player) bool { return p == lead })
	if len(replicas) > 0 {
		replicas[s.A%len(replicas)].kill()
	}
}

// noteAsked notes what a request asks for, and returns its body anew.
func (p *player) noteAsked(r *http.Request, t target) io.ReadCloser {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return http.NoBody
	}
	if sent, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil); err == nil {
		switch o := sent.(type) {
		case *v1.Binding:
			p.c.note(fact{asked: &asked{by: p.name, verb: "BIND", pod: t.name, uid: o.UID, node: o.Target.Name}})
		case *metav1.DeleteOptions:
			a := asked{by: p.name, verb: "DELETE", pod: t.name}
			if o.Preconditions != nil && o.Preconditions.UID != nil {
				a.uid = *o.Preconditions.UID
			}
			p.c.note(fact{asked: &a})
		}
	}
	return io.NopCloser(bytes.NewReader(body))
}

func (f fact) String() string {
	switch {
	case f.pod != nil:
		return fmt.Sprintf("pod %s of %s in %s with %d on %q is %s %s, gone %t", f.pod.Name, f.pod.Labels[labelApp], queueOf(f.pod), cpuOf(f.pod),
			f.pod.Spec.NodeName, f.pod.Status.Phase, f.pod.Status.Reason, f.gone)
	case f.node != nil:
		return fmt.Sprintf("node %s with %d, unschedulable %t, taints %v, gone %t", f.node.Name, cpuOfNode(f.node), f.node.Spec.Unschedulable, f.node.Spec.Taints, f.gone)
	case f.queues != nil:
		return fmt.Sprintf("queues %+v", f.queues)
	case f.asked != nil:
		return fmt.Sprintf("asked %+v", *f.asked)
	}
	return f.said
}

func stepsOf(history []step) string {
	text, err := json.Marshal(history)
	if err != nil {
		panic(err)
	}
	return string(text)
}
