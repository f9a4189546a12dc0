package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// DefaultBinders is how many bindings are in flight at a time by default.
const DefaultBinders = 32

// requestTimeout bounds one request of an executor.
const requestTimeout = 10 * time.Second

// Binder assigns pods to nodes. For every attempt it sends one event to its
// sink: BindDone, BindFailed, or CompleteTask if the pod is gone; none once the
// term is over, for the successor decides then, nor while the API server says
// that it is.
type Binder struct {
	client kubernetes.Interface
	tenure Tenure
	log    *slog.Logger
	pool   *pool
	before func(ctx context.Context, task *ledger.Task) error
	isSlow func(taskID string) bool
	slow   *pool // for tasks that isSlow; nil without before
}

// NewBinder makes a binder with up to workers bindings in flight, zero for the
// default. client should be fenced. sink is called from several goroutines and
// must return at once.
func NewBinder(client kubernetes.Interface, workers int, tenure Tenure, sink Sink, log *slog.Logger) *Binder {
	if workers <= 0 {
		workers = DefaultBinders
	}
	return &Binder{client: client, tenure: tenure, log: log, pool: newPool(workers, sink)}
}

// ErrNodeGone says that the node a pod should be bound to does not exist. The
// API server would bind the pod all the same, to be deleted as an orphan.
var ErrNodeGone = errors.New("the node is gone")

// ErrUnfit says that the node cannot take the pod any more.
var ErrUnfit = errors.New("the pod does not fit the node any more")

// slowBinders is how many bindings may be in preparation at a time.
const slowBinders = 1024

// Before has prepare called ahead of every attempt, to bind the pod's volumes for
// instance; its error is that of the attempt, and ErrNodeGone or ErrUnfit among it
// ends the allocation. Tasks for which it may take long, as slow says, hold up no
// others. It is set before the first Do.
func (b *Binder) Before(prepare func(ctx context.Context, task *ledger.Task) error, slow func(taskID string) bool) {
	b.before, b.isSlow, b.slow = prepare, slow, newPool(slowBinders, b.pool.sink)
}

// Do takes a binding and returns at once. One that is already waiting or in
// flight is not sent twice.
func (b *Binder) Do(bind ledger.Bind) {
	task, pool := bind.Task, b.pool
	if b.before != nil && b.isSlow(task.ID) {
		pool = b.slow
	}
	pause := retries
	pool.add(task.AppID, task.ID, task.Node, func(ctx context.Context) (ledger.Event, time.Duration) {
		event, refused := b.bind(ctx, task)
		if refused {
			return nil, pause.Step()
		}
		return event, 0
	})
}

const (
	// calm is for how long there has been nothing to bind when what is for people may
	// be written: the pods of a burst come with gaps between them.
	calm = 20 * time.Millisecond
	// yieldPatience is for how long it waits at most. Where binding never pauses there
	// are still a few Events a second.
	yieldPatience = 5 * time.Second
)

// Quiet returns when no binding is waiting or in flight, so that requests that help
// nobody to run do not delay those that do; or, where that takes too long, all the
// same. Bindings that wait for volumes do not count. Its error is that of ctx.
func (b *Binder) Quiet(ctx context.Context) error { return b.pool.quiet(ctx, calm, yieldPatience) }

// Stop cancels what is in flight and returns when nothing is.
func (b *Binder) Stop() {
	b.pool.stop()
	if b.slow != nil {
		b.slow.stop()
	}
}

// Progress reports whether bindings wait or are in flight, and how many attempts have
// ended, well or not. Those that wait for volumes do not count: they may for minutes.
func (b *Binder) Progress() (waits bool, done uint64) { return b.pool.progress() }

// bind makes one attempt and returns the event that tells its outcome, or that
// the API server takes the term for over.
func (b *Binder) bind(ctx context.Context, task *ledger.Task) (event ledger.Event, refused bool) {
	failpoint.Hit(failpoint.BindBefore)
	if b.before != nil {
		if err := b.before(ctx, task); err != nil {
			if over(ctx, err) {
				return nil, false
			}
			if errors.Is(err, ErrNodeGone) {
				return ledger.NodeLost{Stamp: stamp(), AppID: task.AppID, TaskID: task.ID, Node: task.Node}, false
			}
			if errors.Is(err, ErrUnfit) {
				return ledger.NodeLost{Stamp: stamp(), AppID: task.AppID, TaskID: task.ID, Message: err.Error(), Node: task.Node}, false
			}
			return ledger.BindFailed{Stamp: stamp(), AppID: task.AppID, TaskID: task.ID, Message: err.Error(), Node: task.Node}, false
		}
	}
	request, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	binding := &v1.Binding{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: task.Namespace,
			Name:      task.Name,
			// The decision was for this pod, not for one that takes its name.
			UID: types.UID(task.ID),
		},
		Target: v1.ObjectReference{Kind: "Node", Name: task.Node},
	}
	b.tenure.sign(&binding.ObjectMeta)
	err := b.client.CoreV1().Pods(task.Namespace).Bind(request, binding, metav1.CreateOptions{})
	failpoint.Hit("bind/after")
	switch {
	case err == nil:
		return ledger.BindDone{Stamp: stamp(), AppID: task.AppID, TaskID: task.ID, Node: task.Node}, false
	case over(ctx, err):
		return nil, false
	case b.tenure.refused(err):
		return nil, true
	}
	return b.judge(request, task, err), false
}

// judge says what became of a binding that was answered with an error.
func (b *Binder) judge(ctx context.Context, task *ledger.Task, err error) ledger.Event {
	failed := func(err error) ledger.Event {
		b.log.Debug("binding failed", "app", task.AppID, "task", task.ID, "node", task.Node, "err", err)
		return ledger.BindFailed{Stamp: stamp(), AppID: task.AppID, TaskID: task.ID, Message: err.Error(), Node: task.Node}
	}
	gone := ledger.CompleteTask{Stamp: stamp(), AppID: task.AppID, TaskID: task.ID}
	switch {
	case apierrors.IsNotFound(err):
		return gone
	case !apierrors.IsConflict(err) && !permanent(err):
		return failed(err)
	}
	// A conflict may be the echo of an earlier attempt that did succeed, and what is
	// refused now may have been allowed then.
	pod, getErr := b.client.CoreV1().Pods(task.Namespace).Get(ctx, task.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(getErr):
		return gone
	case getErr != nil:
		return failed(fmt.Errorf("%w; and what the pod says is not known: %w", err, getErr))
	case string(pod.UID) != task.ID:
		return gone
	case pod.Spec.NodeName != "":
		return ledger.BindDone{Stamp: stamp(), AppID: task.AppID, TaskID: task.ID, Node: pod.Spec.NodeName}
	case pod.DeletionTimestamp != nil:
		return gone // it can never be assigned any more
	case permanent(err):
		b.log.Info("binding refused", "app", task.AppID, "task", task.ID, "node", task.Node, "err", err)
		return ledger.BindFailed{Stamp: stamp(), AppID: task.AppID, TaskID: task.ID, Message: err.Error(), Refused: true, Node: task.Node}
	}
	return failed(err)
}

// over reports whether err tells that the term is over rather than that the
// request failed.
func over(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, ErrFenced)
}

func stamp() ledger.Stamp { return ledger.Stamp{At: ledger.At(time.Now())} }
