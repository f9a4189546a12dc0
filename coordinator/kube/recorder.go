package kube

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/lru"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/replica/ledger"
)

const (
	// recorderRate and recorderBurst keep Events, which are for people, from
	// taking the API server's time while there are pods to bind.
	recorderRate  = 100 // a second
	recorderBurst = 200
	// recorderBacklog is how many Events may wait; more are dropped and counted.
	recorderBacklog = 20_000
	// recorderMemory is for how many pods it is remembered what they were told,
	// and maxReasons how much a pod is told in all.
	recorderMemory = 65_536
	maxReasons     = 32
	// maxEventMessage is the API server's limit, in bytes.
	maxEventMessage = 1024
	// recorderTries is how often a request is sent for one Event.
	recorderTries = 3
)

// Recorder puts Kubernetes Events on pods: what happened to them, and why
// something did not. Each reason is told once for each pod in a term; numbers
// that change in a message do not make a new reason. An Event that cannot be
// written after a few tries is given up.
type Recorder struct {
	client   kubernetes.Interface
	instance string
	log      *slog.Logger
	pool     *pool
	limiter  *rate.Limiter
	told     *lru.Cache

	mu      sync.Mutex
	waiting int
	dropped int
	number  uint64
}

// NewRecorder makes a recorder. client should be fenced; instance is the holder
// identity of this replica.
func NewRecorder(client kubernetes.Interface, instance string, log *slog.Logger) *Recorder {
	return &Recorder{
		client: client, instance: instance, log: log,
		pool:    newPool(4, nil),
		limiter: rate.NewLimiter(recorderRate, recorderBurst),
		told:    lru.New(recorderMemory),
	}
}

// Task tells what a ReportTask effect says, and returns at once.
func (r *Recorder) Task(e ledger.ReportTask) {
	r.tell(v1.ObjectReference{
		Kind: "Pod", APIVersion: "v1",
		Namespace: e.Task.Namespace, Name: e.Task.Name, UID: types.UID(e.Task.ID),
	}, e.Warning, e.Reason, e.Message)
}

// Pod tells something about a pod, and returns at once.
func (r *Recorder) Pod(pod *v1.Pod, warning bool, reason, message string) {
	r.tell(v1.ObjectReference{
		Kind: "Pod", APIVersion: "v1",
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}, warning, reason, message)
}

// ReasonInvalid is the reason of Events about labels and annotations that
// cannot be read.
const ReasonInvalid = "InvalidAnnotation"

// Problems tells what could not be read of a pod, and returns at once.
func (r *Recorder) Problems(pod *v1.Pod, problems []workload.Problem) {
	for _, p := range problems {
		r.Pod(pod, true, ReasonInvalid, p.Key+": "+p.Message)
	}
}

// Stop cancels what is in flight and returns when nothing is; what waits is
// dropped.
func (r *Recorder) Stop() {
	r.pool.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dropped > 0 {
		r.log.Warn("events dropped because too many were waiting", "dropped", r.dropped)
	}
}

// Forget drops what is remembered of a pod that is gone.
func (r *Recorder) Forget(uid string) { r.told.Remove(types.UID(uid)) }

// fact is what makes a reason the same as one told before.
type fact struct{ reason, message string }

// fresh reports whether a pod has yet to be told something. The caller holds mu.
func (r *Recorder) fresh(pod types.UID, reason, message string) (facts map[fact]bool, key fact, ok bool) {
	key = fact{reason, withoutNumbers(message)}
	if known, found := r.told.Get(pod); found {
		facts, _ = known.(map[fact]bool)
	}
	return facts, key, !facts[key] && len(facts) < maxReasons
}

// remember notes what a pod is told. The caller holds mu.
func (r *Recorder) remember(pod types.UID, facts map[fact]bool, key fact) {
	if facts == nil {
		facts = make(map[fact]bool, 1)
		r.told.Add(pod, facts)
	}
	facts[key] = true
}

func (r *Recorder) tell(pod v1.ObjectReference, warning bool, reason, message string) {
	event := r.event(pod, warning, reason, message)
	r.mu.Lock()
	defer r.mu.Unlock()
	facts, key, fresh := r.fresh(pod.UID, reason, message)
	if !fresh {
		return
	}
	if r.waiting >= recorderBacklog {
		r.dropped++
		return
	}
	r.remember(pod.UID, facts, key)
	r.waiting++
	r.number++
	tries := 0
	var pause backoff
	// A key of its own for each: Events of a pod are not ordered by when they
	// are written but by their time.
	r.pool.add(fmt.Sprint(r.number), "", func(ctx context.Context) (ledger.Event, time.Duration) {
		tries++
		if err := r.post(ctx, event); err != nil && !over(ctx, err) {
			if tries < recorderTries && !permanent(err) {
				return nil, pause.next()
			}
			r.log.Warn("event not written", "pod", pod.Namespace+"/"+pod.Name, "reason", reason, "err", err)
		}
		r.mu.Lock()
		r.waiting--
		r.mu.Unlock()
		return nil, 0
	})
}

func (r *Recorder) post(ctx context.Context, event *v1.Event) error {
	if err := r.limiter.Wait(ctx); err != nil {
		return err
	}
	request, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := r.client.CoreV1().Events(event.Namespace).Create(request, event, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil // an earlier try whose answer was lost
	}
	return err
}

func (r *Recorder) event(pod v1.ObjectReference, warning bool, reason, message string) *v1.Event {
	kind := v1.EventTypeNormal
	if warning {
		kind = v1.EventTypeWarning
	}
	now := time.Now()
	r.mu.Lock()
	r.number++
	number := r.number
	r.mu.Unlock()
	return &v1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace,
			Name:      fmt.Sprintf("%s.%x.%x", cut(pod.Name, 200), now.UnixNano(), number),
		},
		InvolvedObject:      pod,
		Type:                kind,
		Reason:              reason,
		Message:             cut(message, maxEventMessage),
		Source:              v1.EventSource{Component: Component, Host: r.instance},
		ReportingController: Component,
		ReportingInstance:   cut(r.instance, 128),
		FirstTimestamp:      metav1.NewTime(now),
		LastTimestamp:       metav1.NewTime(now),
		Count:               1,
	}
}

// withoutNumbers replaces every run of digits, so that "3 of 100 nodes" and "4
// of 100 nodes" are the same reason.
func withoutNumbers(s string) string {
	var b strings.Builder
	digits := false
	for _, c := range s {
		isDigit := c >= '0' && c <= '9'
		if !isDigit {
			b.WriteRune(c)
		} else if !digits {
			b.WriteByte('#')
		}
		digits = isDigit
	}
	return b.String()
}

// cut shortens s to at most n bytes without cutting a character in two.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
