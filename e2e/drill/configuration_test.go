package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
)

const queueConfigMap = "yunikorn-configs"

// setQueues writes the queue configuration, and returns the one before.
func setQueues(t *testing.T, s *Session, queues string) (before string) {
	t.Helper()
	return setKey(t, s, "queues.yaml", queues)
}

// setKey writes one key of the configuration.
func setKey(t *testing.T, s *Session, key, value string) (before string) {
	t.Helper()
	maps := s.Lab.Client().CoreV1().ConfigMaps(s.state.Namespace)
	cm, err := maps.Get(t.Context(), queueConfigMap, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	before = cm.Data[key]
	cm.Data[key] = value
	if _, err := maps.Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	return before
}

// toldOfQueues waits for an Event on the ConfigMap.
func toldOfQueues(t *testing.T, s *Session, kind, reason string) {
	t.Helper()
	eventually(t, reason+" to be told", func(ctx context.Context) (bool, error) {
		list, err := s.Lab.Client().CoreV1().Events(s.state.Namespace).List(ctx, metav1.ListOptions{
			FieldSelector: fields.Set{"involvedObject.name": queueConfigMap, "reason": reason, "type": kind}.String(),
		})
		return err == nil && len(list.Items) > 0, err
	})
}

// allSay waits until the configuration of every replica is as it should be.
func allSay(t *testing.T, s *Session, so func(serve.Configuration) bool) {
	t.Helper()
	eventually(t, "every replica to say which configuration is in force", func(ctx context.Context) (bool, error) {
		var errs []error
		for _, name := range s.state.Replicas() {
			now, err := s.Lab.Replica(name).Status(ctx)
			if err == nil && !so(now.Configuration) {
				err = fmt.Errorf("%s: %+v", name, now.Configuration)
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...) == nil, errors.Join(errs...)
	})
}

// TestAConfigMapThatIsNotValidEndsNoLeadership: the last valid configuration outlives
// every process that has seen it, quotas and all, and one that is valid again counts.
func TestAConfigMapThatIsNotValidEndsNoLeadership(t *testing.T) {
	t.Parallel()
	l := up(t, nil)
	s := begin(t, l)
	n := 0
	schedules := func() {
		t.Helper()
		n++
		bound(t, s, create(t, s, podOf("keeps-on", fmt.Sprint("keeps-on-", n))))
	}
	schedules()
	allSay(t, s, func(c serve.Configuration) bool {
		return c.Source == "configmap" && c.Error == "" && !c.Accepted.IsZero()
	})

	before := setQueues(t, s, "partitions: [")
	toldOfQueues(t, s, v1.EventTypeWarning, "ConfigurationRefused")
	schedules()
	for range 3 { // as many as have ever seen it
		succeed(t, s, nil)
		schedules()
	}
	startAnew(t, s, func() {})
	schedules()
	allSay(t, s, func(c serve.Configuration) bool {
		return c.Source == "mirror" && c.Epoch > 0 && strings.Contains(c.Error, "queues.yaml")
	})
	wide := create(t, s, podOf("keeps-on", "wide", requests("30000"))) // more than the quota
	schedules()

	setQueues(t, s, before)
	toldOfQueues(t, s, v1.EventTypeNormal, "ConfigurationAccepted")
	allSay(t, s, func(c serve.Configuration) bool { return c.Source == "configmap" && c.Error == "" })
	schedules()
	succeed(t, s, nil)
	schedules()
	if pod, err := l.Client().CoreV1().Pods("default").Get(t.Context(), wide.Name, metav1.GetOptions{}); err != nil || pod.Spec.NodeName != "" {
		t.Errorf("a pod above the quota: %v, %v", pod.Spec.NodeName, err)
	}
	if err := s.Delete(t.Context(), wide); err != nil {
		t.Fatal(err)
	}
	cfg := load.Default()
	cfg.Pods, cfg.Timeout = 50, patience
	g, err := s.Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Run(t.Context()); err != nil {
		t.Error(err)
	}
	v, err := s.Verdict(t.Context())
	report(t, v, err)
}

// TestAQueueThatIsGoneOutlivesItsLead: its applications go on under its quota, in the
// engine of a successor, and of replicas that have never seen the queue, until it is
// taken back and after.
func TestAQueueThatIsGoneOutlivesItsLead(t *testing.T) {
	t.Parallel()
	l := up(t, func(o *lab.Options) { o.Queues = lab.Queues("1", "8Gi") })
	s := begin(t, l)
	n := 0
	next := func() *v1.Pod {
		n++
		return create(t, s, podOf("goes-on", fmt.Sprint("goes-on-", n), requests("300m")))
	}
	first := next()
	bound(t, s, first)
	changed := func(queues string) (before string) {
		t.Helper()
		var accepted time.Time
		allSay(t, s, func(c serve.Configuration) bool {
			if c.Accepted.After(accepted) {
				accepted = c.Accepted
			}
			return c.Source == "configmap" && c.Error == ""
		})
		before = setQueues(t, s, queues)
		allSay(t, s, func(c serve.Configuration) bool { return c.Accepted.After(accepted) })
		return before
	}
	before := changed("partitions: [{name: default, queues: [{name: root, submitacl: '*', queues: [{name: other}]}]}]")
	succeed(t, s, nil)
	bound(t, s, next())
	startAnew(t, s, func() {})
	bound(t, s, next())
	wide := next()
	eventually(t, "the quota of the queue to hold", func(ctx context.Context) (bool, error) {
		pod, err := l.Client().CoreV1().Pods(wide.Namespace).Get(ctx, wide.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if pod.Spec.NodeName != "" {
			t.Fatalf("a pod above the quota is bound to %s", pod.Spec.NodeName)
		}
		return slices.ContainsFunc(pod.Status.Conditions, func(c v1.PodCondition) bool {
			return c.Type == v1.PodScheduled && c.Reason == kube.ReasonSkipped
		}), nil
	})
	changed(before)
	succeed(t, s, nil)
	if err := s.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	bound(t, s, wide)
	if failed, err := logged(s, "are set aside"); failed || err != nil {
		t.Errorf("an account was wrong: %v, %v", failed, err)
	}
}
