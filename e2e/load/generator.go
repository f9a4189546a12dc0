package load

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// PodFeed tells of every change of a pod; history.Cluster is one.
type PodFeed interface {
	Subscribe(func(history.PodEvent)) (cancel func())
}

// Generator creates one load. It may be run once.
type Generator struct {
	cfg      Config
	kube     kubernetes.Interface
	feed     PodFeed
	log      *slog.Logger
	requests v1.ResourceList

	created atomic.Int64
	bound   atomic.Int64
	retries atomic.Int64

	mu      sync.Mutex
	samples []Sample
	uids    []types.UID
	deleted map[string]bool
	// progress is closed and replaced when somebody waits and a pod is bound.
	progress chan struct{}
	waiters  int

	release  sync.Once
	released chan struct{}
}

// Client returns a clientset for a load: protobuf, and no rate limit of its
// own, for the limit is the number of workers.
func Client(config *rest.Config) (*kubernetes.Clientset, error) {
	c := rest.CopyConfig(config)
	c.QPS = -1
	c.RateLimiter = nil
	c.ContentType = "application/vnd.kubernetes.protobuf"
	c.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	c.UserAgent = "understudy-load"
	return kubernetes.NewForConfig(c)
}

// New prepares a load; kube should come from Client.
func New(kube kubernetes.Interface, feed PodFeed, cfg Config, log *slog.Logger) (*Generator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return &Generator{
		cfg:  cfg,
		kube: kube,
		feed: feed,
		log:  log,
		requests: v1.ResourceList{
			v1.ResourceCPU:    resource.MustParse(cfg.CPU),
			v1.ResourceMemory: resource.MustParse(cfg.Memory),
		},
		samples:  make([]Sample, cfg.Pods),
		uids:     make([]types.UID, cfg.Pods),
		deleted:  map[string]bool{},
		progress: make(chan struct{}),
		released: make(chan struct{}),
	}, nil
}

// Run creates all pods and waits until all are bound. It returns what was
// measured even with an error, which says that the load was not completed.
func (g *Generator) Run(ctx context.Context) (Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, g.cfg.Timeout,
		fmt.Errorf("the load took longer than %v", g.cfg.Timeout))
	defer cancel()
	defer g.feed.Subscribe(g.observe)()
	err := g.create(ctx)
	if err == nil {
		err = g.WaitBound(ctx, g.cfg.Pods)
	}
	return g.result(), err
}

// Progress returns how many pods were created and how many are bound.
func (g *Generator) Progress() (created, bound int) {
	return int(g.created.Load()), int(g.bound.Load())
}

// WaitBound returns when n pods are bound. Run must be under way.
func (g *Generator) WaitBound(ctx context.Context, n int) error {
	for {
		g.mu.Lock()
		if int(g.bound.Load()) >= n {
			g.mu.Unlock()
			return nil
		}
		g.waiters++
		ch := g.progress
		g.mu.Unlock()
		var err error
		select {
		case <-ch:
		case <-ctx.Done():
			err = fmt.Errorf("%d of %d pods are bound: %w", g.bound.Load(), n, context.Cause(ctx))
		}
		g.mu.Lock()
		g.waiters--
		g.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// Release lets the pods be created that Config.Held keeps back.
func (g *Generator) Release() { g.release.Do(func() { close(g.released) }) }

// observe takes the time of a pod's binding from the feed.
func (g *Generator) observe(ev history.PodEvent) {
	p := ev.Pod
	if p.Node == "" || p.Namespace != g.cfg.Namespace {
		return
	}
	number, ok := strings.CutPrefix(p.Name, g.cfg.Name+"-")
	if !ok {
		return
	}
	i, err := strconv.Atoi(number)
	if err != nil || i < 0 || i >= g.cfg.Pods {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := &g.samples[i]; s.Bound.IsZero() && !s.Sent.IsZero() {
		s.Bound = ev.At
		g.bound.Add(1)
		if g.waiters > 0 {
			close(g.progress)
			g.progress = make(chan struct{})
		}
	}
}

// create hands the numbers of the pods to the workers, at the set rate.
func (g *Generator) create(ctx context.Context) error {
	numbers := make(chan int)
	errs := make(chan error, g.cfg.Workers)
	var wg sync.WaitGroup
	for range min(g.cfg.Workers, g.cfg.Pods) {
		wg.Go(func() {
			for i := range numbers {
				if err := g.createPod(ctx, i); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		})
	}
	err := g.deal(ctx, numbers, errs)
	close(numbers)
	wg.Wait()
	close(errs)
	for e := range errs {
		// One will do: when ctx ends all workers say so.
		if err == nil {
			err = e
		}
	}
	return err
}

// deal sends each number when its turn has come. It ends early when a worker
// fails. A load that falls behind its rate catches up: the schedule is fixed.
func (g *Generator) deal(ctx context.Context, numbers chan<- int, errs <-chan error) error {
	start := time.Now()
	var timer *time.Timer
	for i := range g.cfg.Pods {
		if i == g.cfg.Pods-g.cfg.Held {
			select {
			case <-g.released:
			case err := <-errs:
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if g.cfg.Rate > 0 {
			due := start.Add(time.Duration(float64(i) * float64(time.Second) / g.cfg.Rate))
			if timer == nil {
				timer = time.NewTimer(time.Until(due))
				defer timer.Stop()
			} else {
				timer.Reset(time.Until(due))
			}
			select {
			case <-timer.C:
			case err := <-errs:
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		select {
		case numbers <- i:
		case err := <-errs:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// createPod creates one pod and repeats what may pass, until ctx ends.
func (g *Generator) createPod(ctx context.Context, i int) error {
	pod := g.cfg.pod(i, g.requests)
	pods := g.kube.CoreV1().Pods(g.cfg.Namespace)
	sent := time.Now()
	g.mu.Lock()
	g.samples[i].Sent = sent
	g.mu.Unlock()
	pause := wait.Backoff{Duration: 10 * time.Millisecond, Factor: 2, Jitter: 2, Steps: 7, Cap: time.Second}
	for attempt := 0; ; attempt++ {
		made, err := pods.Create(ctx, pod, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) && attempt > 0 {
			// The earlier attempt had been carried out.
			made, err = pods.Get(ctx, pod.Name, metav1.GetOptions{})
		}
		if err == nil {
			g.acknowledge(i, made.UID)
			return nil
		}
		if permanent(err) {
			return fmt.Errorf("create pod %s: %w", pod.Name, err)
		}
		g.retries.Add(1)
		g.log.Debug("create pod", "pod", pod.Name, "err", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("create pod %s: %w; last: %w", pod.Name, context.Cause(ctx), err)
		case <-time.After(pause.Step()):
		}
	}
}

func (g *Generator) acknowledge(i int, uid types.UID) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.samples[i].Acked = now
	g.uids[i] = uid
	g.created.Add(1)
}

// permanent reports whether repeating the request is of no use.
func permanent(err error) bool {
	return apierrors.IsAlreadyExists(err) || apierrors.IsInvalid(err) || apierrors.IsForbidden(err) ||
		apierrors.IsBadRequest(err) || apierrors.IsNotFound(err) || apierrors.IsUnauthorized(err)
}

// Created returns the pods of the load, those that were not acknowledged
// without a UID.
func (g *Generator) Created() []verify.Expected {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]verify.Expected, 0, len(g.uids))
	for i, uid := range g.uids {
		if g.samples[i].Sent.IsZero() {
			continue
		}
		out = append(out, verify.Expected{
			Namespace: g.cfg.Namespace,
			Name:      g.cfg.podName(i),
			UID:       string(uid),
		})
	}
	return out
}
