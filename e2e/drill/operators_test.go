package drill

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// A lab has no operators. Here is what they make of an object: the pods, with the names,
// labels and owners that they give them, and the objects between them and the pods.

// member is a pod that an operator makes.
type member struct {
	name string
	// template is a pod template, or a pod.
	template map[string]any
	// owner is its controller. Without one it is the first pod of the object, if ofFirst
	// says so, or nobody.
	owner               *unstructured.Unstructured
	ofFirst             bool
	labels, annotations map[string]string
}

// pod returns the pod of a member; first is that of the first member.
func (m member) pod(first *v1.Pod) (*v1.Pod, error) {
	var template v1.PodTemplateSpec
	given := map[string]any{"metadata": m.template["metadata"], "spec": m.template["spec"]}
	if given["metadata"] == nil {
		delete(given, "metadata")
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(given, &template); err != nil {
		return nil, fmt.Errorf("template of %s: %w", m.name, err)
	}
	pod := &v1.Pod{Spec: template.Spec}
	pod.Namespace, pod.Name = metav1.NamespaceDefault, m.name
	pod.Labels, pod.Annotations = map[string]string{}, map[string]string{}
	maps.Copy(pod.Labels, template.Labels)
	maps.Copy(pod.Labels, m.labels)
	maps.Copy(pod.Annotations, template.Annotations)
	maps.Copy(pod.Annotations, m.annotations)
	grace := int64(0)
	pod.Spec.TerminationGracePeriodSeconds = &grace
	switch {
	case m.owner != nil:
		pod.OwnerReferences = []metav1.OwnerReference{controlledBy(m.owner)}
	case m.ofFirst:
		pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(first, v1.SchemeGroupVersion.WithKind("Pod"))}
	}
	return pod, nil
}

func controlledBy(owner *unstructured.Unstructured) metav1.OwnerReference {
	return *metav1.NewControllerRef(owner, owner.GroupVersionKind())
}

// at returns what is under a path of an object.
func at[T any](object map[string]any, path ...string) T {
	value, found, err := unstructured.NestedFieldNoCopy(object, path...)
	typed, ok := value.(T)
	if err != nil || !found || !ok {
		panic(fmt.Sprintf("%s is %v (%v)", strings.Join(path, "."), value, err))
	}
	return typed
}

// jobPods are the pods of a Job.
func jobPods(_ *examples, job *unstructured.Unstructured) (members []member) {
	for i := range at[int64](job.Object, "spec", "parallelism") {
		members = append(members, member{
			name: fmt.Sprintf("%s-%d", job.GetName(), i), template: at[map[string]any](job.Object, "spec", "template"), owner: job,
		})
	}
	return members
}

// sparkPods are the driver and the executors of a SparkApplication. The operator writes
// what YuniKorn needs on them.
func sparkPods(_ *examples, app *unstructured.Unstructured) []member {
	spec := at[map[string]any](app.Object, "spec")
	requests := func(role string) map[string]any {
		if memory := at[string](spec, role, "memory"); memory != "512m" { // and 384Mi of overhead, at least
			panic("the memory of a pod with " + memory + " is not known here")
		}
		return map[string]any{"cpu": fmt.Sprint(at[int64](spec, role, "cores")), "memory": "896Mi"}
	}
	template := func(role string) map[string]any {
		return map[string]any{"spec": map[string]any{
			"schedulerName": at[string](spec, "batchScheduler"), "restartPolicy": "Never",
			"containers": []any{map[string]any{
				"name": "spark-kubernetes-" + role, "image": at[string](spec, "image"),
				"resources": map[string]any{"requests": requests(role)},
			}},
		}}
	}
	labels := func(role string) map[string]string {
		return map[string]string{
			"spark-role": role, "spark-app-selector": sparkID, "spark-app-name": app.GetName(),
			"sparkoperator.k8s.io/app-name": app.GetName(), "sparkoperator.k8s.io/submission-id": "5e0b0a55",
			"sparkoperator.k8s.io/launched-by-spark-operator": "true",
			"queue": at[string](spec, "batchSchedulerOptions", "queue"),
		}
	}
	instances := at[int64](spec, "executor", "instances")
	groups := fmt.Sprintf(`[{"name":"spark-driver","minMember":1,"minResource":{"cpu":%q,"memory":"896Mi"}},`+
		`{"name":"spark-executor","minMember":%d,"minResource":{"cpu":%q,"memory":"896Mi"}}]`,
		requests("driver")["cpu"], instances, requests("executor")["cpu"])
	members := []member{{
		name: app.GetName() + "-driver", template: template("driver"), owner: app, labels: labels("driver"),
		annotations: map[string]string{taskGroup: "spark-driver", taskGroups: groups},
	}}
	for i := range instances {
		members = append(members, member{
			name: fmt.Sprintf("%s-exec-%d", app.GetName(), i+1), template: template("executor"), ofFirst: true, labels: labels("executor"),
			annotations: map[string]string{taskGroup: "spark-executor"},
		})
	}
	return members
}

// rayPods are the head and the workers of a RayCluster. KubeRay copies the queue from it.
func rayPods(_ *examples, cluster *unstructured.Unstructured) []member {
	labels := func(kind, group string) map[string]string {
		return map[string]string{
			"ray.io/cluster": cluster.GetName(), "ray.io/node-type": kind, "ray.io/group": group, "ray.io/is-ray-node": "yes",
		}
	}
	members := []member{{
		name: cluster.GetName() + "-head", template: at[map[string]any](cluster.Object, "spec", "headGroupSpec", "template"),
		owner: cluster, labels: labels("head", "headgroup"),
	}}
	for _, each := range at[[]any](cluster.Object, "spec", "workerGroupSpecs") {
		group := each.(map[string]any)
		name := at[string](group, "groupName")
		for i := range at[int64](group, "replicas") {
			members = append(members, member{
				name: fmt.Sprintf("%s-%s-worker-%d", cluster.GetName(), name, i), template: at[map[string]any](group, "template"),
				owner: cluster, labels: labels("worker", name),
			})
		}
	}
	return members
}

// rayJobPods are those of the RayCluster of a RayJob, and the submitter, which comes last.
func rayJobPods(x *examples, job *unstructured.Unstructured) []member {
	cluster := x.between(job, "ray.io/v1", "RayCluster", job.GetName()+"-x7k2p", at[map[string]any](job.Object, "spec", "rayClusterSpec"))
	submitter := x.between(job, "batch/v1", "Job", job.GetName(), map[string]any{
		"template": at[map[string]any](job.Object, "spec", "submitterPodTemplate"), "parallelism": int64(1), "completions": int64(1),
	})
	return append(rayPods(x, cluster), jobPods(x, submitter)...)
}

// jobSetPods are those of the Jobs of a JobSet.
func jobSetPods(x *examples, set *unstructured.Unstructured) (members []member) {
	for _, each := range at[[]any](set.Object, "spec", "replicatedJobs") {
		replicated := each.(map[string]any)
		name := at[string](replicated, "name")
		for i := range at[int64](replicated, "replicas") {
			job := x.between(set, "batch/v1", "Job", fmt.Sprintf("%s-%s-%d", set.GetName(), name, i), at[map[string]any](replicated, "template", "spec"))
			for _, m := range jobPods(x, job) {
				m.labels = map[string]string{
					"jobset.sigs.k8s.io/jobset-name": set.GetName(), "jobset.sigs.k8s.io/jobset-uid": string(set.GetUID()),
					"jobset.sigs.k8s.io/replicatedjob-name": name, "jobset.sigs.k8s.io/job-index": strconv.FormatInt(i, 10),
					"jobset.sigs.k8s.io/restart-attempt": "0",
				}
				members = append(members, m)
			}
		}
	}
	return members
}

// trainJobPods are those of the JobSet of a TrainJob, which is made from its runtime.
func trainJobPods(x *examples, job *unstructured.Unstructured) []member {
	base := x.object("TrainingRuntime", at[string](job.Object, "spec", "runtimeRef", "name"))
	spec := at[map[string]any](base.DeepCopy().Object, "spec", "template", "spec")
	nodes := at[[]any](spec, "replicatedJobs")[0].(map[string]any)
	nodes["replicas"] = int64(1)
	of := at[map[string]any](nodes, "template", "spec")
	of["parallelism"] = at[int64](job.Object, "spec", "trainer", "numNodes")
	of["completions"] = of["parallelism"]
	container := at[[]any](of, "template", "spec", "containers")[0].(map[string]any)
	container["resources"] = at[map[string]any](job.Object, "spec", "trainer", "resourcesPerNode")
	container["command"] = at[[]any](job.Object, "spec", "trainer", "command")
	return jobSetPods(x, x.between(job, "jobset.x-k8s.io/v1alpha2", "JobSet", job.GetName(), spec))
}

// workflowPods are those of the steps of a Workflow, in their order.
func workflowPods(_ *examples, workflow *unstructured.Unstructured) (members []member) {
	templates := map[string]map[string]any{}
	for _, each := range at[[]any](workflow.Object, "spec", "templates") {
		template := each.(map[string]any)
		templates[at[string](template, "name")] = template
	}
	for _, each := range at[[]any](templates[at[string](workflow.Object, "spec", "entrypoint")], "dag", "tasks") {
		task := each.(map[string]any)
		container := maps.Clone(at[map[string]any](templates[at[string](task, "template")], "container"))
		container["name"] = "main"
		members = append(members, member{
			name: workflow.GetName() + "-" + at[string](task, "name"), owner: workflow,
			template: map[string]any{"spec": map[string]any{
				"schedulerName": at[string](workflow.Object, "spec", "schedulerName"), "restartPolicy": "Never",
				"containers": []any{container},
			}},
			labels: map[string]string{"workflows.argoproj.io/workflow": workflow.GetName(), "workflows.argoproj.io/completed": "false"},
		})
	}
	return members
}

// crawlPods are those of a Crawl: see crawl-crd.yaml.
func crawlPods(_ *examples, crawl *unstructured.Unstructured) (members []member) {
	for i := range at[int64](crawl.Object, "spec", "workers") {
		members = append(members, member{
			name: fmt.Sprintf("%s-%d", crawl.GetName(), i), template: at[map[string]any](crawl.Object, "spec", "template"), owner: crawl,
			labels: map[string]string{"example.org/crawl": crawl.GetName()},
		})
	}
	return members
}

// ownPods are the pods in the manifest of an Application, which no operator makes.
func ownPods(x *examples, app *unstructured.Unstructured) (members []member) {
	for _, object := range x.kind("Pod") {
		if strings.HasPrefix(object.GetName(), app.GetName()+"-") {
			members = append(members, member{name: object.GetName(), template: object.Object})
		}
	}
	return members
}

// barePods are pods of the template of a Job that nobody has created.
func barePods(x *examples, job *unstructured.Unstructured) []member {
	members := jobPods(x, job)
	for i := range members {
		members[i].owner = nil
		members[i].labels = map[string]string{oldAppLabel: job.GetName()}
	}
	return members
}
