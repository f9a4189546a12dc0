package resources

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"

	"github.com/understudy-ha/understudy/coordinator/kube"
)

const (
	// settlers is how many names are settled at once.
	settlers = 4
	// firstSettle and lastSettle bound how long a name waits for its next try.
	firstSettle, lastSettle = 100 * time.Millisecond, 30 * time.Second
	// settleTold is after how many failures in a row somebody is told.
	settleTold = 3
)

// Settler settles names, such as those of objects whose status has to say what was heard:
// one try is under way for each name, and one that fails is repeated after growing pauses.
type Settler struct {
	settle func(ctx context.Context, name string) error
	log    *slog.Logger

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	queue workqueue.TypedRateLimitingInterface[string] // nil before Start
}

// NewSettler returns a settler that has settle called with each name. An error says that it
// has to be tried again; kube.ErrFenced, which replicas get that do not lead, is not told.
func NewSettler(settle func(ctx context.Context, name string) error, log *slog.Logger) *Settler {
	s := &Settler{settle: settle, log: log}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Start begins to settle.
func (s *Settler) Start() {
	queue := workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstSettle, lastSettle))
	s.mu.Lock()
	s.queue = queue
	s.mu.Unlock()
	for range settlers {
		s.running.Go(func() { s.all(queue) })
	}
}

// Add has a name settled. Before Start and after Stop it does nothing. It does not wait.
func (s *Settler) Add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue != nil {
		s.queue.Add(name)
	}
}

// Stop ends the context of what is under way, and waits for it.
func (s *Settler) Stop() {
	s.cancel()
	s.mu.Lock()
	queue := s.queue
	s.mu.Unlock()
	if queue != nil {
		queue.ShutDown()
	}
	s.running.Wait()
}

// all settles what is in the queue until that is shut down. The queue hands a name to one
// goroutine at a time.
func (s *Settler) all(queue workqueue.TypedRateLimitingInterface[string]) {
	for {
		name, over := queue.Get()
		if over {
			return
		}
		if err := s.settle(s.ctx, name); err != nil && s.ctx.Err() == nil {
			if queue.NumRequeues(name) == settleTold && !errors.Is(err, kube.ErrFenced) {
				s.log.Warn("a status is not written; it is tried again", "of", name, "err", err)
			}
			queue.AddRateLimited(name)
		} else {
			queue.Forget(name)
		}
		queue.Done(name)
	}
}
