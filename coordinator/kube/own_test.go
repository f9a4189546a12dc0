package kube

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
)

// marked makes a pod one that was marked as that of the lead.
func marked(namespace, epoch string) option {
	return func(p *v1.Pod) {
		p.Namespace, p.Labels = namespace, map[string]string{RoleLabel: RoleLead}
		p.Annotations = map[string]string{EpochAnnotation: epoch}
	}
}

// patches has the fake note what is patched, and fail for a pod as told.
func (s *server) patches(fails map[string]error) *[]string {
	sent := new([]string)
	s.answer("patch", "pods", func(a clienttesting.Action) (runtime.Object, error) {
		p := a.(clienttesting.PatchAction)
		*sent = append(*sent, p.GetNamespace()+"/"+p.GetName()+" "+string(p.GetPatch()))
		return pod(p.GetName()), fails[p.GetName()]
	})
	return sent
}

func TestALeadTakesItsMarkOff(t *testing.T) {
	s := newServer()
	sent := s.patches(nil)
	c := idle(s, ClusterConfig{Namespace: "own", PodName: "self"})
	if c.Marked() || c.OwnPod() != nil {
		t.Error("marked before anything is known")
	}
	fatal(t, c.pods.GetStore().Add(pod("self", marked("own", "3"))))
	if !c.Marked() {
		t.Error("the mark that the process before has left is not seen")
	}
	fatal(t, c.Unmark(t.Context(), s))
	if want := []string{`own/self {"metadata":{"labels":{"understudy.dev/role":null}}}`}; !slices.Equal(*sent, want) {
		t.Errorf("sent %q, want %q", *sent, want)
	}
	outside := idle(s, ClusterConfig{Namespace: "own"})
	fatal(t, outside.Unmark(t.Context(), s))
	if outside.Marked() || len(*sent) != 1 {
		t.Error("without a pod nothing is marked")
	}
}

func TestALeadTakesTheMarkOffThoseThatLedBefore(t *testing.T) {
	s := newServer()
	gone := apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "gone")
	changed := apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "changed", nil)
	sent := s.patches(map[string]error{"gone": gone, "changed": changed})
	c := idle(s, ClusterConfig{Namespace: "own", PodName: "self"})
	for _, p := range []*v1.Pod{
		pod("self", marked("own", "6")), pod("newer", marked("own", "8")), pod("elsewhere", marked("ns", "1")),
		pod("never"), pod("changed", marked("own", "5")), pod("gone", marked("own", "4")),
		pod("old", marked("own", "6"), version("17")), pod("unknown", marked("own", "")),
	} {
		fatal(t, c.pods.GetStore().Add(p))
	}
	none, err := c.UnmarkOthers(t.Context(), s, 7)
	if none || err != nil {
		t.Errorf("none = %t, %v", none, err)
	}
	slices.Sort(*sent)
	patch := func(name, version string) string {
		return "own/" + name + ` {"metadata":{"labels":{"understudy.dev/role":null},"resourceVersion":"` + version + `","uid":"uid-` + name + `"}}`
	}
	if want := []string{patch("changed", "1"), patch("gone", "1"), patch("old", "17"), patch("unknown", "1")}; !slices.Equal(*sent, want) {
		t.Errorf("sent %q\nwant %q", *sent, want)
	}
	for _, name := range []string{"changed", "gone", "old", "unknown"} {
		without := pod(name)
		without.Namespace = "own"
		fatal(t, c.pods.GetStore().Update(without))
	}
	if none, err := c.UnmarkOthers(t.Context(), s, 7); !none || err != nil {
		t.Errorf("none = %t, %v when all is right", none, err)
	}
}

// Replicas are scheduled by another scheduler, whose pods are kept without annotations.
func TestTheMarkOfALeadIsKept(t *testing.T) {
	trim := trimmer{schedulerName: "yunikorn", namespace: "own"}
	for namespace, want := range map[string]string{"own": "5", "ns": ""} {
		p := pod("r", marked(namespace, "5"))
		p.Spec.SchedulerName = "default-scheduler"
		p.Annotations["other"] = "x"
		for range 2 { // once more changes nothing
			if _, err := trim.trim(p); err != nil {
				t.Fatal(err)
			}
		}
		if p.Annotations[EpochAnnotation] != want || p.Annotations["other"] != "" {
			t.Errorf("in %s: %v", namespace, p.Annotations)
		}
	}
}

func TestTheClientForTheOwnPodSendsNothingElse(t *testing.T) {
	var sent []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, r.Method+" "+r.URL.Path)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind":"Pod","apiVersion":"v1"}`))
	}))
	defer server.Close()
	clients, err := NewClients(ClientConfig{
		Kubeconfig: kubeconfig(t, server), Namespace: "own", PodName: "self", Guard: newTerm(0).guard,
	})
	fatal(t, err)
	defer closeIdle(clients)
	ctx := t.Context()
	patch := func(namespace, name string, sub ...string) error {
		_, err := clients.Own.CoreV1().Pods(namespace).Patch(ctx, name, types.MergePatchType, []byte("{}"), metav1.PatchOptions{}, sub...)
		return err
	}
	fatal(t, patch("own", "self"))
	_, err = clients.Own.CoreV1().Events("own").Create(ctx, &v1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "own"}}, metav1.CreateOptions{})
	fatal(t, err)
	pods := clients.Own.CoreV1().Pods("own")
	_, created := pods.Create(ctx, pod("x"), metav1.CreateOptions{})
	for what, err := range map[string]error{
		"another pod": patch("own", "other"), "another namespace": patch("ns", "self"), "its status": patch("own", "self", "status"),
		"deletion": pods.Delete(ctx, "self", metav1.DeleteOptions{}), "creation": created,
		"binding": pods.Bind(ctx, &v1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "self"}}, metav1.CreateOptions{}),
	} {
		if !errors.Is(err, errNotOwn) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if want := []string{"PATCH /api/v1/namespaces/own/pods/self", "POST /api/v1/namespaces/own/events"}; !slices.Equal(sent, want) {
		t.Errorf("sent %q, want %q", sent, want)
	}
}
