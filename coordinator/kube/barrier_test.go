package kube

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
)

// waiting is a barrier under way in a bubble.
type waiting struct {
	done bool
	err  error
}

func passing(ctx context.Context, c *Cluster, s *server) *waiting {
	w := &waiting{}
	go func() {
		w.err = c.Barrier(ctx, s, 7)
		w.done = true
	}()
	return w
}

// expect lets time pass and checks whether the barrier has been passed.
func (w *waiting) expect(t *testing.T, done bool, why string) {
	t.Helper()
	pass(time.Second)
	if w.done != done {
		t.Fatalf("passed = %v (%v); %s", w.done, w.err, why)
	}
}

// cluster returns one whose informers do not run: the test fills the store.
func idle(s *server, cfg ClusterConfig) *Cluster { return New(s.clients(), cfg, quiet) }

// lists answers metadata listings with pods at a version.
func (s *server) lists(version string, pods ...*v1.Pod) {
	s.meta.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		list := &metav1.List{ListMeta: metav1.ListMeta{ResourceVersion: version}}
		for _, p := range pods {
			list.Items = append(list.Items, runtime.RawExtension{Object: &metav1.PartialObjectMetadata{ObjectMeta: p.ObjectMeta}})
		}
		return true, list, nil
	})
}

func TestBarrierInAPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		var patched string
		s.answer("patch", "pods", func(a clienttesting.Action) (runtime.Object, error) {
			p := a.(clienttesting.PatchAction)
			patched = p.GetNamespace() + "/" + p.GetName() + " " + string(p.GetPatch())
			return pod("self", version("100")), nil
		})
		c := idle(s, ClusterConfig{Namespace: "own", PodName: "self"})
		w := passing(t.Context(), c, s)
		fatal(t, c.pods.GetStore().Add(pod("a", version("99"))))
		w.expect(t, false, "the own write has not been delivered")
		self := pod("self", version("100"))
		self.Namespace = "own"
		fatal(t, c.pods.GetStore().Add(self))
		w.expect(t, false, "the store is ahead of the events, which nobody has handled")
		c.feed.mu.Lock()
		c.feed.passed(self)
		c.feed.mu.Unlock()
		w.expect(t, true, "it has been handled")
		if want := `own/self {"metadata":{"annotations":{"understudy.dev/epoch":"7"},"labels":{"understudy.dev/role":"lead"}}}`; patched != want {
			t.Errorf("patched %s\nwant    %s", patched, want)
		}
		fatal(t, w.err)
	})
}

func TestBarrierInABusyCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.lists("100", pod("a", version("90")))
		c := idle(s, ClusterConfig{})
		w := passing(t.Context(), c, s)
		w.expect(t, false, "nothing has been delivered")
		fatal(t, c.pods.GetStore().Add(pod("other", version("101"))))
		w.expect(t, true, "a newer change of any pod has been delivered")
		fatal(t, w.err)
	})
}

// In an idle cluster no event takes the store past the version of the listing.
func TestBarrierInAnIdleCluster(t *testing.T) {
	tests := []struct {
		name  string
		lack  []*v1.Pod // what the store holds at first
		then  func(*Cluster) error
		short string
	}{
		{"a pod is missing", []*v1.Pod{pod("a", version("10"))}, func(c *Cluster) error { return c.pods.GetStore().Add(pod("b", version("20"))) }, "b is not there"},
		{"a pod is old", []*v1.Pod{pod("a", version("10")), pod("b", version("15"))}, func(c *Cluster) error { return c.pods.GetStore().Update(pod("b", version("20"))) }, "b is at 15"},
		{"a pod has gone", []*v1.Pod{pod("a", version("10")), pod("b", version("20")), pod("c", version("5"))}, func(c *Cluster) error { return c.pods.GetStore().Delete(pod("c", version("30"))) }, "c is still there"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				s.lists("100", pod("a", version("10")), pod("b", version("20")))
				c := idle(s, ClusterConfig{})
				for _, p := range tt.lack {
					fatal(t, c.pods.GetStore().Add(p))
				}
				w := passing(t.Context(), c, s)
				w.expect(t, false, tt.short)
				fatal(t, tt.then(c))
				w.expect(t, true, "the store agrees with the listing")
				fatal(t, w.err)
			})
		})
	}
	t.Run("a pod that is newer than the listing does not matter", func(t *testing.T) {
		c := idle(newServer(), ClusterConfig{})
		fatal(t, c.pods.GetStore().Add(pod("new", version("101"))))
		if ok, err := c.agrees(nil, "100"); !ok || err != nil {
			t.Errorf("agrees = %v, %v", ok, err)
		}
	})
}

// The barrier covers the follower: what the store has is what it was told.
func TestBarrierBringsTheFollowerUpToDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, j := newServer(), newJournal()
		s.lists("10", pod("a", version("10")))
		c := idle(s, ClusterConfig{})
		c.feed.follower, c.feed.nodes, c.feed.pods = j, map[string]*v1.Node{}, map[string]*v1.Pod{}
		fatal(t, c.pods.GetStore().Add(pod("a", version("10")))) // the event is still on its way
		fatal(t, c.Barrier(t.Context(), s, 1))
		j.expect(t, "set uid-a 10")
	})
}

func TestBarrierTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		tries := 0
		s.meta.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			if tries++; tries < 3 {
				return true, nil, apierrors.NewServiceUnavailable("away")
			}
			return true, &metav1.List{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(tries)}}, nil
		})
		fatal(t, idle(s, ClusterConfig{}).Barrier(t.Context(), s, 1))
		if tries < 3 {
			t.Errorf("%d tries", tries)
		}
	})
}

func TestBarrierComparesWhereTheOwnPodDoesNotExist(t *testing.T) {
	s := newServer()
	s.lists("1")
	fatal(t, idle(s, ClusterConfig{Namespace: "own", PodName: "nobody"}).Barrier(t.Context(), s, 1))
}

func TestBarrierEndsWithTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, lost := newServer(), errors.New("lease lost")
		s.lists("100", pod("a"))
		ctx, cancel := context.WithCancelCause(t.Context())
		w := passing(ctx, idle(s, ClusterConfig{}), s)
		w.expect(t, false, "the store is empty")
		cancel(lost)
		w.expect(t, true, "the term is over")
		if !errors.Is(w.err, lost) {
			t.Errorf("error = %v", w.err)
		}
	})
	t.Run("fenced", func(t *testing.T) {
		s := newServer()
		s.answer("patch", "pods", func(clienttesting.Action) (runtime.Object, error) { return nil, ErrFenced })
		err := idle(s, ClusterConfig{Namespace: "own", PodName: "self"}).Barrier(t.Context(), s, 1)
		if !errors.Is(err, ErrFenced) || !strings.Contains(err.Error(), "pod barrier") {
			t.Errorf("error = %v", err)
		}
	})
}
