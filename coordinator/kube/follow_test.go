package kube

import (
	"bytes"
	"context"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	clienttesting "k8s.io/client-go/testing"
)

func node(name, rv string) *v1.Node {
	return &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: rv, UID: "n"}}
}

func queues(name, value string) *v1.ConfigMap {
	return &v1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "own", Name: name},
		Data:       map[string]string{"queues.yaml": value},
	}
}

func TestFollowTellsWhatExistsThenWhatChanges(t *testing.T) {
	s := newServer(node("n", "1"), pod("a"), pod("b"))
	c, j := s.cluster(t, ClusterConfig{}), newJournal()
	if err := c.Follow(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if got := len(j.calls); got != 3 { // before Follow returned
		t.Errorf("%d calls, want 3", got)
	}
	j.expect(t, "set node n 1", "set uid-a 1", "set uid-b 1")
	if err := c.Follow(t.Context(), newJournal()); err == nil {
		t.Error("a second follower was taken")
	}

	pods := s.CoreV1().Pods("ns")
	ctx := t.Context()
	_, err := pods.Update(ctx, pod("a", version("2")), metav1.UpdateOptions{})
	fatal(t, err)
	j.expect(t, "set uid-a 2")
	fatal(t, pods.Delete(ctx, "b", metav1.DeleteOptions{}))
	j.expect(t, "remove uid-b")
	fatal(t, s.CoreV1().Nodes().Delete(ctx, "n", metav1.DeleteOptions{}))
	j.expect(t, "remove node n")

	c.Unfollow()
	_, err = pods.Update(ctx, pod("a", version("3")), metav1.UpdateOptions{})
	fatal(t, err)
	for c.Pods()[0].ResourceVersion != "3" {
		if ctx.Err() != nil {
			t.Fatal("the store did not get the change")
		}
	}
	c.feed.catchUp()
	j.none(t)

	again := newJournal()
	fatal(t, c.Follow(ctx, again))
	again.expect(t, "set uid-a 3")
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The store is what counts, not the events: these can be late, double, or
// missing one of two pods that had the same name.
func TestFeedComparesWithTheStore(t *testing.T) {
	c := New(newServer().clients(), ClusterConfig{}, quiet)
	j, store := newJournal(), c.pods.GetStore()
	c.feed.follower, c.feed.nodes, c.feed.pods = j, map[string]*v1.Node{}, map[string]*v1.Pod{}

	fatal(t, store.Add(pod("a", version("5"))))
	c.feed.pod("ns/a")
	c.feed.pod("ns/a") // a late event
	j.expect(t, "set uid-a 5")
	j.none(t)

	fatal(t, store.Update(pod("a", uid("second"), version("9"))))
	c.feed.pod("ns/a")
	j.expect(t, "remove uid-a", "set second 9")

	fatal(t, store.Delete(pod("a")))
	c.feed.all()
	j.expect(t, "remove second")
	c.feed.pod("ns/a")
	j.none(t)
}

func TestFollowWaitsForTheListing(t *testing.T) {
	c := New(newServer().clients(), ClusterConfig{ConfigMaps: []string{"yunikorn-configs"}}, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	j := newJournal()
	err := c.Follow(ctx, j)
	if err == nil || !strings.Contains(err.Error(), "configmap-yunikorn-configs, ") || !strings.Contains(err.Error(), "pods") {
		t.Errorf("error = %v; want one that names the informers", err)
	}
	j.none(t)
}

func TestInformersRunOnce(t *testing.T) {
	s := newServer()
	c := s.cluster(t, ClusterConfig{})
	if err := c.Run(t.Context()); err == nil {
		t.Error("run twice")
	}
	for name, synced := range c.Synced() {
		if !synced {
			t.Errorf("%s is not synced", name)
		}
	}
}

func TestLookUps(t *testing.T) {
	s := newServer(&v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}, pod("a"))
	c := s.cluster(t, ClusterConfig{})
	if c.Namespace("ns") == nil || c.Namespace("other") != nil || c.PriorityClass("none") != nil {
		t.Error("wrong namespace or priority class")
	}
	if c.PodCount() != 1 || c.Pods()[0].Name != "a" || len(c.PodInformer().GetStore().List()) != 1 {
		t.Error("wrong pods")
	}
}

// filterConfigMaps has the fake heed field selectors, and hand every watcher an
// object of its own, as the real one does.
func (s *server) filterConfigMaps() {
	resource := v1.SchemeGroupVersion.WithResource("configmaps")
	s.PrependReactor("list", "configmaps", func(a clienttesting.Action) (bool, runtime.Object, error) {
		list := &v1.ConfigMapList{}
		name, _ := a.(clienttesting.ListAction).GetListRestrictions().Fields.RequiresExactMatch("metadata.name")
		if cm, err := s.Tracker().Get(resource, a.GetNamespace(), name); err == nil {
			list.Items = append(list.Items, *cm.(*v1.ConfigMap).DeepCopy())
		}
		return true, list, nil
	})
	s.PrependWatchReactor("configmaps", func(a clienttesting.Action) (bool, watch.Interface, error) {
		name, _ := a.(clienttesting.WatchAction).GetWatchRestrictions().Fields.RequiresExactMatch("metadata.name")
		all, err := s.Tracker().Watch(resource, a.GetNamespace())
		if err != nil {
			return true, nil, err
		}
		return true, watch.Filter(all, func(in watch.Event) (watch.Event, bool) {
			cm := in.Object.(*v1.ConfigMap)
			return watch.Event{Type: in.Type, Object: cm.DeepCopy()}, cm.Name == name
		}), nil
	})
}

func TestConfiguration(t *testing.T) {
	names := []string{"yunikorn-defaults", "yunikorn-configs"}
	s := newServer(queues("yunikorn-defaults", "default"), queues("unrelated", "x"))
	s.filterConfigMaps()
	c, j := s.cluster(t, ClusterConfig{Namespace: "own", ConfigMaps: names}), newJournal()
	got, err := c.Configuration()
	if err != nil || got["queues.yaml"] != "default" {
		t.Fatalf("configuration = %v, %v", got, err)
	}
	fatal(t, c.Follow(t.Context(), j))
	j.none(t) // nothing new since
	if cm := c.ConfigMap(); cm == nil || cm.Name != "yunikorn-defaults" {
		t.Errorf("the ConfigMap that counts is %v", cm)
	}

	maps, ctx := s.CoreV1().ConfigMaps("own"), t.Context()
	_, err = maps.Create(ctx, queues("yunikorn-configs", "mine"), metav1.CreateOptions{})
	fatal(t, err)
	j.expect(t, "configure mine")
	if cm := c.ConfigMap(); cm == nil || cm.Name != "yunikorn-configs" {
		t.Errorf("the ConfigMap that counts is %v", cm)
	}

	bad := queues("yunikorn-configs", "mine")
	bad.BinaryData = map[string][]byte{"x.gz": []byte("??")}
	_, err = maps.Update(ctx, bad, metav1.UpdateOptions{})
	fatal(t, err)
	j.expect(t, "refuse ConfigMap yunikorn-configs: x.gz: neither gzip nor gzip in base64")
	if got, err := c.Configuration(); err == nil {
		t.Errorf("configuration = %v in spite of a value that cannot be read", got)
	}

	fatal(t, maps.Delete(ctx, "yunikorn-configs", metav1.DeleteOptions{}))
	j.expect(t, "configure default")
	if none := s.cluster(t, ClusterConfig{Namespace: "elsewhere", ConfigMaps: names}); none.ConfigMap() != nil {
		t.Errorf("one that does not exist: %v", none.ConfigMap())
	}
	abroad := s.cluster(t, ClusterConfig{Namespace: "elsewhere", ConfigMaps: names, ConfigMapNamespace: "own"})
	got, err = abroad.Configuration()
	if cm := abroad.ConfigMap(); err != nil || got["queues.yaml"] != "default" || cm == nil || cm.Namespace != "own" {
		t.Errorf("in another namespace: %v, %v of %v", got, err, cm)
	}
}

func TestWatchErrorsAreReportedOncePerReason(t *testing.T) {
	var b bytes.Buffer
	r := newWatchReport("pods", textLog(&b))
	for range 5 {
		r.failed(apierrors.NewUnauthorized("token"))
	}
	r.failed(apierrors.NewServiceUnavailable("away"))
	if got := strings.Count(b.String(), "informer=pods"); got != 2 {
		t.Errorf("%d lines, want 2:\n%s", got, b.String())
	}
}
