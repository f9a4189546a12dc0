package standby

import (
	"maps"
	"testing"
	"testing/synctest"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/managers/application"
	"github.com/understudy-ha/understudy/coordinator/managers/general"
	"github.com/understudy-ha/understudy/coordinator/managers/podgroup"
	"github.com/understudy-ha/understudy/coordinator/managers/spark"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// neighbours are managers whose objects make each other, or the same pods.
var neighbours = []managers.Entry{
	{Name: podgroup.Type}, {Name: application.Type}, {Name: spark.Type}, presetEntry("workflow"), presetEntry("jobset"),
	presetEntry("rayjob"), presetEntry("raycluster"), presetEntry("job"), {Name: general.Name},
}

// templated is the spec of a Job whose pods have labels, and more in their spec.
func templated(labels, spec fields) fields {
	all := fields{"schedulerName": workload.DefaultSchedulerName}
	maps.Copy(all, spec)
	return fields{"template": fields{"metadata": fields{"labels": labels}, "spec": all}}
}

// TestNeighbours: where several managers know an object's pods, one application has them,
// and none begins without pods. The value is how many tasks each application has.
func TestNeighbours(t *testing.T) {
	inCrew := func(p *v1.Pod) {
		of := "crew"
		p.Spec.SchedulingGroup = &v1.PodSchedulingGroup{PodGroupName: &of}
	}
	jobOf := func(labels, spec fields) func(*killWorld) {
		return func(w *killWorld) { w.create(jobs, "sums", fields{"spec": templated(labels, spec)}) }
	}
	for name, c := range map[string]struct {
		do   []func(*killWorld)
		want map[string]int
	}{
		"Job": {[]func(*killWorld){jobOf(nil, nil), jobPods}, map[string]int{"job-ns-sums-sums": 2}},
		"Job of an Application": {[]func(*killWorld){
			func(w *killWorld) { w.create(v1alpha1.Resource(), "report", fields{"spec": fields{}}) },
			jobOf(fields{workload.KeyAppID: "ns-report"}, nil),
			func(w *killWorld) {
				w.pod("sums-1", map[string]string{}, owned("Job", "sums", map[string]string{workload.KeyAppID: "ns-report"}))
			},
		}, map[string]int{"ns-report": 1}},
		"Job of a PodGroup": {[]func(*killWorld){
			crewOf(1), jobOf(nil, fields{"schedulingGroup": fields{"podGroupName": "crew"}}),
			func(w *killWorld) {
				w.pod("sums-1", map[string]string{}, func(p *v1.Pod) { owned("Job", "sums", nil)(p); inCrew(p) })
			},
		}, map[string]int{"podgroup-ns.crew": 1}},
		"Job with pods of the Spark operator": {[]func(*killWorld){
			jobOf(fields{"sparkoperator.k8s.io/app-name": "pi"}, nil),
			func(w *killWorld) { w.create(sparks, "pi", fields{"spec": fields{}}) },
			func(w *killWorld) {
				w.pod("sums-1", map[string]string{}, owned("Job", "sums", map[string]string{
					"sparkoperator.k8s.io/app-name": "pi", "spark-role": "driver", workload.LabelSparkAppID: "spark-1",
				}))
			},
			sparkState("RUNNING", "spark-1"),
		}, map[string]int{"spark-1": 1}},
		"SparkApplication": {[]func(*killWorld){
			func(w *killWorld) { w.create(sparks, "pi", fields{"spec": fields{}}) },
			sparkPod("driver-1", "driver", "spark-1"), sparkState("RUNNING", "spark-1"), sparkPod("x-1", "executor", "spark-1"),
		}, map[string]int{"spark-1": 2}},
		"JobSet": {[]func(*killWorld){
			func(w *killWorld) {
				w.create(jobSets, "set", fields{
					"metadata": fields{"annotations": fields{"understudy.dev/gang": "false"}},
					"spec":     fields{"replicatedJobs": []any{fields{"name": "all", "template": fields{"spec": templated(nil, nil)}}}},
				})
			},
			func(w *killWorld) {
				w.create(jobs, "sums", fields{"spec": templated(nil, nil)}, controlledBy("JobSet", "set"))
			},
			func(w *killWorld) {
				for _, name := range []string{"sums-1", "sums-2"} {
					w.pod(name, map[string]string{}, owned("Job", "sums", map[string]string{"jobset.sigs.k8s.io/jobset-name": "set"}))
				}
			},
		}, map[string]int{"jobset-ns-set-set": 2}},
		"RayJob": {[]func(*killWorld){
			rayCreated, rayCluster, rayPods,
			func(w *killWorld) {
				w.create(jobs, "sums", fields{"spec": templated(nil, nil)}, controlledBy("RayJob", "train"))
			},
			func(w *killWorld) { w.pod("submitter", map[string]string{}, owned("Job", "sums", nil)) },
		}, map[string]int{"rayjob-ns-train-train": 3}},
		"RayCluster": {[]func(*killWorld){
			func(w *killWorld) {
				template := fields{"spec": fields{"schedulerName": workload.DefaultSchedulerName}}
				w.create(rayClusters, "train-c", fields{"spec": fields{"headGroupSpec": fields{"template": template}}})
			},
			rayPods,
		}, map[string]int{"raycluster-ns-train-c-train": 2}},
		"Workflow": {[]func(*killWorld){
			func(w *killWorld) {
				w.create(workflows, "flow", fields{"spec": fields{"schedulerName": workload.DefaultSchedulerName}})
			},
			func(w *killWorld) { w.pod("step", map[string]string{"workflows.argoproj.io/workflow": "flow"}, nil) },
			// A step that makes a Job has no say over the labels of its pods.
			func(w *killWorld) {
				w.create(jobs, "sums", fields{"spec": templated(nil, nil)}, controlledBy("Workflow", "flow"))
			},
			jobPods,
		}, map[string]int{"workflow-ns-flow-flow": 1, "yunikorn-ns-autogen": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newKillWorld(t, neighbours)
				for _, do := range c.do {
					do(w)
					w.settle()
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				got := make(map[string]int)
				for key := range w.etcd {
					if got[key.AppID] += 0; key.TaskID != "" {
						got[key.AppID]++
					}
				}
				if !maps.Equal(got, c.want) {
					t.Errorf("applications have tasks %v, want %v", got, c.want)
				}
			})
		})
	}
}
