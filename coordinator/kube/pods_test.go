package kube

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

func gang() *ledger.App {
	no := false
	return &ledger.App{
		ID: "app", Queue: "root.q", User: "ann", Groups: []string{"g"},
		Tags: map[string]string{
			workload.TagNamespace: "ns", workload.AnnotationTaskGroups: `[{"name":"tg"}]`, workload.AnnotationPolicy: "gangSchedulingStyle=Hard",
			workload.TagImagePullSecrets: "s1,s2", workload.TagPriorityClass: "high",
		},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "driver", UID: "d", Controller: &no}},
		TaskGroups: []v1alpha1.TaskGroup{{
			Name: "tg", MinMember: 2,
			MinResource:               map[string]resource.Quantity{"cpu": resource.MustParse("1"), "nvidia.com/gpu": resource.MustParse("2")},
			Labels:                    map[string]string{"l": "1", "placeholder": "no"},
			Annotations:               map[string]string{"a": "1"},
			NodeSelector:              map[string]string{"disk": "ssd"},
			Tolerations:               []v1.Toleration{{Key: "k"}},
			Affinity:                  &v1.Affinity{NodeAffinity: &v1.NodeAffinity{}},
			TopologySpreadConstraints: []v1.TopologySpreadConstraint{{TopologyKey: "zone"}},
		}},
	}
}

func create(app *ledger.App) ledger.CreatePlaceholder {
	return ledger.CreatePlaceholder{
		App: app, Originator: &ledger.Task{ID: "uid-driver", Namespace: "ns", Name: "driver"},
		Group: "tg", Index: 0, Name: "tg-tg-app-0",
	}
}

var podsConfig = PodsConfig{Tenure: tenure, Image: "pause:1", SchedulerName: "yunikorn"}

func TestPlaceholder(t *testing.T) {
	app := gang()
	before, _ := json.Marshal(app)
	p, err := placeholder(create(app), podsConfig)
	if err != nil {
		t.Fatal(err)
	}
	wantLabels := map[string]string{
		"yunikorn.apache.org/app-id": "app", "applicationId": "app",
		"yunikorn.apache.org/queue": "root.q", "queue": "root.q", "placeholder": "true", "l": "1",
		"understudy.dev/lease": "uid-lease",
	}
	if !maps.Equal(p.Labels, wantLabels) {
		t.Errorf("labels = %v\nwant     %v", p.Labels, wantLabels)
	}
	wantAnnotations := map[string]string{
		"a":                               "1",
		"yunikorn.apache.org/placeholder": "true",
		"internal.yunikorn.apache.org/placeholder":       "true",
		"yunikorn.apache.org/task-group-name":            "tg",
		"yunikorn.apache.org/task-groups":                `[{"name":"tg"}]`,
		"yunikorn.apache.org/schedulingPolicyParameters": "gangSchedulingStyle=Hard",
		"understudy.dev/epoch":                           "7",
		"understudy.dev/holder":                          "me",
	}
	if !maps.Equal(p.Annotations, wantAnnotations) {
		t.Errorf("annotations = %v\nwant          %v", p.Annotations, wantAnnotations)
	}
	c := p.Spec.Containers[0]
	gpu := v1.ResourceName("nvidia.com/gpu")
	if p.Namespace != "ns" || p.Name != "tg-tg-app-0" || p.Spec.SchedulerName != "yunikorn" ||
		p.Spec.RestartPolicy != v1.RestartPolicyNever || !*p.Spec.SecurityContext.RunAsNonRoot || p.Spec.PriorityClassName != "high" ||
		len(p.Spec.ImagePullSecrets) != 2 || p.Spec.NodeSelector["disk"] != "ssd" || len(p.Spec.Tolerations) != 1 ||
		p.Spec.Affinity == nil || len(p.Spec.TopologySpreadConstraints) != 1 || len(p.OwnerReferences) != 1 || c.Image != "pause:1" {
		t.Errorf("pod = %+v", p)
	}
	if c.Resources.Requests.Cpu().Value() != 1 || len(c.Resources.Limits) != 2 || c.Resources.Limits[gpu] != c.Resources.Requests[gpu] ||
		!equality.Semantic.DeepEqual(c.Resources.Limits, c.Resources.Requests) {
		t.Errorf("resources = %+v; want minResource, and limits alike", c.Resources)
	}
	yes, no := true, false
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: "driver", UID: "uid-driver", Controller: &no, BlockOwnerDeletion: &yes}
	if !equality.Semantic.DeepEqual(p.OwnerReferences, []metav1.OwnerReference{owner}) {
		t.Errorf("owners = %+v, want the originator", p.OwnerReferences)
	}
	if s := p.Spec.SecurityContext; s.RunAsUser != nil || s.RunAsGroup != nil || s.FSGroup != nil {
		t.Errorf("security context = %+v; want users and groups that nobody has configured left out", s)
	}
	if s := c.SecurityContext; !*s.ReadOnlyRootFilesystem || *s.Privileged || *s.AllowPrivilegeEscalation {
		t.Errorf("security context = %+v", s)
	}

	// The record is shared.
	p.Spec.NodeSelector["disk"], p.Spec.Tolerations[0].Key, *p.OwnerReferences[0].Controller = "x", "x", true
	p.Spec.Affinity.NodeAffinity = nil
	if after, _ := json.Marshal(app); string(after) != string(before) {
		t.Errorf("the record was changed:\n%s\n%s", before, after)
	}

	task, problems := workload.ParseTask(p)
	meta, more := workload.ParseApplication(p, nil, workload.DefaultUserLabel)
	if !task.Placeholder || task.TaskGroupName != "tg" || meta.ApplicationID != "app" || meta.QueueName != "root.q" || len(problems) > 0 {
		t.Errorf("read back: %+v, %+v, %q, %q", task, meta, problems, more)
	}
}

func TestPlaceholderOfAnAppWhoseIDIsNoLabel(t *testing.T) {
	app := gang()
	app.ID = strings.Repeat("x", 70)
	p, err := placeholder(create(app), podsConfig)
	if err != nil {
		t.Fatal(err)
	}
	if got := workload.AppID(p); got != app.ID {
		t.Errorf("app ID read back as %q", got)
	}
	if p.Labels[workload.KeyAppID] != "" || p.Labels[workload.LabelOldAppID] != "" {
		t.Errorf("labels = %v would be refused", p.Labels)
	}
}

func TestCreateOutcomes(t *testing.T) {
	exists := apierrors.NewAlreadyExists(podResource, "tg-tg-app-0")
	held := func(options ...option) *v1.Pod {
		p, err := placeholder(create(gang()), podsConfig)
		if err != nil {
			t.Fatal(err)
		}
		p.UID = "old"
		for _, o := range options {
			o(p)
		}
		return p
	}
	leaving := func(p *v1.Pod) { p.DeletionTimestamp, p.Finalizers = &metav1.Time{}, []string{"f"} }
	tests := []struct {
		name    string
		err     error // of the creation
		there   *v1.Pod
		fails   string // what PlaceholderFailed says, or empty
		again   bool
		deletes bool
		refusal error // of the deletion
	}{
		{"created", nil, nil, "", false, false, nil},
		{"exists", exists, held(), "", false, false, nil},
		{"exists and is leaving", exists, held(leaving), "", true, false, nil},
		{"exists and has ended", exists, held(in(v1.PodFailed)), "", true, true, nil},
		{"exists and may not go", exists, held(in(v1.PodFailed)), "webhook", false, true, apierrors.NewForbidden(podResource, "p", errors.New("webhook"))},
		{"exists and does not go", exists, held(in(v1.PodFailed)), "", true, true, apierrors.NewInternalError(errors.New("ill"))},
		{"name taken by another pod", exists, pod("tg-tg-app-0"), "is not this placeholder", false, false, nil},
		{"forbidden", apierrors.NewForbidden(podResource, "p", errors.New("maximum cpu usage per Container is 1")), nil, "maximum cpu", false, false, nil},
		{"no room in the quota", apierrors.NewForbidden(podResource, "p", errors.New("exceeded quota: q")), nil, "", true, false, nil},
		{"namespace gone", notFound, nil, "not found", false, false, nil},
		{"throttled", apierrors.NewTooManyRequests("later", 1), nil, "", true, false, nil},
		{"API server ill", apierrors.NewInternalError(errors.New("ill")), nil, "", true, false, nil},
		{"no connection", errors.New("refused"), nil, "", true, false, nil},
		{"term over", ErrFenced, nil, "", false, false, nil},
		{"term over for the API server", tooLate, nil, "", true, false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer()
			if tt.there != nil {
				s = newServer(tt.there)
			}
			if tt.refusal != nil {
				s.answer("delete", "pods", func(clienttesting.Action) (runtime.Object, error) { return nil, tt.refusal })
			}
			s.answer("create", "pods", func(a clienttesting.Action) (runtime.Object, error) {
				return a.(clienttesting.CreateAction).GetObject(), tt.err
			})
			p := NewPods(s, podsConfig, nil, quiet)
			defer p.Stop()
			pause := retries
			outcome, err := p.create(t.Context(), create(gang()))
			if again := p.settle(t.Context(), &pause, "", "", err) > 0; again != tt.again {
				t.Errorf("tried again: %v, want %v", again, tt.again)
			}
			e, failed := outcome.(ledger.PlaceholderFailed)
			if failed != (tt.fails != "") || outcome != nil && !failed {
				t.Errorf("event = %#v, want PlaceholderFailed: %t", outcome, tt.fails != "")
			}
			if failed && (e.At == 0 || e.AppID != "app" || !strings.Contains(e.Message, tt.fails)) {
				t.Errorf("event = %#v, want PlaceholderFailed that says %q", e, tt.fails)
			}
			deleted := false
			for _, a := range s.Actions() {
				if d, ok := a.(clienttesting.DeleteAction); ok {
					deleted = true
					if u := d.GetDeleteOptions().Preconditions.UID; u == nil || *u != "old" {
						t.Errorf("deleted with UID %v", u)
					}
				}
			}
			if deleted != tt.deletes {
				t.Errorf("deleted: %v, want %v", deleted, tt.deletes)
			}
		})
	}
}

func TestCreateRefusesWhatCannotBe(t *testing.T) {
	s, box := newServer(), newInbox()
	p := NewPods(s, podsConfig, box.sink, quiet)
	defer p.Stop()
	nobodys := create(gang())
	nobodys.Originator = nil
	p.Do(nobodys)
	if e, ok := box.next(t).(ledger.PlaceholderFailed); !ok || !strings.Contains(e.Message, "no pod") {
		t.Errorf("event = %#v", e)
	}
	other := create(gang())
	other.Group = "nothing"
	p.Do(other)
	if e, ok := box.next(t).(ledger.PlaceholderFailed); !ok || !strings.Contains(e.Message, "no task group") {
		t.Errorf("event = %#v", e)
	}
	if n := len(s.Actions()); n != 0 {
		t.Errorf("%d requests sent", n)
	}
}

func TestPlaceholderRunsAsConfigured(t *testing.T) {
	cfg := podsConfig
	cfg.RunAsUser, cfg.RunAsGroup, cfg.FSGroup = 1, 2, 3
	p, err := placeholder(create(gang()), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if s := p.Spec.SecurityContext; *s.RunAsUser != 1 || *s.RunAsGroup != 2 || *s.FSGroup != 3 {
		t.Errorf("security context = %+v", s)
	}
}

// What the pod did not ask for is not asked for by its placeholders: they would not be
// where the placement rules put the pod.
func TestPlaceholderAsksForNoQueueOfItsOwn(t *testing.T) {
	app := gang()
	app.Queue, app.PlacedQueue = "", "root.placed"
	p, err := placeholder(create(app), podsConfig)
	if err != nil {
		t.Fatal(err)
	}
	if queue := workload.Queue(p); queue != "" {
		t.Errorf("asks for %s", queue)
	}
}

// A quota that is full is told, once, and the placeholder made when there is room.
func TestQuotaThatHasRoomLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := 3
		s, box := newServer(), newInbox()
		s.answer("create", "pods", func(a clienttesting.Action) (runtime.Object, error) {
			if full--; full >= 0 {
				return nil, apierrors.NewForbidden(podResource, "p", errors.New("exceeded quota: q"))
			}
			return a.(clienttesting.CreateAction).GetObject(), nil
		})
		p := NewPods(s, podsConfig, box.sink, quiet)
		defer p.Stop()
		p.Do(create(gang()))
		p.Do(create(gang()))
		pass(time.Minute)
		if e, ok := box.next(t).(ledger.PlaceholderDelayed); !ok || e.AppID != "app" || !strings.Contains(e.Message, "exceeded quota") {
			t.Errorf("event = %#v", e)
		}
		box.empty(t)
		if n := len(s.Actions()); n != 4 {
			t.Errorf("%d requests, want 4", n)
		}
	})
}

// Creations wait for their pause, and are not carried out when they are taken back.
func TestPlaceholdersAreCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		p := NewPods(s, podsConfig, newInbox().sink, quiet)
		defer p.Stop()
		later := func(name string, pause time.Duration) ledger.CreatePlaceholder {
			e := create(gang())
			e.Name, e.Pause = name, pause
			return e
		}
		p.Do(later("soon", time.Second))
		p.Do(later("late", time.Hour))
		pass(time.Minute)
		if n := len(s.Actions()); n != 1 {
			t.Errorf("%d requests, want that of the one whose pause is over", n)
		}
		p.Do(ledger.CancelPlaceholders{AppID: "other"})
		p.Do(later("later", time.Hour))
		p.Do(ledger.CancelPlaceholders{AppID: "app"})
		p.Do(later("again", 0))
		pass(3 * time.Hour)
		if n := len(s.Actions()); n != 2 {
			t.Errorf("%d requests, want one more, asked for since", n)
		}
	})
}

func TestDeleteOutcomes(t *testing.T) {
	gone := ledger.CompleteTask{AppID: "app", TaskID: "uid-p"}
	ill := apierrors.NewInternalError(errors.New("ill"))
	no := apierrors.NewForbidden(podResource, "p", errors.New("webhook"))
	for _, tt := range []struct {
		name string
		err  error
		want ledger.Event
	}{
		{"deleted", nil, nil},
		{"gone", notFound, gone},
		{"another pod of the name", conflict, gone},
		{"failed", ill, ledger.DeleteFailed{AppID: "app", TaskID: "uid-p", Message: ill.Error()}},
		{"refused", no, ledger.DeleteFailed{AppID: "app", TaskID: "uid-p", Message: no.Error(), Refused: true}},
		{"term over", ErrFenced, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, box := newServer(), newInbox()
			sent := make(chan metav1.DeleteOptions, 1)
			s.answer("delete", "pods", func(a clienttesting.Action) (runtime.Object, error) {
				sent <- a.(clienttesting.DeleteAction).GetDeleteOptions()
				return nil, tt.err
			})
			p := NewPods(s, podsConfig, box.sink, quiet)
			held := task("p")
			held.Placeholder = true
			p.Do(ledger.DeletePod{Task: held})
			options := <-sent
			if options.Preconditions == nil || options.Preconditions.UID == nil || *options.Preconditions.UID != "uid-p" {
				t.Errorf("options = %+v, want the UID as precondition", options)
			}
			if options.GracePeriodSeconds == nil || *options.GracePeriodSeconds != 0 {
				t.Errorf("a placeholder is given %v seconds", options.GracePeriodSeconds)
			}
			if tt.want != nil {
				if got := box.next(t); got != tt.want {
					t.Errorf("event = %#v, want %#v", got, tt.want)
				}
			}
			p.Stop()
			box.empty(t)
		})
	}
}

func TestDeleteLeavesAPodItsGracePeriod(t *testing.T) {
	if grace := deletion("u", false).GracePeriodSeconds; grace != nil {
		t.Errorf("a pod is given %d seconds instead of its own", *grace)
	}
}

func TestFailPod(t *testing.T) {
	gone := ledger.CompleteTask{AppID: "app", TaskID: "uid-p"}
	failed := ledger.PodFailed{AppID: "app", TaskID: "uid-p"}
	for _, tt := range []struct {
		name   string
		pod    *v1.Pod
		err    error // of the patch
		want   ledger.Event
		writes bool
		again  bool
	}{
		{"unassigned", pod("p", version("5")), nil, failed, true, false},
		{"assigned", pod("p", on("n")), nil, ledger.BindDone{AppID: "app", TaskID: "uid-p", Node: "n"}, false, false},
		{"gone", nil, nil, gone, false, false},
		{"another pod of the name", pod("p", uid("other")), nil, gone, false, false},
		{"failed already", pod("p", in(v1.PodFailed)), nil, failed, false, false},
		{"gone meanwhile", pod("p", version("5")), notFound, gone, true, false},
		{"assigned meanwhile", pod("p", version("5")), conflict, nil, true, true},
		{"API server ill", pod("p", version("5")), errors.New("ill"), nil, true, true},
		{"term over", pod("p", version("5")), ErrFenced, nil, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer()
			if tt.pod != nil {
				s = newServer(tt.pod)
			}
			var patch string
			s.answer("patch", "pods", func(a clienttesting.Action) (runtime.Object, error) {
				if a.GetSubresource() != "status" {
					t.Errorf("patched subresource %q", a.GetSubresource())
				}
				patch = string(a.(clienttesting.PatchAction).GetPatch())
				return tt.pod, tt.err
			})
			p := NewPods(s, podsConfig, nil, quiet)
			defer p.Stop()
			pause := retries
			outcome, err := p.fail(t.Context(), ledger.FailPod{Task: task("p"), Reason: "ResourceReservationTimeout"})
			if again := p.settle(t.Context(), &pause, "", "", err) > 0; again != tt.again {
				t.Errorf("tried again: %v, want %v", again, tt.again)
			}
			if outcome != nil {
				if outcome.When() == 0 {
					t.Errorf("%T has no time", outcome)
				}
				outcome = timeless(outcome)
			}
			if outcome != tt.want {
				t.Errorf("event = %#v, want %#v", outcome, tt.want)
			}
			want := ""
			if tt.writes {
				want = `{"metadata":{"resourceVersion":"5","uid":"uid-p"},"status":{"message":"","phase":"Failed","reason":"ResourceReservationTimeout"}}`
			}
			if patch != want {
				t.Errorf("patch = %s\nwant    %s", patch, want)
			}
		})
	}
}

func TestExecutorsDoNotChangeCachedObjects(t *testing.T) {
	before := pod("p", version("5"))
	cached := before.DeepCopy()
	s, box := newServer(cached), newInbox()
	p := NewPods(s, podsConfig, box.sink, quiet)
	p.Do(ledger.FailPod{Task: task("p"), Reason: "r"})
	box.next(t)
	p.Stop()
	if !equality.Semantic.DeepEqual(before, cached) {
		t.Error("changed")
	}
}

func TestPermanent(t *testing.T) {
	for _, err := range []error{errors.New("x"), fmt.Errorf("w: %w", conflict), apierrors.NewUnauthorized("u"), apierrors.NewServiceUnavailable("s")} {
		if permanent(err) {
			t.Errorf("%v is permanent", err)
		}
	}
	for _, err := range []error{fmt.Errorf("w: %w", notFound), apierrors.NewBadRequest("b"), apierrors.NewInvalid(v1.SchemeGroupVersion.WithKind("Pod").GroupKind(), "p", nil)} {
		if !permanent(err) {
			t.Errorf("%v passes", err)
		}
	}
}

// TestAPodThatCannotBeFailedIsReported: the ledger decides when to try again, so that
// the attempt holds up no others.
func TestAPodThatCannotBeFailedIsReported(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error // of the patch, if get has none
		get  error
		want bool // refused for good
	}{
		{"refused", apierrors.NewForbidden(podResource, "p", errors.New("webhook")), nil, true},
		{"invalid", apierrors.NewInvalid(v1.SchemeGroupVersion.WithKind("Pod").GroupKind(), "p", nil), nil, true},
		{"conflict", conflict, nil, false},
		{"API server ill", apierrors.NewInternalError(errors.New("ill")), nil, false},
		{"no connection", errors.New("connection refused"), nil, false},
		{"cannot be read", nil, apierrors.NewServiceUnavailable("s"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, box := newServer(pod("p", version("5")), pod("q", version("5"))), newInbox()
				s.answer("patch", "pods", func(a clienttesting.Action) (runtime.Object, error) {
					if a.(clienttesting.PatchAction).GetName() == "p" {
						return nil, tt.err
					}
					return pod("q"), nil
				})
				if tt.get != nil {
					s.answer("get", "pods", func(a clienttesting.Action) (runtime.Object, error) {
						if a.(clienttesting.GetAction).GetName() == "p" {
							return nil, tt.get
						}
						return pod("q", version("5")), nil
					})
				}
				p := NewPods(s, PodsConfig{Tenure: tenure, Image: "pause:1", Workers: 1}, box.sink, quiet)
				defer p.Stop()
				p.Do(ledger.FailPod{Task: task("p"), Reason: "r"})
				p.Do(ledger.FailPod{Task: task("q"), Reason: "r"})
				pass(time.Hour)
				got, ok := box.next(t).(ledger.PodNotFailed)
				if want := (ledger.PodNotFailed{AppID: "app", TaskID: "uid-p", Message: cmp.Or(tt.err, tt.get).Error(), Refused: tt.want}); !ok || got != want {
					t.Errorf("event = %#v, want %#v", got, want)
				}
				if next := box.next(t); next != (ledger.PodFailed{AppID: "app", TaskID: "uid-q"}) {
					t.Errorf("then %#v", next)
				}
				box.empty(t)
			})
		})
	}
}

// creations has the server create pods, one at a time and none before all is closed. It keeps
// the order of their names.
func creations(s *server) (order *[]string, all chan struct{}) {
	order, all = new([]string), make(chan struct{})
	s.answer("create", "pods", func(a clienttesting.Action) (runtime.Object, error) {
		<-all
		made := a.(clienttesting.CreateAction).GetObject().(*v1.Pod)
		*order = append(*order, made.Name)
		return made, nil
	})
	return order, all
}

// comeAtOnce wants n placeholders of each gang, in turn: a0 b0 a1 b1.
func comeAtOnce(p *Pods, n int, gangs ...string) {
	for i := range n {
		for _, id := range gangs {
			app := gang()
			app.ID = id
			e := create(app)
			e.Name = fmt.Sprint(id, i)
			p.Do(e)
		}
	}
}

// TestGangsAreMadeInTurn: the first of several gangs that come at once is whole before the next is begun.
func TestGangsAreMadeInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		order, all := creations(s)
		p := NewPods(s, PodsConfig{Tenure: tenure, Image: "pause:1", Workers: 1}, newInbox().sink, quiet)
		defer p.Stop()
		comeAtOnce(p, 4, "a", "b", "c")
		close(all)
		pass(time.Minute)
		// The first may be under way before the others come.
		if got := strings.Join(*order, " "); got != "a0 a1 a2 a3 b0 b1 b2 b3 c0 c1 c2 c3" && got != "a0 b0 b1 b2 b3 c0 c1 c2 c3 a1 a2 a3" {
			t.Errorf("placeholders were made in the order %s", got)
		}
	})
}

// What is to go, or to fail, does before more is made, however much is to be made.
func TestDeletionsComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		order, all := creations(s)
		s.answer("delete", "pods", func(a clienttesting.Action) (runtime.Object, error) {
			*order = append(*order, a.(clienttesting.DeleteAction).GetName())
			return nil, nil
		})
		s.answer("get", "pods", func(a clienttesting.Action) (runtime.Object, error) { // to be failed
			name := a.(clienttesting.GetAction).GetName()
			*order = append(*order, name)
			return nil, apierrors.NewNotFound(v1.Resource("pods"), name)
		})
		p := NewPods(s, PodsConfig{Tenure: tenure, Image: "pause:1", Workers: 1}, newInbox().sink, quiet)
		defer p.Stop()
		comeAtOnce(p, 3, "a", "b")
		synctest.Wait()
		for _, name := range []string{"x0", "y0", "x1", "y1"} {
			gone := task(name)
			gone.AppID = name[:1]
			p.Do(ledger.DeletePod{Task: gone})
		}
		failed := task("z0")
		failed.AppID = "z"
		p.Do(ledger.FailPod{Task: failed})
		close(all)
		pass(time.Minute)
		// One was under way. What is made after it is in turn, whoever's that is.
		if got := strings.Join((*order)[1:6], " "); got != "x0 x1 y0 y1 z0" || len(*order) != 11 {
			t.Errorf("the order was %s", *order)
		}
	})
}
