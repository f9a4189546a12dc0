package kube

import (
	"context"
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"log/slog"
	"slices"
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

	"github.com/understudy-ha/understudy/coordinator/explain"
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
	// recorderReserve is how many of these are kept for warnings: that a pod goes its
	// way is seen from the pod as well.
	recorderReserve = 5_000
	// recorderMemory is for how many pods it is remembered what they were told,
	// and maxReasons how much a pod is told in all.
	recorderMemory = 65_536
	maxReasons     = 32
	// maxEventMessage is the API server's limit, in bytes.
	maxEventMessage = 1024
	// recorderTries is how often a request is sent for one Event.
	recorderTries = 3
)

// RecorderConfig says for whom a Recorder writes, and after whom.
type RecorderConfig struct {
	// Instance is the holder identity of this replica.
	Instance string
	// Yield is called before every request and returns when nothing more important
	// is waiting to be sent, or with the error of ctx. Nil for nothing that is.
	Yield func(ctx context.Context) error
	// Pod looks a pod up as it is known now, nil if it is not. Without it no
	// conditions are written.
	Pod func(namespace, name string) *v1.Pod
}

// Recorder puts Kubernetes Events on pods: what happened to them, and why
// something did not; and on the ConfigMaps. Each reason is told once for each pod, by whoever leads, for
// as long as the API server keeps Events; numbers that change in a message do not make a new
// reason. An Event that cannot be
// written after a few tries is given up. Why a pod waits also becomes its
// condition: see Waits.
type Recorder struct {
	client     kubernetes.Interface
	cfg        RecorderConfig
	log        *slog.Logger
	pool       *pool
	limiter    *rate.Limiter
	told       *lru.Cache
	seed       maphash.Seed
	conditions *conditions // nil if none are written

	mu      sync.Mutex
	waiting int
	dropped int
	number  uint64
}

// NewRecorder makes a recorder. client should be fenced.
func NewRecorder(client kubernetes.Interface, cfg RecorderConfig, log *slog.Logger) *Recorder {
	if cfg.Yield == nil {
		cfg.Yield = func(ctx context.Context) error { return ctx.Err() }
	}
	r := &Recorder{
		client: client, cfg: cfg, log: log,
		pool:    newPool(4, nil),
		limiter: rate.NewLimiter(recorderRate, recorderBurst),
		told:    lru.New(recorderMemory),
		seed:    maphash.MakeSeed(),
	}
	if cfg.Pod != nil {
		r.conditions = newConditions(client, cfg, log)
	}
	return r
}

// Task tells what a ReportTask effect says, and returns at once.
func (r *Recorder) Task(e ledger.ReportTask) {
	if e.Condition != "" && r.cfg.Pod != nil {
		pod := r.cfg.Pod(e.Task.Namespace, e.Task.Name)
		if pod != nil && says(pod, e.Condition, e.Message) {
			return
		}
		if pod != nil && string(pod.UID) == e.Task.ID {
			r.conditions.want(pod, e.Condition, e.Message)
		}
	}
	r.tell(v1.ObjectReference{
		Kind: "Pod", APIVersion: "v1",
		Namespace: e.Task.Namespace, Name: e.Task.Name, UID: types.UID(e.Task.ID),
	}, e.Warning, e.Reason, e.Action, e.Message)
}

// Pod tells something about a pod, and returns at once.
func (r *Recorder) Pod(pod *v1.Pod, warning bool, reason, message string) {
	r.tell(v1.ObjectReference{
		Kind: "Pod", APIVersion: "v1",
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}, warning, reason, "", message)
}

// ReasonFailedScheduling is the reason of Events that say why a pod waits, as
// kube-scheduler has it.
const ReasonFailedScheduling = "FailedScheduling"

// ReasonInvalid is the reason of Events about labels and annotations that
// cannot be read.
const ReasonInvalid = "InvalidAnnotation"

// Problems tells what could not be read of a pod, and returns at once. Like Object it is
// safe to repeat, by this replica and by others.
func (r *Recorder) Problems(pod *v1.Pod, problems []workload.Problem) {
	for _, p := range problems {
		r.Object(v1.ObjectReference{
			Kind: "Pod", APIVersion: "v1",
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
		}, true, ReasonInvalid, p.Key+": "+p.Message)
	}
}

// Waits tells why a pod has not been given a node, and returns at once: by an
// Event, and by its condition PodScheduled, whose reason is reason and which is
// written when it says something else. What the condition says already, the
// lead before this one has told.
func (r *Recorder) Waits(pod *v1.Pod, reason, message string) {
	if says(pod, reason, message) {
		return
	}
	r.Pod(pod, true, ReasonFailedScheduling, message)
	if r.conditions != nil {
		r.conditions.want(pod, reason, message)
	}
}

// ConfigMap tells whether a ConfigMap's configuration is in force, and returns at once.
// What it was told before counts no more once it has been put right: who breaks it again
// in the same way is told again. cm may be nil, for one that is gone.
func (r *Recorder) ConfigMap(cm *v1.ConfigMap, warning bool, reason, message string) {
	if cm == nil {
		return
	}
	if !warning {
		r.Forget(string(cm.UID))
	}
	r.write(r.event(v1.ObjectReference{
		Kind: "ConfigMap", APIVersion: "v1",
		Namespace: cm.Namespace, Name: cm.Name, UID: cm.UID, ResourceVersion: cm.ResourceVersion,
	}, warning, reason, message))
}

// Object tells something about any object, and returns at once. The name of the Event
// follows from what it tells: while the API server has it, nobody tells it again.
func (r *Recorder) Object(about v1.ObjectReference, warning bool, reason, message string) {
	r.write(lasting(r.event(about, warning, reason, message)))
}

// lasting gives an Event a name that follows from what it tells.
func lasting(event *v1.Event) *v1.Event {
	about, told := event.InvolvedObject, fnv.New64a()
	fmt.Fprintf(told, "%s\x00%s\x00%s", about.UID, event.Reason, explain.Kind(event.Message))
	event.Name = fmt.Sprintf("%s.%016x", cut(about.Name, 200), told.Sum64())
	return event
}

// Stop cancels what is in flight and returns when nothing is; what waits is
// dropped.
func (r *Recorder) Stop() {
	r.pool.stop()
	if r.conditions != nil {
		r.conditions.pool.stop()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dropped > 0 {
		r.log.Warn("events dropped because too many were waiting", "dropped", r.dropped)
	}
}

// Forget drops what is remembered of a pod that is gone.
func (r *Recorder) Forget(uid string) { r.told.Remove(types.UID(uid)) }

// fact is what makes a reason the same as one told before: a hash, since there are
// several for each of many pods.
func (r *Recorder) fact(reason, message string) uint64 {
	return maphash.String(r.seed, reason+"\x00"+explain.Kind(message))
}

// fresh reports whether a pod has yet to be told something. The caller holds mu.
func (r *Recorder) fresh(pod types.UID, fact uint64) (told []uint64, ok bool) {
	if known, found := r.told.Get(pod); found {
		told, _ = known.([]uint64)
	}
	return told, !slices.Contains(told, fact) && len(told) < maxReasons
}

// tell has a pod told something, unless this lead or one before it has done so.
func (r *Recorder) tell(pod v1.ObjectReference, warning bool, reason, action, message string) {
	event := r.event(pod, warning, reason, message)
	event.Action = action
	r.write(lasting(event))
}

// write has an Event written, unless its reason has been told.
func (r *Recorder) write(event *v1.Event) {
	about, fact := event.InvolvedObject, r.fact(event.Reason, event.Message)
	r.mu.Lock()
	defer r.mu.Unlock()
	told, fresh := r.fresh(about.UID, fact)
	if !fresh {
		return
	}
	room := recorderBacklog
	if event.Type != v1.EventTypeWarning {
		room -= recorderReserve
	}
	if r.waiting >= room {
		r.dropped++
		return
	}
	r.told.Add(about.UID, append(told, fact))
	r.waiting++
	r.number++
	tries := 0
	pause := retries
	// A key of its own for each: Events of a pod are not ordered by when they
	// are written but by their time.
	r.pool.add("", fmt.Sprint(r.number), "", func(ctx context.Context) (ledger.Event, time.Duration) {
		tries++
		if err := r.post(ctx, event); err != nil && !over(ctx, err) {
			if tries < recorderTries && !permanent(err) {
				return nil, pause.Step()
			}
			r.log.Warn("event not written", "about", about.Namespace+"/"+about.Name, "reason", event.Reason, "err", err)
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
	if err := r.cfg.Yield(ctx); err != nil {
		return err
	}
	if r.outdated(event) {
		return nil
	}
	request, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := r.client.CoreV1().Events(event.Namespace).Create(request, event, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil // an earlier try whose answer was lost, or it has been told: see Object
	}
	return err
}

// outdated says of an Event why a pod waits that the pod has a node by now. Where thousands of
// pods waited and a quota is raised, as many Events would go out beside their bindings.
func (r *Recorder) outdated(event *v1.Event) bool {
	if event.Reason != ReasonFailedScheduling || r.cfg.Pod == nil {
		return false
	}
	pod := r.cfg.Pod(event.InvolvedObject.Namespace, event.InvolvedObject.Name)
	return pod != nil && pod.UID == event.InvolvedObject.UID && pod.Spec.NodeName != ""
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
		Source:              v1.EventSource{Component: Component, Host: r.cfg.Instance},
		ReportingController: Component,
		ReportingInstance:   cut(r.cfg.Instance, 128),
		FirstTimestamp:      metav1.NewTime(now),
		LastTimestamp:       metav1.NewTime(now),
		Count:               1,
	}
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
