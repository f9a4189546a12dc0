package migrate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	utilversion "k8s.io/apimachinery/pkg/util/version"
	"k8s.io/utils/ptr"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/workload"
)

// schedulerContainer is the container with YuniKorn's scheduler.
const schedulerContainer = "yunikorn-scheduler-k8s"

// The environment of YuniKorn's containers.
const (
	envNamespace     = "NAMESPACE"
	envSchedulerName = "SCHEDULER_NAME" // of the plug-in
)

// environment is what is set there that does not tell YuniKorn how to schedule.
var environment = []string{envNamespace, envSchedulerName, "HOME", "KUBECONFIG", "GOGC", "GOMEMLIMIT", "GOMAXPROCS",
	"DEADLOCK_DETECTION_ENABLED", "DEADLOCK_TIMEOUT_SECONDS", "DEADLOCK_EXIT"}

// scheduler looks at YuniKorn's scheduler. Two schedulers of one name would both place pods, each
// without knowing of the other's.
func (x *check) scheduler() {
	names := []string{workload.DefaultSchedulerName}
	for _, d := range x.schedulers {
		object := deployment(d)
		container := containerOf(&d.Spec.Template.Spec, schedulerContainer)
		what := "YuniKorn's scheduler"
		if container != nil {
			what += " (" + container.Image + ")"
		}
		stop := fmt.Sprintf("kubectl -n %s scale deployment %s --replicas=0, at the switch", d.Namespace, d.Name)
		if ptr.Deref(d.Spec.Replicas, 1) > 0 {
			x.add(Blocks, SchedulerRuns, object, stop, "%s runs: it and a lead of Understudy would both bind the same pods", what)
		} else {
			x.add(Note, SchedulerStopped, object, "", "%s is stopped", what)
		}
		if container == nil {
			continue
		}
		if strings.Contains(container.Image, "plugin") || envOf(container, "SCHEDULER_CONFIG") != "" {
			x.add(Differs, SchedulerPlugin, object, "give pods that are no application of their own another schedulerName",
				"it is a plug-in of kube-scheduler, which schedules pods without an application ID itself; here they are an application of their namespace, in a queue")
		}
		if name := envOf(container, envSchedulerName); name != "" {
			names = append(names, name)
		}
		x.deploymentSettings(object, container)
	}
	for _, pod := range x.SchedulerPods {
		if !slices.ContainsFunc(x.schedulers, func(d *appsv1.Deployment) bool {
			return d.Namespace == pod.Namespace && ptr.Deref(d.Spec.Replicas, 1) > 0
		}) {
			x.add(Blocks, SchedulerRuns, podName(pod), "wait until it has ended, or stop what runs it", "a pod of YuniKorn's scheduler is left: it may still bind pods")
		}
	}
	if !slices.Contains(names, x.cfg.SchedulerName) {
		x.add(Configure, SchedulerName, "schedulerName", "set schedulerName: "+names[len(names)-1],
			"replicas schedule pods that name %q, YuniKorn those that name %q", x.cfg.SchedulerName, names[len(names)-1])
	}
}

// deploymentSettings finds what older versions read of their environment and arguments.
func (x *check) deploymentSettings(object string, container *v1.Container) {
	set := slices.Concat(container.Command, container.Args)
	for _, e := range container.Env {
		if !slices.Contains(environment, e.Name) {
			set = append(set, e.Name+"="+e.Value)
		}
	}
	if len(set) > 0 {
		x.add(Configure, DeploymentSettings, object, "say the same by the keys of docs/configuration.md in yunikorn-defaults, or drop it",
			"is told %s; replicas read the ConfigMaps and their own file", some(set))
	}
}

// lease looks for a lead of Understudy.
func (x *check) lease() {
	if x.Lease == nil || ptr.Deref(x.Lease.Spec.HolderIdentity, "") == "" || x.Lease.Spec.RenewTime == nil {
		return
	}
	spec := x.Lease.Spec
	lasts := time.Duration(ptr.Deref(spec.LeaseDurationSeconds, 0)) * time.Second
	if x.Now.Sub(spec.RenewTime.Time) > max(lasts, x.cfg.Election.MaxLeaseDuration) {
		return
	}
	object := "lease " + x.Lease.Namespace + "/" + x.Lease.Name
	if slices.ContainsFunc(x.found, func(f Finding) bool { return f.Kind == SchedulerRuns }) {
		x.add(Blocks, TwoSchedulers, object, "stop one of them at once", "%s leads while YuniKorn's scheduler runs: both bind the same pods", *spec.HolderIdentity)
		return
	}
	x.add(Note, UnderstudyLeads, object, "", "%s leads already", *spec.HolderIdentity)
}

// server looks at the version of the API server.
func (x *check) server() {
	if x.Version == nil {
		return
	}
	is, err := utilversion.ParseGeneric(x.Version.GitVersion)
	if err != nil {
		x.add(Blocks, NotRead, "the version of the API server", "", "%q is none: %v", x.Version.GitVersion, err)
		return
	}
	fence, policies := utilversion.MajorMinor(1, 30), utilversion.MajorMinor(1, 36)
	object := "API server " + x.Version.GitVersion
	switch {
	case x.cfg.Admission.Mode == config.AdmissionPolicy && is.LessThan(policies):
		x.add(Blocks, APIVersion, object, "set admission.mode: webhook", "has no MutatingAdmissionPolicies, which admission.mode policy needs")
	case x.cfg.Admission.Mode == config.AdmissionWebhook && is.LessThan(fence):
		x.add(Blocks, APIVersion, object, "leave admission.mode empty, and YuniKorn's admission controller running", "has no ValidatingAdmissionPolicies, which admission.mode webhook needs")
	case is.LessThan(fence):
		x.add(Configure, APIVersion, object, "leave fence.yaml out of deploy/base", "has no ValidatingAdmissionPolicies: it cannot refuse what a lead writes whose term is over; etcd still does")
	}
}

func deployment(d *appsv1.Deployment) string { return "deployment " + d.Namespace + "/" + d.Name }

// containerOf returns the container of a name, or else the first; nil if there is none.
func containerOf(spec *v1.PodSpec, name string) *v1.Container {
	for i := range spec.Containers {
		if spec.Containers[i].Name == name {
			return &spec.Containers[i]
		}
	}
	if len(spec.Containers) > 0 {
		return &spec.Containers[0]
	}
	return nil
}

func envOf(container *v1.Container, name string) string {
	for _, e := range container.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}
