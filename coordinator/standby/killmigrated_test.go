package standby

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// migrated is the life of what YuniKorn leaves when it is stopped: pods that run, and gangs that
// run, reserve and wait. held says whether the gang that reserves has a place for some of it.
func migrated(held bool) []state {
	versions := make(map[string]string) // of pods that run
	untouched := func(w *killWorld) {
		for name, version := range versions {
			if pod := w.podNow(name); pod.ResourceVersion != version {
				w.t.Errorf("pod %s was touched: %+v", name, pod.ObjectMeta)
			}
		}
	}
	return []state{
		{atFirst, func(w *killWorld) {
			w.places.Store(0)
			w.leftByYuniKorn(versions, held)
		}},
		{"what is there is taken over", func(w *killWorld) {
			untouched(w)
			w.holds("train-run", 1)
			w.holds("train-reserve", 3)
			w.holds("train-wait", 2)
		}},

		{"room", room},
		{"gangs have replaced what held their places", func(w *killWorld) {
			untouched(w)
			w.holds("train-run", 1)
			w.holds("train-reserve", 0)
			w.holds("train-wait", 0)
			w.madeNone("train-run", "train-reserve")
		}},
		{"running", run("etl-2", "train-reserve-0", "train-reserve-1", "train-reserve-2", "train-wait-0", "train-wait-1")},
		{"the last member comes", func(w *killWorld) {
			like := w.podNow("train-run-0")
			w.pod("train-run-2", like.Labels, func(p *v1.Pod) { p.Annotations = like.Annotations })
		}},
		{"it has its place", func(w *killWorld) {
			untouched(w)
			w.holds("train-run", 0)
			run("train-run-2")(w)
		}},
		{"all have ended", ends("etl-0", "etl-1", "etl-2", "report-0", "train-run-0", "train-run-1", "train-run-2",
			"train-reserve-0", "train-reserve-1", "train-reserve-2", "train-wait-0", "train-wait-1")},
		{"it has completed", nil},
	}
}

// leftByYuniKorn loads what YuniKorn has left, into the namespace of the scripts, and notes the versions of
// the pods of users that run.
func (w *killWorld) leftByYuniKorn(versions map[string]string, held bool) {
	w.t.Helper()
	clear(versions)
	f, err := os.Open("../migrate/testdata/workloads.yaml")
	w.do(err)
	defer f.Close()
	decoder := yaml.NewYAMLOrJSONDecoder(f, 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(object); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			w.t.Fatal(err)
		}
		switch object.GetKind() {
		case "Application":
			w.create(v1alpha1.Resource(), object.GetName(), fields{"spec": object.Object["spec"]})
		case "Pod":
			pod := &v1.Pod{}
			w.do(runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, pod))
			if pod.Labels[workload.KeyAppID] == "train-gone" {
				continue // the engine here does not complete what has nothing but placeholders
			}
			pod.Namespace = "ns"
			if !held && pod.Labels[workload.KeyAppID] == "train-reserve" {
				pod.Spec.NodeName, pod.Status.Phase = "", v1.PodPending
			}
			if id := pod.Labels[workload.KeyAppID]; strings.HasPrefix(id, "batch-") {
				pod.Labels[workload.KeyAppID] = "ns-" + strings.TrimPrefix(id, "batch-")
			}
			w.do(w.tracker.Create(podResource, w.stamped(pod), "ns"))
			if pod.Spec.NodeName != "" && len(pod.OwnerReferences) == 0 {
				versions[pod.Name] = pod.ResourceVersion
			}
		}
	}
}

// holds checks how many placeholders an application has.
func (w *killWorld) holds(app string, want int) {
	w.t.Helper()
	list, err := w.tracker.List(podResource, v1.SchemeGroupVersion.WithKind("Pod"), "ns")
	w.do(err)
	var names []string
	for _, pod := range list.(*v1.PodList).Items {
		if strings.HasPrefix(pod.Name, "tg-") && pod.Labels[workload.KeyAppID] == app {
			names = append(names, pod.Name)
		}
	}
	if len(names) != want {
		w.t.Errorf("%s has %d placeholders, want %d: %q", app, len(names), want, names)
	}
}

// madeNone checks that no placeholder was made for some applications.
func (w *killWorld) madeNone(apps ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.made {
		if slices.ContainsFunc(apps, func(app string) bool { return strings.HasPrefix(name, "tg-"+app) }) {
			w.t.Errorf("the placeholder %s was made although YuniKorn had left enough", name)
		}
	}
}
