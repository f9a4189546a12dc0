package coordinator_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

// The oracle knows what a cluster looked like at each time, and nothing of the coordinator:
// this file imports none of it, and has its own arithmetic, its own names of labels, and its
// own idea of what fits where. It counts CPU alone, in thousandths.

// fact is something that happened to a cluster. One of the pointers is set.
type fact struct {
	at   time.Time
	pod  *v1.Pod  // as it is now
	node *v1.Node // as it is now
	gone bool     // pod or node
	// queues are all that there are now, by path.
	queues map[string]quota
	asked  *asked
	said   string // which the oracle does not heed
}

// quota is how much the pods of a queue may have, negative for any amount, how much they have
// coming, and how much those of each user may have, zero for any amount.
type quota struct{ max, guaranteed, user int64 }

// asked is what a replica asks of the API server about a pod.
type asked struct {
	by, verb, pod string
	uid           types.UID // that is meant, empty for any
	node          string    // of a binding
}

const (
	labelApp          = "yunikorn.apache.org/app-id"
	labelQueue        = "yunikorn.apache.org/queue"
	noteGroup         = "yunikorn.apache.org/task-group-name"
	noteGroups        = "yunikorn.apache.org/task-groups"
	notePolicy        = "yunikorn.apache.org/schedulingPolicyParameters"
	notePlaceholder   = "yunikorn.apache.org/placeholder"
	noteUser          = "yunikorn.apache.org/user.info"
	oracleScheduler   = "yunikorn"
	reasonRefused     = "OutOfcpu" // a kubelet has not taken a pod
	rootQueue         = "root"
	oracleGracePeriod = 5 * time.Second
)

// oracle goes through the facts of a cluster and notes what must not have been.
type oracle struct {
	at       time.Time
	pods     map[string]*v1.Pod
	nodes    map[string]*v1.Node
	queues   map[string]quota
	former   map[string]quota // what was before queues, until changed
	changed  time.Time
	narrowed map[string]time.Time // when a node or a queue last got less room by what is no decision of a lead
	gangs    map[string]*gangSeen // by application
	deletes  map[string]bool      // pods that a replica has asked to delete
	born     map[string]time.Time // pods
	users    map[string]string    // of applications
	lead     string               // who has bound a pod last, and since when
	taken    time.Time
	faults   []string
}

// gangSeen is what has been seen of a gang.
type gangSeen struct {
	members int
	cpu     int64 // of all members
	hard    bool
	// kept says that places have been asked for, and tooBig that a queue could not have held
	// all of it before that: it may be refused.
	kept, tooBig bool
	paths        []string
	held         map[types.UID]bool // placeholders that have a node, or had one until a replica deleted them
	lost         []time.Time        // when places were lost, of which a lead may not have known yet
	timed        bool               // a placeholder has had a node, from which on the gang has so much time
	started      bool               // a pod of it has a node
	// came are its pods, and spent the placeholders with a node that a replica has asked to
	// delete. The first placeholder came at asked, and the gang has patience at least from
	// then on.
	came, spent int
	asked       time.Time
	patience    time.Duration
}

// judge goes through facts in their order.
func judge(facts []fact) *oracle {
	o := &oracle{
		pods: make(map[string]*v1.Pod), nodes: make(map[string]*v1.Node), queues: make(map[string]quota),
		narrowed: make(map[string]time.Time), gangs: make(map[string]*gangSeen), deletes: make(map[string]bool),
		born: make(map[string]time.Time), users: make(map[string]string),
	}
	for _, f := range facts {
		o.at = f.at
		switch {
		case f.pod != nil:
			o.seePod(f.pod, f.gone)
		case f.node != nil:
			o.seeNode(f.node, f.gone)
		case f.queues != nil:
			o.seeQueues(f.queues)
		case f.asked != nil:
			o.seeAsked(f.asked)
		}
	}
	return o
}

// fault notes what must not have been: what it is, and in detail.
func (o *oracle) fault(what, format string, args ...any) {
	o.faults = append(o.faults, what+": "+fmt.Sprintf(format, args...))
}

// unaware reports whether who decided on a pod may not have known how little room a node or
// queue has. A new lead carries out what the one before it has decided, however long nobody
// led.
func (o *oracle) unaware(of string, pod *v1.Pod) bool {
	narrowed, ok := o.narrowed[of]
	if !ok {
		return false
	}
	inherited := narrowed.After(o.born[pod.Name]) && narrowed.Before(o.taken) && o.at.Sub(o.taken) < oracleGracePeriod
	return inherited || o.at.Sub(narrowed) < oracleGracePeriod
}

func (o *oracle) seeNode(node *v1.Node, gone bool) {
	before := o.nodes[node.Name]
	if before != nil && (gone || node.Spec.Unschedulable && !before.Spec.Unschedulable || cpuOfNode(node) < cpuOfNode(before) ||
		len(node.Spec.Taints) > len(before.Spec.Taints)) {
		o.narrowed[node.Name] = o.at
	}
	if gone {
		delete(o.nodes, node.Name)
		return
	}
	o.nodes[node.Name] = node
}

func (o *oracle) seeQueues(queues map[string]quota) {
	for path, now := range queues {
		if before, ok := o.queues[path]; ok && now.max >= 0 && (before.max < 0 || now.max < before.max) {
			o.narrowed[path] = o.at
		}
		if before := o.queues[path]; now.user > 0 && (before.user == 0 || now.user < before.user) {
			o.narrowed[path] = o.at
		}
	}
	o.former, o.changed, o.queues = o.queues, o.at, queues
	for _, g := range o.gangs {
		o.fits(g)
	}
}

// fits looks whether the queues have room for a gang that has not been taken yet. They may
// be known as they were before.
func (o *oracle) fits(g *gangSeen) {
	for _, path := range g.paths {
		most := []int64{o.max(path)}
		if before, ok := o.former[path]; ok && o.at.Sub(o.changed) < oracleGracePeriod {
			most = append(most, before.max)
		}
		g.tooBig = g.tooBig || !g.kept && slices.ContainsFunc(most, func(most int64) bool { return most >= 0 && g.cpu > most })
	}
}

func (o *oracle) seeAsked(a *asked) {
	pod := o.pods[a.pod]
	if pod == nil || a.uid != "" && a.uid != pod.UID {
		return // nothing comes of it
	}
	switch a.verb {
	case "DELETE":
		first := !o.deletes[a.pod]
		o.deletes[a.pod] = true
		switch {
		case !occupies(pod):
		case !held(pod):
			o.evicted(pod)
		case first:
			o.givenUp(pod)
		}
	case "BIND":
		if a.by != o.lead {
			o.lead, o.taken = a.by, o.at
		}
		if pod.Spec.NodeName != "" && pod.Spec.NodeName != a.node {
			o.fault("a pod is decided on twice", "%s binds %s to %s, which is on %s", a.by, a.pod, a.node, pod.Spec.NodeName)
		}
	}
}

func (o *oracle) seePod(pod *v1.Pod, gone bool) {
	before := o.pods[pod.Name]
	if before != nil && before.UID != pod.UID {
		before = nil
	}
	if before == nil {
		delete(o.deletes, pod.Name)
		o.born[pod.Name] = o.at
		if ours(pod) && !gone {
			o.created(pod)
		}
	}
	switch {
	case gone || before != nil && over(pod) && !over(before):
		o.ended(pod, gone)
	case pod.Spec.NodeName != "" && (before == nil || before.Spec.NodeName == ""):
		if ours(pod) {
			o.bound(pod)
		} else {
			o.narrowed[pod.Spec.NodeName] = o.at
		}
	case before != nil && occupies(pod) && cpuOf(pod) > cpuOf(before):
		o.narrowed[pod.Spec.NodeName] = o.at
		for _, path := range paths(pod) {
			o.narrowed[path] = o.at
		}
	}
	if gone {
		delete(o.pods, pod.Name)
		return
	}
	o.pods[pod.Name] = pod
}

// created is told of a pod of ours.
func (o *oracle) created(pod *v1.Pod) {
	app := pod.Labels[labelApp]
	if !held(pod) {
		o.users[app] = pod.Annotations[noteUser]
	}
	g := o.gangs[app]
	switch {
	case held(pod) && g == nil:
		o.fault("a placeholder of nobody", "%s of %s", pod.Name, app)
	case held(pod):
		if !g.kept {
			g.kept, g.asked = true, o.at
		}
		if g.started {
			o.fault("a placeholder after its gang has started", "%s of %s", pod.Name, app)
		}
	case g != nil:
		g.came++
	case pod.Annotations[noteGroups] != "":
		g := &gangSeen{held: make(map[types.UID]bool), hard: strings.Contains(pod.Annotations[notePolicy], "Hard"), paths: paths(pod), came: 1}
		seconds := 900
		_, _ = fmt.Sscanf(pod.Annotations[notePolicy], "placeholderTimeoutInSeconds=%d", &seconds)
		g.patience = time.Duration(seconds) * time.Second
		var groups []struct {
			MinMember   int
			MinResource map[string]resource.Quantity
		}
		if err := json.Unmarshal([]byte(pod.Annotations[noteGroups]), &groups); err != nil {
			panic(err)
		}
		for _, group := range groups {
			cpu := group.MinResource["cpu"]
			g.members += group.MinMember
			g.cpu += int64(group.MinMember) * cpu.MilliValue()
		}
		o.gangs[app] = g
		o.fits(g)
	}
}

// ended is told of a pod that runs no more, or is gone.
func (o *oracle) ended(pod *v1.Pod, gone bool) {
	if !ours(pod) {
		return
	}
	g := o.gangs[pod.Labels[labelApp]]
	switch {
	case held(pod) && g != nil && !o.deletes[pod.Name]:
		if g.held[pod.UID] {
			g.lost = append(g.lost, o.at)
		}
		delete(g.held, pod.UID) // its node has gone, or it could not run
	case !gone && pod.Status.Phase == v1.PodFailed && pod.Status.Reason != reasonRefused && (g == nil || !g.tooBig && (!g.hard || g.started)):
		o.fault("a pod is made to fail", "%s of %s: %s", pod.Name, pod.Labels[labelApp], pod.Status.Message)
	}
}

// bound is told of a pod of ours that has been given a node.
func (o *oracle) bound(pod *v1.Pod) {
	name := pod.Spec.NodeName
	if !o.unaware(name, pod) {
		node := o.nodes[name]
		switch {
		case node == nil:
			o.fault("a pod on a node that is gone", "%s on %s", pod.Name, name)
		case node.Spec.Unschedulable:
			o.fault("a pod on a cordoned node", "%s on %s", pod.Name, name)
		case !selects(pod, node):
			o.fault("a pod on a node that it does not select", "%s on %s", pod.Name, name)
		case o.usedOf(name)+cpuOf(pod) > cpuOfNode(node):
			o.fault("a node over its capacity", "%s has %d of %d, and is given %s with %d", name, o.usedOf(name), cpuOfNode(node), pod.Name, cpuOf(pod))
		}
	}
	for _, path := range paths(pod) {
		if most := o.max(path); most >= 0 && !o.unaware(path, pod) && o.usedBy(path)+cpuOf(pod) > most {
			o.fault("a queue over its maximum", "%s has %d of %d, and is given %s with %d", path, o.usedBy(path), most, pod.Name, cpuOf(pod))
		}
		if most := o.queues[path].user; most > 0 && !o.unaware(path, pod) && o.usedFor(path, o.userOf(pod))+cpuOf(pod) > most {
			o.fault("a user over the limit", "%s has %d of %d in %s, and is given %s with %d", o.userOf(pod), o.usedFor(path, o.userOf(pod)), most, path, pod.Name, cpuOf(pod))
		}
	}
	g := o.gangs[pod.Labels[labelApp]]
	switch {
	case g == nil:
	case held(pod):
		g.held[pod.UID], g.timed = true, true
	case !g.started:
		places := len(g.held)
		for _, at := range g.lost {
			if o.at.Sub(at) < oracleGracePeriod {
				places++
			}
		}
		if g.hard && places < g.members {
			o.fault("half a gang", "%s of %s runs, and %d of %d places were held", pod.Name, pod.Labels[labelApp], places, g.members)
		}
		g.started = true
	}
}

// evicted is told of a pod that a replica deletes while it runs.
func (o *oracle) evicted(victim *v1.Pod) {
	if !o.owes(victim) {
		o.fault("a running pod is deleted", "%s of %s on %s", victim.Name, queueOf(victim), victim.Spec.NodeName)
	}
}

// owes reports whether a pod waits in a queue that has less than it has coming, while the queue
// of this one has more.
func (o *oracle) owes(victim *v1.Pod) bool {
	from := queueOf(victim)
	return slices.ContainsFunc(o.waiting(), func(pod *v1.Pod) bool {
		to := queueOf(pod)
		return to != from && o.usedBy(to) < o.queues[to].guaranteed && o.usedBy(from) > o.queues[from].guaranteed && priority(pod) >= priority(victim)
	})
}

// givenUp is told of a placeholder that a replica deletes. There is one for each pod of its
// gang, unless nobody is left who needs it, its time is up, a place was lost, or it has to make
// room.
func (o *oracle) givenUp(pod *v1.Pod) {
	app := pod.Labels[labelApp]
	g := o.gangs[app]
	if g == nil {
		return
	}
	g.spent++
	needed, calm := false, true
	for _, other := range o.pods {
		needed = needed || other.Labels[labelApp] == app && !held(other) && !over(other)
	}
	for _, at := range o.narrowed {
		calm = calm && at.Before(g.asked)
	}
	if needed && calm && g.spent > g.came && o.at.Sub(g.asked) < g.patience && !o.owes(pod) {
		o.fault("a place is given up for nobody", "%s of %s: %d have been, for %d pods", pod.Name, app, g.spent, g.came)
	}
}

// unfinished returns what must not stay as it is now.
func (o *oracle) unfinished() []string {
	var all []string
	waiting := o.waiting()
	for _, name := range slices.Sorted(maps.Keys(o.pods)) {
		pod := o.pods[name]
		g := o.gangs[pod.Labels[labelApp]]
		switch {
		case !ours(pod) || over(pod):
		case held(pod) && (g == nil || g.timed):
			all = append(all, fmt.Sprintf("a placeholder is left: %s on %q", name, pod.Spec.NodeName))
		case pod.Spec.NodeName == "" && (held(pod) || !o.holds(g)):
			if why := o.neglected(pod, waiting); why != "" {
				all = append(all, "a pod waits for nothing: "+why)
			}
		}
	}
	return all
}

// holds reports whether a gang waits for its first place.
func (o *oracle) holds(g *gangSeen) bool {
	return g != nil && !g.timed && slices.ContainsFunc(o.waiting(), func(p *v1.Pod) bool { return held(p) && o.gangs[p.Labels[labelApp]] == g })
}

// neglected says where a waiting pod could be, empty if it waits for a reason. A pod that
// fits nowhere now may have a node kept for it, on which nothing else is placed meanwhile:
// each other pod that waits is taken to block a node.
func (o *oracle) neglected(pod *v1.Pod, waiting []*v1.Pod) string {
	if !o.admits(pod) {
		return ""
	}
	blocked := 0
	for _, other := range waiting {
		if other != pod && o.admits(other) && (held(other) || !o.holds(o.gangs[other.Labels[labelApp]])) {
			blocked++
		}
	}
	var fits []string
	for _, name := range slices.Sorted(maps.Keys(o.nodes)) {
		node := o.nodes[name]
		if !node.Spec.Unschedulable && selects(pod, node) && o.usedOf(name)+cpuOf(pod) <= cpuOfNode(node) {
			fits = append(fits, name)
		}
	}
	if len(fits) <= blocked {
		return ""
	}
	return fmt.Sprintf("%s of %s with %d fits %v, and %d others wait", pod.Name, queueOf(pod), cpuOf(pod), fits, blocked)
}

// admits reports whether the queues of a pod have room for it.
func (o *oracle) admits(pod *v1.Pod) bool {
	for _, path := range paths(pod) {
		if most := o.max(path); most >= 0 && o.usedBy(path)+cpuOf(pod) > most {
			return false
		}
		if most := o.queues[path].user; most > 0 && o.usedFor(path, o.userOf(pod))+cpuOf(pod) > most {
			return false
		}
	}
	return true
}

// waiting returns the pods of ours that have no node, in the order of their names.
func (o *oracle) waiting() []*v1.Pod {
	var all []*v1.Pod
	for _, pod := range o.pods {
		if ours(pod) && !over(pod) && pod.Spec.NodeName == "" {
			all = append(all, pod)
		}
	}
	slices.SortFunc(all, func(a, b *v1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (o *oracle) max(path string) int64 {
	if q, ok := o.queues[path]; ok {
		return q.max
	}
	return -1
}

// usedOf is what the pods on a node have of it.
func (o *oracle) usedOf(node string) (used int64) {
	for _, pod := range o.pods {
		if occupies(pod) && pod.Spec.NodeName == node {
			used += cpuOf(pod)
		}
	}
	return used
}

// usedBy is what the pods of a queue, and of those below it, have.
func (o *oracle) usedBy(path string) (used int64) { return o.usedFor(path, "") }

// userOf is the user of a pod. A placeholder does not say whose it is: it is of its application's.
func (o *oracle) userOf(pod *v1.Pod) string {
	if held(pod) {
		return o.users[pod.Labels[labelApp]]
	}
	return pod.Annotations[noteUser]
}

// usedFor is what those of one user have there, or of all.
func (o *oracle) usedFor(path, user string) (used int64) {
	for _, pod := range o.pods {
		if ours(pod) && occupies(pod) && slices.Contains(paths(pod), path) && (user == "" || o.userOf(pod) == user) {
			used += cpuOf(pod)
		}
	}
	return used
}

func ours(pod *v1.Pod) bool { return pod.Spec.SchedulerName == oracleScheduler }
func held(pod *v1.Pod) bool { return pod.Annotations[notePlaceholder] == "true" }
func over(pod *v1.Pod) bool {
	return pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
}
func occupies(pod *v1.Pod) bool  { return pod.Spec.NodeName != "" && !over(pod) }
func queueOf(pod *v1.Pod) string { return pod.Labels[labelQueue] }
func cpuOfNode(n *v1.Node) int64 { return n.Status.Allocatable.Cpu().MilliValue() }
func priority(pod *v1.Pod) (p int32) {
	if pod.Spec.Priority != nil {
		p = *pod.Spec.Priority
	}
	return p
}

func cpuOf(pod *v1.Pod) (cpu int64) {
	for i := range pod.Spec.Containers {
		cpu += pod.Spec.Containers[i].Resources.Requests.Cpu().MilliValue()
	}
	return cpu
}

func selects(pod *v1.Pod, node *v1.Node) bool {
	for key, value := range pod.Spec.NodeSelector {
		if node.Labels[key] != value {
			return false
		}
	}
	return !slices.ContainsFunc(node.Spec.Taints, func(taint v1.Taint) bool {
		return !slices.ContainsFunc(pod.Spec.Tolerations, func(t v1.Toleration) bool { return t.Key == taint.Key })
	})
}

// paths are a pod's queue and those above it.
func paths(pod *v1.Pod) []string {
	var all []string
	for path := queueOf(pod); path != ""; {
		all = append(all, path)
		i := strings.LastIndexByte(path, '.')
		path = path[:max(i, 0)]
	}
	return all
}
