package electiontest

import (
	"sync"

	"k8s.io/apimachinery/pkg/watch"
)

// watcher is an unbounded queue of events between the store and one client.
type watcher struct {
	mu     sync.Mutex
	queue  []watch.Event
	wake   chan struct{} // holds a token while there is something in the queue
	closed chan struct{}
	once   sync.Once
}

func newWatcher() *watcher {
	return &watcher{wake: make(chan struct{}, 1), closed: make(chan struct{})}
}

func (w *watcher) close() { w.once.Do(func() { close(w.closed) }) }

func (w *watcher) add(ev watch.Event) {
	w.mu.Lock()
	w.queue = append(w.queue, watch.Event{Type: ev.Type, Object: ev.Object.DeepCopyObject()})
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) take() []watch.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.queue
	w.queue = nil
	return events
}

// stream is the client's end of a watch.
type stream struct {
	results chan watch.Event
	stop    chan struct{}
	once    sync.Once
}

// ResultChan implements watch.Interface.
func (s *stream) ResultChan() <-chan watch.Event { return s.results }

// Stop implements watch.Interface.
func (s *stream) Stop() { s.once.Do(func() { close(s.stop) }) }
