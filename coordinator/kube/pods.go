package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// PodsConfig tunes Pods; Tenure and Image are required.
type PodsConfig struct {
	// Tenure says in which term placeholders are created.
	Tenure Tenure
	// SchedulerName is the scheduler of placeholders; empty means YuniKorn's.
	SchedulerName string
	// Image is what placeholders run: a program that does nothing.
	Image string
	// RunAsUser, RunAsGroup and FSGroup are those of placeholders; zero leaves them to
	// the image and the namespace.
	RunAsUser, RunAsGroup, FSGroup int64
	// Workers is how many requests are in flight at a time; zero selects 8.
	Workers int
}

// Pods creates placeholders, deletes pods and fails pods. To delete and to fail come first: it
// has a gang begin, or makes room, where to create has one more reserve. What has been created
// or deleted is confirmed by what the pod informer then sees; only what cannot
// be done, and what the informer will not tell, becomes an event for the sink.
// Nothing does once the term is over, for the successor decides then.
type Pods struct {
	client kubernetes.Interface
	cfg    PodsConfig
	log    *slog.Logger
	pool   *pool
}

// NewPods makes the executor. client should be fenced.
func NewPods(client kubernetes.Interface, cfg PodsConfig, sink Sink, log *slog.Logger) *Pods {
	if cfg.SchedulerName == "" {
		cfg.SchedulerName = workload.DefaultSchedulerName
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 8
	}
	p := &Pods{client: client, cfg: cfg, log: log, pool: newPool(cfg.Workers, sink)}
	p.pool.turn = gangTurn
	return p
}

// gangTurn is how many placeholders of an application are made, or deleted, in a turn. A gang is of
// use when it is whole: if each of a thousand had one placeholder made in its turn, all would begin
// at the end. A large gang takes many turns and holds nobody up for long.
const gangTurn = 8

// createTag is the tag of creations.
const createTag = "create"

// Do takes a CreatePlaceholder, CancelPlaceholders, DeletePod or FailPod and returns at
// once. One that has been taken and is not done is not taken twice.
func (p *Pods) Do(effect ledger.Effect) {
	switch e := effect.(type) {
	case ledger.CreatePlaceholder:
		p.pool.add(e.App.ID, "placeholder/"+e.App.ID+"/"+e.Name, createTag, p.creation(e))
	case ledger.CancelPlaceholders:
		p.pool.drop(e.AppID, createTag)
	case ledger.DeletePod:
		p.pool.addAhead(e.Task.AppID, e.Task.ID, "delete", func(ctx context.Context) (ledger.Event, time.Duration) {
			return p.remove(ctx, e.Task), 0
		})
	case ledger.FailPod:
		p.pool.addAhead(e.Task.AppID, e.Task.ID, "fail", func(ctx context.Context) (ledger.Event, time.Duration) {
			outcome, err := p.fail(ctx, e)
			if err != nil && !over(ctx, err) {
				outcome = ledger.PodNotFailed{
					Stamp: stamp(), AppID: e.Task.AppID, TaskID: e.Task.ID, Message: err.Error(), Refused: permanent(err),
				}
			}
			return outcome, 0
		})
	default:
		p.log.Error("not an effect on pods", "effect", effect.Kind())
	}
}

// Stop cancels what is in flight and returns when nothing is.
func (p *Pods) Stop() { p.pool.stop() }

// Progress reports whether requests wait or are in flight, and how many attempts have
// ended, well or not.
func (p *Pods) Progress() (waits bool, done uint64) { return p.pool.progress() }

// settle says when to try again after err, zero if not at all.
func (p *Pods) settle(ctx context.Context, pause *wait.Backoff, what, pod string, err error) time.Duration {
	if err == nil || over(ctx, err) {
		return 0
	}
	again := pause.Step()
	p.log.Warn(what+", trying again", "pod", pod, "in", again, "err", err)
	return again
}

// creation is the job of creating a placeholder, after its pause. A quota that has no
// room for it is told once, and may have later.
func (p *Pods) creation(e ledger.CreatePlaceholder) job {
	pause := retries
	told := false
	return func(ctx context.Context) (ledger.Event, time.Duration) {
		if wait := e.Pause; wait > 0 {
			e.Pause = 0
			return nil, wait
		}
		outcome, err := p.create(ctx, e)
		if overQuota(err) && !told {
			told = true
			outcome = ledger.PlaceholderDelayed{
				Stamp: stamp(), AppID: e.App.ID,
				Message: fmt.Sprintf("placeholder %s cannot be created yet: %v", e.Name, err),
			}
		}
		return outcome, p.settle(ctx, &pause, "placeholder not created", e.Name, err)
	}
}

// overQuota reports whether the API server refused a pod because a ResourceQuota has
// no room for it now. It has no code of its own for that.
func overQuota(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota")
}

// create makes one attempt at a placeholder. It returns an error if another
// attempt may succeed, and an event if none can.
func (p *Pods) create(ctx context.Context, e ledger.CreatePlaceholder) (ledger.Event, error) {
	failed := func(err error) (ledger.Event, error) {
		return ledger.PlaceholderFailed{
			Stamp: stamp(), AppID: e.App.ID,
			Message: fmt.Sprintf("placeholder %s cannot be created: %v", e.Name, err),
		}, nil
	}
	pod, err := placeholder(e, p.cfg)
	if err != nil {
		return failed(err)
	}
	request, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = p.client.CoreV1().Pods(pod.Namespace).Create(request, pod, metav1.CreateOptions{})
	switch {
	case err == nil || over(ctx, err):
		return nil, err
	case apierrors.IsAlreadyExists(err):
		taken, err := p.confirm(request, pod)
		if taken {
			return failed(err)
		}
		return nil, err
	case p.cfg.Tenure.refused(err): // which is said of the term, not of the placeholder
		return nil, err
	case permanent(err) && !overQuota(err):
		return failed(err)
	}
	return nil, err
}

var errLeftOver = errors.New("a left-over pod of that name has to go first")

// confirm looks at the pod that has the name of the wanted placeholder. It
// returns nil if it is that placeholder; taken if the name belongs to something
// else for good, or to a pod that may not be deleted; and an error if the name will
// become free.
func (p *Pods) confirm(ctx context.Context, want *v1.Pod) (taken bool, err error) {
	pods := p.client.CoreV1().Pods(want.Namespace)
	pod, err := pods.Get(ctx, want.Name, metav1.GetOptions{})
	if err != nil {
		return false, err // gone already, or not known
	}
	task, _ := workload.ParseTask(pod)
	if !task.Placeholder || task.ApplicationID != workload.AppID(want) {
		return true, fmt.Errorf("a pod of that name exists in namespace %s and is not this placeholder", want.Namespace)
	}
	ended := workload.Terminated(pod)
	switch {
	case pod.DeletionTimestamp != nil:
		return false, errLeftOver
	case ended:
		if err := pods.Delete(ctx, pod.Name, deletion(pod.UID, true)); err != nil && !apierrors.IsNotFound(err) {
			return permanent(err), err
		}
		return false, errLeftOver
	}
	return false, nil
}

// remove makes one attempt at deleting the pod of a task, and returns what the
// informer will not tell of it.
func (p *Pods) remove(ctx context.Context, task *ledger.Task) ledger.Event {
	request, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := p.client.CoreV1().Pods(task.Namespace).Delete(request, task.Name, deletion(types.UID(task.ID), task.Placeholder))
	switch {
	case err == nil || over(ctx, err):
		return nil
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err): // gone, or another pod of that name
		return ledger.CompleteTask{Stamp: stamp(), AppID: task.AppID, TaskID: task.ID}
	}
	return ledger.DeleteFailed{Stamp: stamp(), AppID: task.AppID, TaskID: task.ID, Message: err.Error(), Refused: permanent(err)}
}

// deletion names the pod by its UID. A placeholder has nothing to finish.
func deletion(uid types.UID, atOnce bool) metav1.DeleteOptions {
	options := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}
	if atOnce {
		var grace int64
		options.GracePeriodSeconds = &grace
	}
	return options
}

// fail makes one attempt at writing phase Failed to a pod, which must not have
// been assigned: a pod that runs is left alone. It returns an error if another
// attempt may succeed, else the event that tells the outcome.
func (p *Pods) fail(ctx context.Context, e ledger.FailPod) (ledger.Event, error) {
	task := e.Task
	gone := ledger.CompleteTask{Stamp: stamp(), AppID: task.AppID, TaskID: task.ID}
	request, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	pods := p.client.CoreV1().Pods(task.Namespace)
	pod, err := pods.Get(request, task.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) || err == nil && string(pod.UID) != task.ID:
		return gone, nil
	case err != nil:
		return nil, err
	case pod.Spec.NodeName != "":
		return ledger.BindDone{Stamp: stamp(), AppID: task.AppID, TaskID: task.ID, Node: pod.Spec.NodeName}, nil
	case workload.Terminated(pod):
		return ledger.PodFailed{Stamp: stamp(), AppID: task.AppID, TaskID: task.ID}, nil
	}
	// The version is a precondition: if the pod is assigned meanwhile, this
	// write conflicts and the next attempt sees the assignment.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion},
		"status":   map[string]any{"phase": v1.PodFailed, "reason": e.Reason, "message": task.Message},
	})
	if err != nil {
		return nil, err
	}
	_, err = pods.Patch(request, task.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	switch {
	case apierrors.IsNotFound(err):
		return gone, nil
	case err != nil:
		return nil, err
	}
	return ledger.PodFailed{Stamp: stamp(), AppID: task.AppID, TaskID: task.ID}, nil
}

// permanent reports whether a request would be refused again, however often it
// is repeated: the API server blames the request, not its own state.
func permanent(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	switch code := status.Status().Code; code {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return false // a token being renewed, and what passes
	default:
		return code >= 400 && code < 500
	}
}
