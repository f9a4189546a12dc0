package kube

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// full is a pod with something of everything.
func full(options ...option) *v1.Pod {
	requests := v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}
	always := v1.ContainerRestartPolicyAlways
	container := v1.Container{
		Name: "c", Image: "i", Command: []string{"x"}, Env: []v1.EnvVar{{Name: "E"}}, VolumeMounts: []v1.VolumeMount{{Name: "v"}},
		Resources: v1.ResourceRequirements{Requests: requests}, Ports: []v1.ContainerPort{{HostPort: 80}},
		LivenessProbe: &v1.Probe{}, SecurityContext: &v1.SecurityContext{},
	}
	sidecar := *container.DeepCopy()
	sidecar.RestartPolicy = &always
	p, group := pod("p", options...), "g"
	p.Spec.SchedulingGroup = &v1.PodSchedulingGroup{PodGroupName: &group}
	p.Labels, p.Annotations = map[string]string{"l": "1"}, map[string]string{"a": "1", lastApplied: "{...}"}
	p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m"}}
	p.OwnerReferences = []metav1.OwnerReference{{Name: "o"}}
	p.Spec.Containers, p.Spec.InitContainers = []v1.Container{container}, []v1.Container{sidecar}
	p.Spec.Affinity = &v1.Affinity{PodAntiAffinity: &v1.PodAntiAffinity{}}
	p.Spec.NodeSelector = map[string]string{"disk": "ssd"}
	p.Spec.Tolerations = []v1.Toleration{{Key: "k"}}
	p.Spec.Overhead = v1.ResourceList{v1.ResourceCPU: resource.MustParse("10m")}
	p.Spec.TopologySpreadConstraints = []v1.TopologySpreadConstraint{{TopologyKey: "zone"}}
	p.Spec.Volumes = []v1.Volume{
		{Name: "v", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}},
		{Name: "s", VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "s"}}},
	}
	p.Status.PodIP = "10.0.0.1"
	p.Status.Conditions = []v1.PodCondition{{Type: v1.PodReady}, {Type: v1.PodResizePending, Reason: v1.PodReasonInfeasible}}
	p.Status.ContainerStatuses = []v1.ContainerStatus{{
		Name: "c", ImageID: "sha", AllocatedResources: v1.ResourceList{v1.ResourceCPU: resource.MustParse("2")},
		Resources: &v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("2")}},
	}}
	return p
}

func trimmed(t *testing.T, p *v1.Pod) *v1.Pod {
	t.Helper()
	obj, err := trimmer{"yunikorn", "home"}.trim(p.DeepCopy())
	fatal(t, err)
	once := obj.(*v1.Pod)
	again, err := trimmer{"yunikorn", "home"}.trim(once.DeepCopy())
	fatal(t, err)
	if !equality.Semantic.DeepEqual(once, again) {
		t.Error("trimming twice is not trimming once")
	}
	if once.ManagedFields != nil || once.Annotations[lastApplied] != "" {
		t.Error("managed fields or the last applied configuration are kept")
	}
	if once.UID != p.UID || once.Labels["l"] != "1" || len(once.OwnerReferences) != 1 || once.Spec.NodeName != p.Spec.NodeName {
		t.Errorf("identity lost: %+v", once.ObjectMeta)
	}
	return once
}

func foreign(p *v1.Pod) { p.Spec.SchedulerName = "default-scheduler" }

func requestsOf(p *v1.Pod) v1.ResourceList {
	return resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true})
}

func TestTrimKeepsWhatSchedulingReads(t *testing.T) {
	t.Run("own, pending", func(t *testing.T) {
		p := full()
		if got := trimmed(t, p); !equality.Semantic.DeepEqual(got.Spec, p.Spec) || got.Annotations["a"] != "1" {
			t.Errorf("spec = %+v", got.Spec)
		}
	})
	for name, options := range map[string][]option{
		"own, assigned":     {on("n")},
		"foreign, assigned": {on("n"), foreign},
	} {
		t.Run(name, func(t *testing.T) {
			p := full(options...)
			got := trimmed(t, p)
			if !equality.Semantic.DeepEqual(requestsOf(got), requestsOf(p)) {
				t.Errorf("requests = %v, want %v", requestsOf(got), requestsOf(p))
			}
			c := got.Spec.Containers[0]
			if got.Spec.Affinity == nil || len(c.Ports) != 1 || got.Spec.Volumes[0].PersistentVolumeClaim == nil ||
				got.Spec.InitContainers[0].RestartPolicy == nil {
				t.Errorf("lost what its presence means for others: %+v", got.Spec)
			}
			if c.Env != nil || c.Command != nil || c.VolumeMounts != nil || got.Status.PodIP != "" {
				t.Errorf("kept what only the kubelet reads: %+v", c)
			}
			if !resourcehelper.IsPodResizeInfeasible(got) {
				t.Error("the condition of a resize is lost")
			}
			if _, own := got.Annotations["a"]; own == (got.Spec.SchedulerName != "yunikorn") {
				t.Errorf("annotations = %v", got.Annotations)
			}
		})
	}
	for name, options := range map[string][]option{
		"own, ended":       {on("n"), in(v1.PodSucceeded)},
		"foreign, pending": {foreign},
	} {
		t.Run(name, func(t *testing.T) {
			got := trimmed(t, full(options...))
			if got.Spec.SchedulingGroup == nil {
				t.Error("whose pod it was is lost")
			}
			if got.Spec.Containers != nil || got.Spec.Volumes != nil || got.Status.ContainerStatuses != nil {
				t.Errorf("kept %+v", got)
			}
		})
	}
}

func TestTrimKeepsTheProofOfADeath(t *testing.T) {
	message := func(text string) v1.ContainerState {
		return v1.ContainerState{Terminated: &v1.ContainerStateTerminated{Message: text, Reason: "Error"}}
	}
	died := func(p *v1.Pod) {
		p.Status.ContainerStatuses[0].LastTerminationState = message("\n" + terminationPrefix + "p_1\n")
		p.Status.ContainerStatuses[0].State = message("stack trace")
	}
	for name, c := range map[string]struct {
		options []option
		want    []string
	}{
		"running":          {[]option{on("n"), foreign, home}, []string{"p_1"}},
		"ended":            {[]option{on("n"), foreign, home, in(v1.PodFailed)}, []string{"p_1"}},
		"another's":        {[]option{on("n"), foreign}, nil},
		"another's, ended": {[]option{on("n"), foreign, in(v1.PodFailed)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := full(c.options...)
			died(p)
			got := trimmed(t, p)
			if dead := deaths(got); !slices.Equal(dead, c.want) {
				t.Errorf("dead %q, want %q", dead, c.want)
			}
			for _, s := range got.Status.ContainerStatuses {
				if s.State.Terminated != nil && strings.Contains(s.State.Terminated.Message, "stack") {
					t.Errorf("kept %+v", s)
				}
			}
			if p.Status.Phase == "" && !equality.Semantic.DeepEqual(requestsOf(got), requestsOf(p)) {
				t.Errorf("requests = %v, want %v", requestsOf(got), requestsOf(p))
			}
		})
	}
}

func TestTrimNode(t *testing.T) {
	n := node("n", "1")
	n.Status = v1.NodeStatus{
		Images:      []v1.ContainerImage{{Names: []string{"i"}}},
		Allocatable: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")},
		Conditions:  []v1.NodeCondition{{Type: v1.NodeReady}},
	}
	obj, err := trimmer{}.trim(n)
	fatal(t, err)
	got := obj.(*v1.Node)
	if got.Status.Images != nil || got.Status.Allocatable == nil || len(got.Status.Conditions) != 1 {
		t.Errorf("status = %+v", got.Status)
	}
}
