package history

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/understudy-ha/understudy/replica/etcdtest"
)

// store writes a pod as an API server does and returns the revision.
func store(t *testing.T, cli *clientv3.Client, p *v1.Pod) int64 {
	t.Helper()
	p = p.DeepCopy()
	p.ResourceVersion = "" // which the API server does not store
	codec := scheme.Codecs.EncoderForVersion(protobuf.NewSerializer(scheme.Scheme, scheme.Scheme), v1.SchemeGroupVersion)
	raw, err := runtime.Encode(codec, p)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(raw, []byte("k8s\x00")) {
		t.Fatalf("the pod is stored as %.20q", raw)
	}
	return put(t, cli, storedPods+p.Namespace+"/"+p.Name, string(raw))
}

// restarted follows an API server that was started anew and so does not know what
// happened after the first listing, at rev.
func restarted(t *testing.T, cli *clientv3.Client, rev int64, later listing, p ...*v1.Pod) *Cluster {
	t.Helper()
	expired := apierrors.NewResourceExpired("too old")
	s := &server{lists: []listing{{pods: p, rev: fmt.Sprint(rev)}, later}, watches: []any{expired}}
	c := newCluster(nil, NewStore(cli))
	f := c.podFollower(quiet())
	f.list, f.watch = s.list, s.watch
	ctx, cancel := context.WithCancel(t.Context())
	from, err := f.start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c.based = true
	var wg sync.WaitGroup
	wg.Go(func() { f.run(ctx, from) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		asked := len(s.asked)
		s.mu.Unlock()
		if asked == 2 { // what it does not know was got over
			return c
		}
		if time.Since(begun) > time.Minute {
			t.Fatal("the watch was not taken up again")
		}
	}
}

func TestWhatARestartedAPIServerDoesNotKnowIsReadFromItsEtcd(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	rev := store(t, cli, testPod("a", 0, ""))
	store(t, cli, testPod("b", 0, ""))
	bound := testPod("b", 0, "n1")
	bound.Annotations = map[string]string{EpochAnnotation: "7"}
	store(t, cli, bound)
	put(t, cli, storedNodes+"n1", "no pod")
	if _, err := cli.Delete(t.Context(), storedPods+"ns/b"); err != nil {
		t.Fatal(err)
	}
	store(t, cli, testPod("a", 0, "n2"))
	put(t, cli, storedNodes+"n2", "nor this")

	c := restarted(t, cli, rev, listing{}, testPod("a", int(rev), ""))
	at := func(n int64, what string) string { return fmt.Sprintf("%d %s", rev+n, what) }
	want(t, "events", lines(c.Pods()), []string{
		at(0, "base a "), at(1, "added b "), at(2, "changed b n1"), at(4, "gone b n1"), at(5, "changed a n2"),
	})
	if epoch := c.Pods()[2].Pod.Epoch; epoch != 7 {
		t.Errorf("b was bound by epoch %d", epoch)
	}
	if gaps := c.Gaps(); len(gaps) != 0 {
		t.Errorf("gaps: %+v", gaps)
	}
}

// Where etcd has compacted the revisions too, nobody knows what happened.
func TestWhatEtcdHasCompactedIsAGap(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	rev := store(t, cli, testPod("a", 0, ""))
	store(t, cli, testPod("a", 0, "n1"))
	last := store(t, cli, testPod("a", 0, "n2"))
	if _, err := cli.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	c := restarted(t, cli, rev, listing{pods: []*v1.Pod{testPod("a", int(last), "n2")}, rev: fmt.Sprint(last)},
		testPod("a", int(rev), ""))
	want(t, "events", lines(c.Pods()), []string{fmt.Sprintf("%d base a ", rev), fmt.Sprintf("%d changed a n2", last)})
	if gaps := c.Gaps(); len(gaps) != 1 || gaps[0].After != uint64(rev) || gaps[0].Until != uint64(last) {
		t.Errorf("gaps: %+v, want one from %d to %d", gaps, rev, last)
	}
}
