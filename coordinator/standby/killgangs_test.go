package standby

import (
	"encoding/json"
	"maps"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// gangScripts are the lives of gangs: with placeholders, as YuniKorn has them, and crews.
var gangScripts = map[string][]state{
	"gang is complete": {
		{"no room", noRoom},
		{"created", gang("Soft", "a", "b")},
		{"one placeholder fits", roomFor(1)},
		{"all fit", room},
		{"running", run("a", "b")},
		{"one more", gang("Soft", "c")},
		{"one has ended", ends("a")},
		{"one has failed", crash("b")},
		{"one is deleted", gone("c")},
		{"all are gone", gone("a", "b")},
		{"it has completed", nil},
	},
	"gang Soft is not complete in time": {
		{"no room", noRoom},
		{"created", gang("Soft", "a", "b")},
		{"one placeholder fits", roomFor(1)},
		{"its time is up", nil},
		{"room", room},
		{"running", run("a", "b")},
		{"all have ended", ends("a", "b")},
		{"all are gone", gone("a", "b")},
		{"it has completed", nil},
	},
	"gang Hard is not complete in time": {
		{"no room", noRoom},
		{"created", gang("Hard", "a", "b")},
		{"one placeholder fits", roomFor(1)},
		{"its time is up", nil},
		{"all are gone", gone("a", "b")},
		{"begun anew", gang("Hard", "c", "d")},
		{"room", room},
		{"running", run("c", "d")},
		{"all have ended", ends("c", "d")},
	},
	"gang Soft is shed slowly": shed("Soft", ledger.AppStateResuming,
		state{"room", room},
		state{"running", run("a", "b")},
		state{"Running", in(ledger.AppStateRunning)},
		state{"all have ended", ends("a", "b")},
		state{"all are gone", gone("a", "b")},
		state{"it has completed", nil},
	),
	"gang Hard is shed slowly": shed("Hard", ledger.AppStateFailing,
		state{"all are gone", gone("a", "b")},
		state{"it has failed", nil},
		state{"Failed", in(ledger.AppStateFailed)},
	),
	"gang Soft is replaced in time":                replaced("Soft", false),
	"gang Hard is replaced in time":                replaced("Hard", false),
	"gang Soft is replaced in part only":           replaced("Soft", true),
	"gang Hard is replaced in part only":           replaced("Hard", true),
	"gang Soft fills the cluster":                  filling("Soft"),
	"gang Hard fills the cluster":                  filling("Hard"),
	"what YuniKorn leaves is taken over":           migrated(true),
	"what YuniKorn leaves before anything is held": migrated(false),
	"gang is deleted while it waits": {
		{"no room", noRoom},
		{"created", gang("Hard", "a", "b")},
		{"one placeholder fits", roomFor(1)},
		{"one is deleted", gone("b")},
		{"all are deleted", gone("a")},
		{"begun anew", gang("Hard", "c", "d")},
		{"room", room},
		{"running", run("c", "d")},
	},
	"application is a gang": {
		{"no room", noRoom},
		{"created", func(w *killWorld) {
			w.create(v1alpha1.Resource(), "report", fields{"spec": fields{
				"queue":            "root.default",
				"taskGroups":       []any{fields{"name": "all", "minMember": int64(2)}},
				"schedulingPolicy": fields{"parameters": fields{"gangSchedulingStyle": "Hard"}},
			}})
		}},
		{"pods wait", func(w *killWorld) {
			for _, name := range []string{"one", "two"} {
				w.pod(name, map[string]string{workload.KeyAppID: "ns-report"}, inGang)
			}
		}},
		{"one placeholder fits", roomFor(1)},
		{"all fit", room},
		{"running", run("one", "two")},
		{"all have ended", ends("one", "two")},
		{"pods are gone", gone("one", "two")},
		{"it has completed", nil},
	},
	"rayjob is a gang and tried again": {
		{"created", func(w *killWorld) {
			job := rayJob()
			job["metadata"] = fields{"labels": fields{"ray.io/gang-scheduling-enabled": "true"}}
			w.create(rayJobs, "train", job)
		}},
		{"Initializing", func(w *killWorld) { rayCluster(w); rayState("Initializing")(w) }},
		{"pods", rayPods},
		{"running", func(w *killWorld) { run("head", "worker")(w); rayState("Running")(w) }},
		{"head has failed", crash("head")},
		{"Retrying", rayState("Retrying")},
		{"pods are gone", gone("head", "worker")},
		{"next pods", func(w *killWorld) {
			w.pod("head-2", map[string]string{}, owned("RayCluster", "train-c", map[string]string{"ray.io/group": "headgroup"}))
		}},
		{"running again", run("head-2")},
		{"failed", rayState("Failed")},
		{"deleted while its head runs", deleted(rayJobs, "train")},
		{"head is gone", gone("head-2")},
	},
	"crew is bound whole": {
		{"no room", noRoom},
		{"created", crewOf(2)},
		{"one waits", mate("a")},
		{"two wait", mate("b")},
		{"one fits", roomFor(1)},
		{"its time is up", nil},
		{"room", room},
		{"it is tried again", nil},
		{"running", run("a", "b")},
		{"no room for more", noRoom},
		{"one is gone", gone("a")},
		{"another takes its place", mate("c")},
		{"which fits alone", room},
		{"and runs", run("c")},
		{"all have ended", ends("b", "c")},
		{"pods are gone", gone("b", "c")},
		{"it has completed", nil},
		{"deleted", deleted(podGroups, "crew")},
	},
	"crew comes before its PodGroup": {
		{"pods wait", func(w *killWorld) { mate("a")(w); mate("b")(w) }},
		{"created", crewOf(2)},
		{"running", run("a", "b")},
		{"PodGroup is deleted", deleted(podGroups, "crew")},
		{"one has ended", ends("a")},
		{"all are gone", gone("a", "b")},
	},
	"crew is deleted while it waits": {
		{"created", crewOf(3)},
		{"pods wait", func(w *killWorld) { mate("a")(w); mate("b")(w) }},
		{"PodGroup is deleted", deleted(podGroups, "crew")},
		{"pods are gone", gone("a", "b")},
		{"it has completed", nil},
	},
}

// shed is the life of a gang that is not complete in time, and whose placeholders cannot be
// deleted for a while, so that it stays in a stage.
func shed(style string, stage ledger.AppState, rest ...state) []state {
	return append([]state{
		{"no room", noRoom},
		{"created", gang(style, "a", "b")},
		{"one placeholder fits", roomFor(1)},
		{"Reserving", in(ledger.AppStateReserving)},
		{"nothing can be deleted", func(w *killWorld) { w.stuck.Store(true) }},
		{"its time is up", nil},
		{string(stage), in(stage)},
		{"it can be deleted", func(w *killWorld) { w.stuck.Store(false) }},
		{"placeholders are gone", nil},
	}, rest...)
}

// replaced is the life of a gang of which one member comes later than the other: in time, or
// when its placeholder is gone.
func replaced(style string, late bool) []state {
	script := []state{
		{"created", gang(style, "a")},
		{"running", run("a")},
		{"Running", in(ledger.AppStateRunning)},
	}
	if late {
		script = append(script, state{"its time is up", nil})
	}
	return append(script,
		state{"the other comes", gang(style, "b")},
		state{"it runs too", run("b")},
		state{"Running still", in(ledger.AppStateRunning)},
		state{"all have ended", ends("a", "b")},
		state{"all are gone", gone("a", "b")},
		state{"it has completed", nil},
	)
}

// filling is the life of a gang for which there is room just so. Who waits for a place beside it
// gets one that is given up for nobody.
func filling(style string) []state {
	return []state{
		{"no room", noRoom},
		{"created", gang(style, "a")},
		{"somebody else waits", func(w *killWorld) { w.pod("waits", map[string]string{workload.LabelOldAppID: "other"}, nil) }},
		{"all fit", roomFor(2)},
		{"running", run("a")},
		{"nothing can be deleted", func(w *killWorld) { w.stuck.Store(true) }},
		{"the other comes", gang(style, "b")},
		{"it can be deleted", func(w *killWorld) { w.stuck.Store(false) }},
		{"placeholder is gone", nil},
		{"it runs too", run("b")},
		{"one has ended", ends("a")},
		{"who waited runs", run("waits")},
		{"all have ended", ends("b", "waits")},
		{"all are gone", gone("a", "b", "waits")},
		{"both have completed", nil},
	}
}

// in checks that the gang is in a stage, so that who dies before or after dies in it.
func in(stage ledger.AppState) func(*killWorld) {
	return func(w *killWorld) {
		w.mu.Lock()
		defer w.mu.Unlock()
		key := ledger.Key{AppID: "gang"}
		if app := decoded(w.t, key, w.etcd[key]).App; app == nil || app.State != stage {
			w.t.Errorf("the gang is not %s: %+v", stage, app)
		}
	}
}

func roomFor(pods int64) func(*killWorld) { return func(w *killWorld) { w.room(pods) } }

// inGang makes a pod one of the gang all.
func inGang(p *v1.Pod) { p.Annotations[workload.AnnotationTaskGroupName] = "all" }

// gang creates pods of a gang of two.
func gang(style string, names ...string) func(*killWorld) {
	groups, err := json.Marshal([]v1alpha1.TaskGroup{{Name: "all", MinMember: 2}})
	if err != nil {
		panic(err)
	}
	return func(w *killWorld) {
		for _, name := range names {
			w.pod(name, map[string]string{workload.LabelOldAppID: "gang"}, func(p *v1.Pod) {
				inGang(p)
				maps.Copy(p.Annotations, map[string]string{
					workload.AnnotationTaskGroups: string(groups),
					workload.AnnotationPolicy:     "placeholderTimeoutInSeconds=60 gangSchedulingStyle=" + style,
				})
			})
		}
	}
}

func crewOf(wanted int64) func(*killWorld) {
	return func(w *killWorld) {
		w.create(podGroups, "crew", fields{"spec": fields{"schedulingPolicy": fields{"gang": fields{"minCount": wanted}}}})
	}
}

// mate creates a pod of the crew.
func mate(name string) func(*killWorld) {
	return func(w *killWorld) {
		w.pod(name, map[string]string{}, func(p *v1.Pod) {
			of := "crew"
			p.Spec.SchedulingGroup = &v1.PodSchedulingGroup{PodGroupName: &of}
		})
	}
}
