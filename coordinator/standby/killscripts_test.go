package standby

import (
	"maps"
	"time"

	"go.yaml.in/yaml/v3"
	v1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/managers/application"
	"github.com/understudy-ha/understudy/coordinator/managers/custom"
	"github.com/understudy-ha/understudy/coordinator/managers/general"
	"github.com/understudy-ha/understudy/coordinator/managers/podgroup"
	"github.com/understudy-ha/understudy/coordinator/managers/spark"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// Every shipped manager is enabled in all scripts, so that each has to keep its hands off
// what is another's.
var (
	killRegistry = managers.Registry{
		general.Name: general.New, application.Type: application.New, spark.Type: spark.New, custom.Type: custom.New,
		podgroup.Type: podgroup.New,
	}
	killManagers = []managers.Entry{
		{Name: podgroup.Type}, {Name: application.Type}, {Name: spark.Type}, presetEntry("job"), presetEntry("rayjob"), {Name: general.Name},
	}

	sparks      = schema.GroupVersionResource{Group: "sparkoperator.k8s.io", Version: "v1beta2", Resource: "sparkapplications"}
	jobs        = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
	rayJobs     = schema.GroupVersionResource{Group: "ray.io", Version: "v1", Resource: "rayjobs"}
	rayClusters = schema.GroupVersionResource{Group: "ray.io", Version: "v1", Resource: "rayclusters"}
	podGroups   = schedulingv1beta1.SchemeGroupVersion.WithResource("podgroups")
	jobSets     = schema.GroupVersionResource{Group: "jobset.x-k8s.io", Version: "v1alpha2", Resource: "jobsets"}
	workflows   = schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "workflows"}
	killKinds   = map[schema.GroupVersionResource]string{
		podGroups: "PodGroup", v1alpha1.Resource(): "Application", sparks: "SparkApplication", jobs: "Job",
		rayJobs: "RayJob", rayClusters: "RayCluster", jobSets: "JobSet", workflows: "Workflow",
	}
)

func presetEntry(name string) managers.Entry {
	return managers.Entry{Name: name, Type: custom.Type, Settings: func(into any) error {
		return yaml.Unmarshal([]byte("preset: "+name), into)
	}}
}

type fields = map[string]any

// state is one step of a script: what brings everything into the state, nil for time.
type state struct {
	name string
	do   func(w *killWorld)
}

// atFirst is the name of a first step that is done before there is any replica.
const atFirst = "at first"

// later waits until what completes by itself has done so, whoever leads.
func (w *killWorld) later() {
	for range 3 * completing / stateLasts {
		w.settle()
	}
}

// create creates an object whose UID is its name.
func (w *killWorld) create(gvr schema.GroupVersionResource, name string, content fields, owners ...metav1.OwnerReference) {
	w.t.Helper()
	object := &unstructured.Unstructured{Object: fields{"apiVersion": gvr.GroupVersion().String(), "kind": killKinds[gvr]}}
	maps.Copy(object.Object, content)
	object.SetNamespace("ns")
	object.SetName(name)
	object.SetUID(types.UID(name))
	object.SetOwnerReferences(owners)
	w.Create(w.t, gvr, object)
}

// set sets the top-level field of an object, such as its status.
func (w *killWorld) set(gvr schema.GroupVersionResource, name, field string, value fields) {
	w.t.Helper()
	w.Change(w.t, gvr, "ns", name, func(o *unstructured.Unstructured) { o.Object[field] = value })
}

func controlledBy(kind, name string) metav1.OwnerReference {
	yes := true
	for gvr, k := range killKinds {
		if k == kind {
			return metav1.OwnerReference{
				APIVersion: gvr.GroupVersion().String(), Kind: kind, Name: name, UID: types.UID(name), Controller: &yes,
			}
		}
	}
	panic(kind)
}

func owned(kind, name string, labels map[string]string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{controlledBy(kind, name)}
		maps.Copy(p.Labels, labels)
	}
}

// Steps that scripts share.
func room(w *killWorld)   { w.room(manyPods) }
func noRoom(w *killWorld) { w.room(0) }

// manyPods are more than any script has.
const manyPods = 1000

func run(names ...string) func(*killWorld) {
	return func(w *killWorld) { w.pods(v1.PodRunning, names...) }
}
func ends(names ...string) func(*killWorld) {
	return func(w *killWorld) { w.pods(v1.PodSucceeded, names...) }
}
func crash(names ...string) func(*killWorld) {
	return func(w *killWorld) { w.pods(v1.PodFailed, names...) }
}
func gone(names ...string) func(*killWorld) { return func(w *killWorld) { w.deletePods(names...) } }

func deleted(gvr schema.GroupVersionResource, name string) func(*killWorld) {
	return func(w *killWorld) { w.Delete(w.t, gvr, "ns", name) }
}

// scripts are the lives of objects of all managers; gangScripts has those of gangs.
var scripts = map[string][]state{
	"general": {
		{"no room", noRoom},
		{"created", func(w *killWorld) {
			for _, name := range []string{"a", "b", "c"} {
				w.pod(name, map[string]string{workload.LabelOldAppID: "plain"}, nil)
			}
		}},
		{"bound", room},
		{"running", run("a", "b", "c")},
		{"one has ended", ends("a")},
		{"one has failed", crash("b")},
		{"one is deleted", gone("c")},
		{"all are gone", gone("a", "b")},
		{"it has completed", nil},
		{"begun anew", func(w *killWorld) { w.pod("d", map[string]string{workload.LabelOldAppID: "plain"}, nil) }},
		{"ended again", ends("d")},
	},
	"general bad annotation": {
		{"created", func(w *killWorld) {
			w.pod("bad", map[string]string{workload.LabelOldAppID: "bad"}, func(p *v1.Pod) {
				p.Annotations[workload.AnnotationTaskGroups] = "no JSON"
			})
		}},
		{"running", run("bad")},
	},
	"application completes": {
		{"no room", noRoom},
		{"created", func(w *killWorld) {
			w.create(v1alpha1.Resource(), "report", fields{"spec": fields{"queue": "root.default"}})
		}},
		{"pods wait", applicationPods},
		{"bound", room},
		{"running", run("one", "two")},
		{"one has ended", ends("one")},
		{"all have ended", ends("two")},
		{"pods are gone", gone("one", "two")},
		{"it has completed", nil},
		{"deleted", deleted(v1alpha1.Resource(), "report")},
	},
	"application fails": {
		{"created", func(w *killWorld) {
			w.create(v1alpha1.Resource(), "report", fields{"spec": fields{"queue": "root.default"}})
		}},
		{"pods", applicationPods},
		{"running", run("one", "two")},
		{"no room", noRoom},
		{"one more waits", func(w *killWorld) { w.pod("three", map[string]string{workload.KeyAppID: "ns-report"}, nil) }},
		{"deleted with pods", deleted(v1alpha1.Resource(), "report")},
		{"one has failed", crash("one")},
		{"all have ended", ends("two")},
		{"pods are gone", gone("one", "two", "three")},
	},
	"application without pods": {
		{"created", func(w *killWorld) { w.create(v1alpha1.Resource(), "report", fields{"spec": fields{}}) }},
		{"it has completed", nil},
		{"pods all the same", applicationPods},
		{"running", run("one", "two")},
	},
	"application deleted without pods": {
		{"created", func(w *killWorld) { w.create(v1alpha1.Resource(), "idle", fields{"spec": fields{}}) }},
		{"deleted", deleted(v1alpha1.Resource(), "idle")},
	},
	"application bad spec": {
		{"created", func(w *killWorld) {
			w.create(v1alpha1.Resource(), "report", fields{"spec": fields{"queue": int64(7)}})
		}},
		{"pods", applicationPods},
		{"changed", func(w *killWorld) {
			w.set(v1alpha1.Resource(), "report", "spec", fields{"queue": "root.default", "schedulingPolicy": "Hard"})
		}},
		{"running", run("one", "two")},
	},
	"spark completes": {
		{"no room", noRoom},
		{"created", func(w *killWorld) { w.create(sparks, "pi", fields{"spec": fields{}}) }},
		{"driver waits", sparkPod("driver-1", "driver", "spark-1")},
		{"SUBMITTED", sparkState("SUBMITTED", "spark-1")},
		{"bound", room},
		{"RUNNING", func(w *killWorld) { run("driver-1")(w); sparkState("RUNNING", "spark-1")(w) }},
		{"executors", func(w *killWorld) {
			sparkPod("x-1", "executor", "spark-1")(w)
			sparkPod("x-2", "executor", "spark-1")(w)
		}},
		{"executors run", run("x-1", "x-2")},
		{"UNKNOWN", sparkState("UNKNOWN", "spark-1")},
		{"RUNNING again", sparkState("RUNNING", "spark-1")},
		{"driver has ended", ends("driver-1")},
		{"SUCCEEDING", sparkState("SUCCEEDING", "spark-1")},
		{"COMPLETED", sparkState("COMPLETED", "spark-1")},
		{"executors have ended", ends("x-1", "x-2")},
		{"pods are gone", gone("driver-1", "x-1", "x-2")},
		{"deleted", deleted(sparks, "pi")},
	},
	"spark is tried again": {
		{"created", func(w *killWorld) { w.create(sparks, "pi", fields{"spec": fields{}}) }},
		{"SUBMITTED", func(w *killWorld) {
			sparkPod("driver-1", "driver", "spark-1")(w)
			sparkState("SUBMITTED", "spark-1")(w)
		}},
		{"RUNNING", func(w *killWorld) { run("driver-1")(w); sparkState("RUNNING", "spark-1")(w) }},
		{"driver has failed", crash("driver-1")},
		{"FAILING", sparkState("FAILING", "spark-1")},
		{"driver is gone", gone("driver-1")},
		{"PENDING_RERUN", sparkState("PENDING_RERUN", "spark-1")},
		{"next driver", sparkPod("driver-2", "driver", "spark-2")},
		{"SUBMITTED again", sparkState("SUBMITTED", "spark-2")},
		{"RUNNING again", func(w *killWorld) { run("driver-2")(w); sparkState("RUNNING", "spark-2")(w) }},
		{"INVALIDATING", sparkState("INVALIDATING", "spark-2")},
		{"next driver is gone", gone("driver-2")},
		{"PENDING_RERUN again", sparkState("PENDING_RERUN", "spark-2")},
		{"SUBMITTED once more", func(w *killWorld) {
			sparkPod("driver-3", "driver", "spark-3")(w)
			sparkState("SUBMITTED", "spark-3")(w)
		}},
		{"deleted", deleted(sparks, "pi")},
		{"last driver is gone", gone("driver-3")},
	},
	"spark is suspended and fails": {
		{"created", func(w *killWorld) { w.create(sparks, "pi", fields{"spec": fields{}}) }},
		{"SUBMITTED", func(w *killWorld) {
			sparkPod("driver-1", "driver", "spark-1")(w)
			sparkState("SUBMITTED", "spark-1")(w)
		}},
		{"RUNNING", func(w *killWorld) { run("driver-1")(w); sparkState("RUNNING", "spark-1")(w) }},
		{"SUSPENDING", sparkState("SUSPENDING", "spark-1")},
		{"driver is gone", gone("driver-1")},
		{"SUSPENDED", sparkState("SUSPENDED", "spark-1")},
		{"RESUMING", sparkState("RESUMING", "")},
		{"no room", noRoom},
		{"next driver waits", func(w *killWorld) {
			sparkPod("driver-2", "driver", "spark-2")(w)
			sparkState("SUBMITTED", "spark-2")(w)
		}},
		{"FAILING while it waits", sparkState("FAILING", "spark-2")},
		{"FAILED", sparkState("FAILED", "spark-2")},
		{"deleted", func(w *killWorld) { gone("driver-2")(w); deleted(sparks, "pi")(w) }},
	},
	"spark is not submitted": {
		{"created", func(w *killWorld) { w.create(sparks, "pi", fields{"spec": fields{"proxyUser": int64(7)}}) }},
		{"SUBMISSION_FAILED", sparkState("SUBMISSION_FAILED", "")},
		{"a state that is not known", sparkState("BREWING", "")},
		{"deleted", deleted(sparks, "pi")},
	},
	"spark's kind is removed": {
		{"created", func(w *killWorld) {
			w.create(sparks, "pi", fields{"spec": fields{}})
			w.pod("other", map[string]string{workload.LabelOldAppID: "plain"}, nil)
		}},
		{"RUNNING", func(w *killWorld) { sparkPod("driver-1", "driver", "spark-1")(w); sparkState("RUNNING", "spark-1")(w) }},
		{"driver runs", run("driver-1", "other")},
		{"removed", func(w *killWorld) {
			deleted(sparks, "pi")(w)
			w.Serve(sparks, false)
			time.Sleep(3 * time.Minute) // it is denied for long enough
		}},
		{"one of its pods comes", sparkPod("driver-2", "driver", "spark-2")},
		{"its pods have ended", func(w *killWorld) { run("driver-2")(w); ends("driver-1", "driver-2")(w) }},
		{"back", func(w *killWorld) { w.Serve(sparks, true); time.Sleep(3 * time.Minute) }},
		{"another one", func(w *killWorld) {
			w.create(sparks, "pi", fields{"spec": fields{}})
			sparkPod("driver-3", "driver", "spark-3")(w)
			sparkState("RUNNING", "spark-3")(w)
		}},
		{"FAILED", func(w *killWorld) { crash("driver-3")(w); sparkState("FAILED", "spark-3")(w) }},
	},
	"job completes": {
		{"no room", noRoom},
		{"created", jobCreated(fields{})},
		{"pods wait", jobPods},
		{"bound", room},
		{"running", func(w *killWorld) {
			run("sums-1", "sums-2")(w)
			w.set(jobs, "sums", "status", fields{"active": int64(2)})
		}},
		{"one has ended", ends("sums-1")},
		{"all have ended", ends("sums-2")},
		{"completed", jobCondition("Complete")},
		{"deleted", func(w *killWorld) { deleted(jobs, "sums")(w); gone("sums-1", "sums-2")(w) }},
	},
	"job fails": {
		{"created", jobCreated(fields{})},
		{"pods", jobPods},
		{"running", run("sums-1", "sums-2")},
		{"one has failed", crash("sums-1")},
		{"failed", jobCondition("Failed")},
		{"pods are gone", gone("sums-1", "sums-2")},
		{"deleted", deleted(jobs, "sums")},
	},
	"job is suspended": {
		{"created", jobCreated(fields{"suspend": true})},
		{"pods wait", jobPods},
		{"resumed", func(w *killWorld) { w.set(jobs, "sums", "spec", jobSpec(fields{"suspend": false})) }},
		{"running", run("sums-1", "sums-2")},
		{"deleted while it runs", deleted(jobs, "sums")},
		{"pods are gone", gone("sums-1", "sums-2")},
	},
	"rayjob completes": {
		{"no room", noRoom},
		{"created", rayCreated},
		{"Initializing", func(w *killWorld) { rayCluster(w); rayState("Initializing")(w) }},
		{"pods wait", rayPods},
		{"bound", room},
		{"running", func(w *killWorld) { run("head", "worker")(w); rayState("Running")(w) }},
		{"completed", rayState("Complete")},
		{"pods have ended", ends("head", "worker")},
		{"pods are gone", gone("head", "worker")},
		{"deleted", deleted(rayJobs, "train")},
	},
	"rayjob is tried again and fails": {
		{"created", rayCreated},
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
	"rayjob cannot be evaluated": {
		{"created", func(w *killWorld) { w.create(rayJobs, "train", fields{"spec": "none", "status": fields{}}) }},
		{"deleted", deleted(rayJobs, "train")},
	},
}

func applicationPods(w *killWorld) {
	for _, name := range []string{"one", "two"} {
		w.pod(name, map[string]string{workload.KeyAppID: "ns-report"}, nil)
	}
}

func sparkPod(name, role, id string) func(*killWorld) {
	return func(w *killWorld) {
		w.pod(name, map[string]string{
			"sparkoperator.k8s.io/app-name": "pi", "spark-role": role, workload.LabelSparkAppID: id,
		}, nil)
	}
}

func sparkState(name, id string) func(*killWorld) {
	status := fields{"applicationState": fields{"state": name}}
	if id != "" {
		status["sparkApplicationId"] = id
	}
	return func(w *killWorld) { w.set(sparks, "pi", "status", status) }
}

func jobSpec(more fields) fields {
	spec := fields{"template": fields{"spec": fields{"schedulerName": workload.DefaultSchedulerName}}}
	maps.Copy(spec, more)
	return spec
}

func jobCreated(more fields) func(*killWorld) {
	return func(w *killWorld) { w.create(jobs, "sums", fields{"spec": jobSpec(more)}) }
}

func jobPods(w *killWorld) {
	for _, name := range []string{"sums-1", "sums-2"} {
		w.pod(name, map[string]string{}, owned("Job", "sums", nil))
	}
}

func jobCondition(kind string) func(*killWorld) {
	return func(w *killWorld) {
		w.set(jobs, "sums", "status", fields{"conditions": []any{fields{"type": kind, "status": "True", "message": "so it is"}}})
	}
}

func rayCreated(w *killWorld) { w.create(rayJobs, "train", rayJob()) }

func rayJob() fields {
	template := fields{"spec": fields{"schedulerName": workload.DefaultSchedulerName}}
	return fields{"spec": fields{"rayClusterSpec": fields{
		"headGroupSpec":    fields{"template": template},
		"workerGroupSpecs": []any{fields{"groupName": "small", "minReplicas": int64(1), "template": template}},
	}}}
}

func rayCluster(w *killWorld) {
	w.create(rayClusters, "train-c", fields{}, controlledBy("RayJob", "train"))
}

func rayPods(w *killWorld) {
	w.pod("head", map[string]string{}, owned("RayCluster", "train-c", map[string]string{"ray.io/group": "headgroup"}))
	w.pod("worker", map[string]string{}, owned("RayCluster", "train-c", map[string]string{"ray.io/group": "small"}))
}

func rayState(name string) func(*killWorld) {
	return func(w *killWorld) {
		w.set(rayJobs, "train", "status", fields{"jobDeploymentStatus": name, "message": "so it is"})
	}
}
