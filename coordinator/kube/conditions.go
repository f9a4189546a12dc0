package kube

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/understudy-ha/understudy/coordinator/explain"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// Reasons of the condition PodScheduled=False. Autoscalers add nodes for pods with
// the first, and for those alone: a node more does not help a pod that waits for a
// quota, for its gang or for its application's turn. They are YuniKorn's (k8shim,
// Context.HandleContainerStateUpdate).
const (
	ReasonUnschedulable = v1.PodReasonUnschedulable
	ReasonSkipped       = "SchedulingSkipped"
)

const (
	// conditionRate and conditionBurst bound the writes of conditions. They tell
	// every watcher of pods, and change nothing for the pod.
	conditionRate  = 50 // a second
	conditionBurst = 100
	// conditionWorkers is how many are in flight at a time.
	conditionWorkers = 4
	// conditionBacklog is of how many pods a write may wait. Those beyond it are told
	// when why they wait changes.
	conditionBacklog = 20_000
	// conditionTries is how often a request is sent for one condition.
	conditionTries = 5
)

// conditions write into the status of pods why they wait. The newest reason wins,
// one write a pod is in flight, and none is sent that says what the pod says. The
// pod's version is a precondition, so that what was true of a waiting pod is never
// written over the True of a bound one.
type conditions struct {
	client  kubernetes.Interface
	cfg     RecorderConfig
	log     *slog.Logger
	pool    *pool
	limiter *rate.Limiter

	mu sync.Mutex
	// wanted is what pods have to say whose write waits or is in flight.
	wanted map[types.UID]wanted
	number uint64
}

type wanted struct{ reason, message string }

func newConditions(client kubernetes.Interface, cfg RecorderConfig, log *slog.Logger) *conditions {
	return &conditions{
		client: client, cfg: cfg, log: log,
		pool:    newPool(conditionWorkers, nil),
		limiter: rate.NewLimiter(conditionRate, conditionBurst),
		wanted:  make(map[types.UID]wanted),
	}
}

// want has a pod say why it waits, and returns at once.
func (c *conditions) want(pod *v1.Pod, reason, message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, underWay := c.wanted[pod.UID]
	if !underWay && len(c.wanted) >= conditionBacklog {
		return
	}
	c.wanted[pod.UID] = wanted{reason, cut(message, maxEventMessage)}
	if underWay {
		return
	}
	uid, namespace, name := pod.UID, pod.Namespace, pod.Name
	tries := 0
	pause := retries
	c.number++ // a job that is about to end does not stand for this one
	c.pool.add("", string(uid), strconv.FormatUint(c.number, 10), func(ctx context.Context) (ledger.Event, time.Duration) {
		for {
			w := c.newest(uid)
			err := c.write(ctx, uid, namespace, name, w)
			if tries++; err != nil && !over(ctx, err) && !permanent(err) && tries < conditionTries {
				return nil, pause.Step()
			}
			if err != nil && !over(ctx, err) {
				c.log.Warn("condition not written", "pod", namespace+"/"+name, "reason", w.reason, "err", err)
			}
			if c.done(uid, w) {
				return nil, 0
			}
			tries, pause = 0, retries
		}
	})
}

func (c *conditions) newest(uid types.UID) wanted {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wanted[uid]
}

// done reports whether nothing newer than w is wanted of a pod.
func (c *conditions) done(uid types.UID, w wanted) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wanted[uid] != w {
		return false
	}
	delete(c.wanted, uid)
	return true
}

// write makes one attempt.
func (c *conditions) write(ctx context.Context, uid types.UID, namespace, name string, w wanted) error {
	if c.due(uid, namespace, name, w) == nil {
		return nil
	}
	if err := c.limiter.Wait(ctx); err != nil {
		return err
	}
	if err := c.cfg.Yield(ctx); err != nil {
		return err
	}
	pod := c.due(uid, namespace, name, w) // it may have been bound meanwhile
	if pod == nil {
		return nil
	}
	patch, err := conditionPatch(pod, w, time.Now())
	if err != nil {
		return err
	}
	request, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = c.client.CoreV1().Pods(namespace).Patch(request, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// due returns a pod, as it is known now, that still waits and says something else
// than w.
func (c *conditions) due(uid types.UID, namespace, name string, w wanted) *v1.Pod {
	pod := c.cfg.Pod(namespace, name)
	if pod == nil || pod.UID != uid || pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil ||
		workload.Terminated(pod) || says(pod, w.reason, w.message) {
		return nil
	}
	if scheduled := scheduledCondition(pod); scheduled != nil && scheduled.Status == v1.ConditionTrue {
		return nil
	}
	return pod
}

// says reports whether the condition of a pod gives that reason already, but for
// numbers.
func says(pod *v1.Pod, reason, message string) bool {
	c := scheduledCondition(pod)
	return c != nil && c.Status == v1.ConditionFalse && c.Reason == reason &&
		explain.Kind(c.Message) == explain.Kind(cut(message, maxEventMessage))
}

func scheduledCondition(pod *v1.Pod) *v1.PodCondition {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == v1.PodScheduled {
			return c
		}
	}
	return nil
}

// conditionPatch merges the condition into those of the pod, by its type.
func conditionPatch(pod *v1.Pod, w wanted, now time.Time) ([]byte, error) {
	condition := map[string]any{
		"type": v1.PodScheduled, "status": v1.ConditionFalse, "reason": w.reason, "message": w.message,
	}
	if pod.Generation > 0 {
		condition["observedGeneration"] = pod.Generation
	}
	if known := scheduledCondition(pod); known == nil || known.Status != v1.ConditionFalse {
		condition["lastTransitionTime"] = metav1.NewTime(now)
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion},
		"status":   map[string]any{"conditions": []any{condition}},
	})
}
