package migrate

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/understudy-ha/understudy/coordinator/workload"
)

// pods counts pods by state, and finds those that are read in another way here.
func (x *check) pods() {
	var running, bound, waiting int
	apps := make(map[string]bool)
	for _, p := range x.live() {
		apps[workload.AppID(p)] = true
		switch {
		case p.Spec.NodeName == "":
			waiting++
		case p.Status.Phase == v1.PodRunning:
			running++
		default:
			bound++
		}
		x.identity(p)
		if _, problems := workload.ParseTask(p); len(problems) > 0 {
			x.unread(podName(p), problems)
		}
		if _, problems := workload.ParseApplication(p, nil, x.cfg.Workload.UserLabel); len(problems) > 0 {
			x.unread(podName(p), problems)
		}
	}
	if len(apps) > 0 {
		x.add(Note, Pods, "schedulerName "+workload.DefaultSchedulerName, "", "%s of %s: %d run, %d are bound, %d wait",
			counted(running+bound+waiting, "pod"), counted(len(apps), "application"), running, bound, waiting)
	}
}

// identity looks at what a pod says of its application and queue. YuniKorn refuses a pod that
// contradicts itself, in the versions that look at all of it.
func (x *check) identity(p *v1.Pod) {
	ids := values(p.Labels[workload.KeyAppID], p.Annotations[workload.KeyAppID], p.Labels[workload.LabelOldAppID], p.Labels[workload.LabelSparkAppID])
	queues := values(p.Labels[workload.KeyQueue], p.Annotations[workload.KeyQueue], p.Labels[workload.LabelOldQueue])
	for _, said := range []struct {
		what   string
		values []string
	}{{"applications", ids}, {"queues", queues}} {
		if len(said.values) > 1 {
			x.add(Differs, SeveralIDs, podName(p), "have it name one", "names several %s, %s: here the first counts", said.what, strings.Join(said.values, ", "))
		}
	}
	// YuniKorn cuts the ID that it makes for a namespace to what a label takes.
	if id := workload.AppID(p); len(ids) == 0 && len(id) > validation.LabelValueMaxLength {
		x.add(Differs, GeneratedID, "namespace "+p.Namespace, "", "the pods that name no application are %s here, which YuniKorn cuts to 63 characters", id)
	}
}

// values are those that are set, each once, in order.
func values(all ...string) (set []string) {
	for _, value := range all {
		if value = strings.TrimSpace(value); value != "" && !slices.Contains(set, value) {
			set = append(set, value)
		}
	}
	return set
}

func (x *check) unread(object string, problems []workload.Problem) {
	for _, p := range problems {
		f := Finding{Severity: Differs, Kind: AnnotationUnread, Object: object, Message: p.Key + ": " + p.Message, Do: "write it as docs/configuration.md and YuniKorn's own pages have it"}
		if !slices.Contains(x.found, f) {
			x.found = append(x.found, f)
		}
	}
}

// annotations looks at what namespaces and PriorityClasses say.
func (x *check) annotations() {
	for _, ns := range x.Namespaces {
		_, problems := workload.ParseApplication(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name}}, ns, x.cfg.Workload.UserLabel)
		x.unread("namespace "+ns.Name, problems)
	}
	for _, class := range x.Classes {
		value, there := class.Annotations[workload.AnnotationAllowPreemption]
		if _, err := strconv.ParseBool(value); there && err != nil {
			x.unread("priorityclass "+class.Name, []workload.Problem{{
				Key: workload.AnnotationAllowPreemption, Message: fmt.Sprintf("%q is neither true nor false, and counts as not said", value),
			}})
		}
	}
}

// gang is what there is of an application with placeholders or task groups.
type gang struct {
	id string
	// placeholders and real pods, those of them that have a node first.
	placeholders, placeholdersBound, real, realBound int
	wanted                                           int64
	// owners are the UIDs of pods that own placeholders, by name.
	owners map[string]string
	// texts are the different declarations of task groups.
	texts map[string]bool
}

// gangs looks at applications that reserve or have reserved.
func (x *check) gangs() {
	all, uids := make(map[string]*gang), make(map[string]bool)
	for _, p := range x.Pods {
		uids[string(p.UID)] = true
	}
	for _, p := range x.live() {
		task, _ := workload.ParseTask(p)
		app, _ := workload.ParseApplication(p, nil, x.cfg.Workload.UserLabel)
		g := all[app.ApplicationID]
		if g == nil {
			g = &gang{id: app.ApplicationID, owners: make(map[string]string), texts: make(map[string]bool)}
			all[app.ApplicationID] = g
		}
		g.take(p, task.Placeholder)
		if text := p.Annotations[workload.AnnotationTaskGroups]; text != "" {
			g.texts[text] = true
			g.wanted = 0
			for i := range app.TaskGroups {
				g.wanted += int64(app.TaskGroups[i].MinMember)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		x.gang(all[id], uids)
	}
}

// take counts a pod.
func (g *gang) take(p *v1.Pod, placeholder bool) {
	bound := 0
	if p.Spec.NodeName != "" {
		bound = 1
	}
	if !placeholder {
		g.real++
		g.realBound += bound
		return
	}
	g.placeholders++
	g.placeholdersBound += bound
	for _, owner := range p.OwnerReferences {
		if owner.Kind == "Pod" {
			g.owners[owner.Name] = string(owner.UID)
		}
	}
}

func (x *check) gang(g *gang, uids map[string]bool) {
	object := "application " + g.id
	if len(g.texts) > 1 {
		x.add(Differs, TaskGroupsDiffer, object, "", "has pods with %d different declarations of task groups; that of its originator counts", len(g.texts))
	}
	for _, name := range slices.Sorted(maps.Keys(g.owners)) {
		if !uids[g.owners[name]] {
			x.add(Differs, GangOriginatorGone, object, "delete its placeholders if it is not to go on",
				"has placeholders of the pod %s, which is gone: the garbage collector deletes them, whoever schedules", name)
		}
	}
	switch {
	case g.placeholders > 0 && g.real == 0:
		x.add(Differs, GangOrphans, object, "delete them if no pod is to come", "has %s and no other pod: they are deleted when their time is up, which begins anew", counted(g.placeholders, "placeholder"))
	case g.placeholders > 0 && g.realBound == 0:
		x.add(Note, GangReserving, object, "", "reserves: %d of %d placeholders have a node; they are taken over, and their time begins anew. YuniKorn, restarted, would run half a gang", g.placeholdersBound, max(g.wanted, int64(g.placeholders)))
	case g.placeholders > 0:
		x.add(Note, GangRunning, object, "", "runs %s, and %s for more; they are taken over", counted(g.realBound, "pod"), counted(g.placeholders, "placeholder"))
	case g.wanted > 0 && g.realBound == 0:
		x.add(Note, GangPending, object, "", "is a gang of %d without placeholders yet: they are made when somebody leads", g.wanted)
	}
}
