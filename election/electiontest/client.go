package electiontest

import (
	"context"
	"errors"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

// ErrRefused is what a client gets while Refuse is in force.
var ErrRefused = errors.New("electiontest: connection refused")

// Client is one machine's way to the store, with faults of its own. It is an
// election.LeaseClient, and through API what client-go uses.
type Client struct {
	store *Store
	name  string

	mu      sync.Mutex
	line    line
	before  time.Duration
	after   time.Duration
	lag     time.Duration // of watches
	skew    time.Duration
	opened  int           // watches so far
	deaf    int           // watches up to this one are deaf
	broken  int           // watches up to this one are to end
	changed chan struct{} // closed when a fault changes
	calls   int
}

type line int

const (
	up line = iota
	hanging
	refusing
)

// Client returns a new way to the store; name is for messages.
func (s *Store) Client(name string) *Client {
	return &Client{store: s, name: name, changed: make(chan struct{})}
}

func (c *Client) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

// Hang cuts the line without anyone noticing: requests and answers get stuck
// until their context ends or the line is healed, watches fall silent.
func (c *Client) Hang() { c.set(func() { c.line = hanging }) }

// Refuse cuts the line so that requests fail at once and watches end.
func (c *Client) Refuse() { c.set(func() { c.line = refusing }) }

// Heal restores the line; what a silent watch has missed is delivered.
func (c *Client) Heal() { c.set(func() { c.line, c.deaf = up, 0 }) }

// Slow delays each request before the store sees it and each answer after. A
// request whose sender has lost patience meanwhile is applied all the same.
func (c *Client) Slow(before, after time.Duration) {
	c.set(func() { c.before, c.after = before, after })
}

// Lag delays what open watches tell, without changing its order.
func (c *Client) Lag(d time.Duration) { c.set(func() { c.lag = d }) }

// Deafen silences the open watches until Heal, and nothing else.
func (c *Client) Deafen() { c.set(func() { c.deaf = c.opened }) }

// BreakWatches ends the open watches, as servers do every few minutes.
func (c *Client) BreakWatches() { c.set(func() { c.broken = c.opened }) }

// Skew makes this machine's wall clock fast by d, as far as the Lease shows.
func (c *Client) Skew(d time.Duration) { c.set(func() { c.skew = d }) }

// Calls counts the requests made, watches included.
func (c *Client) Calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

type faults struct {
	line          line
	before, after time.Duration
	lag, skew     time.Duration
	deaf, broken  int
	changed       <-chan struct{}
}

func (c *Client) faults() faults {
	c.mu.Lock()
	defer c.mu.Unlock()
	return faults{c.line, c.before, c.after, c.lag, c.skew, c.deaf, c.broken, c.changed}
}

// travel is one way of a request or an answer.
func (c *Client) travel(ctx context.Context, delay time.Duration) error {
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		f := c.faults()
		switch f.line {
		case up:
			return nil
		case refusing:
			return ErrRefused
		case hanging:
			select {
			case <-f.changed:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

type answer struct {
	lease *coordinationv1.Lease
	err   error
}

// do carries a request to the store and its answer back. A delayed request
// travels on when its context ends; only one stuck in a cut line is lost.
func (c *Client) do(ctx context.Context, apply func() (*coordinationv1.Lease, error)) (*coordinationv1.Lease, error) {
	c.mu.Lock()
	c.calls++
	c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f := c.faults()
	arrived := make(chan answer, 1)
	go func() {
		if f.before > 0 {
			<-time.After(f.before)
		}
		if err := c.travel(ctx, 0); err != nil {
			arrived <- answer{nil, err}
			return
		}
		lease, err := apply()
		arrived <- answer{lease, err}
	}()
	select {
	case a := <-arrived:
		if errors.Is(a.err, ErrRefused) {
			return nil, a.err
		}
		if err := c.travel(ctx, f.after); err != nil {
			return nil, err
		}
		if a.err != nil {
			return nil, a.err
		}
		return shifted(a.lease, -f.skew), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Get implements election.LeaseClient.
func (c *Client) Get(ctx context.Context) (*coordinationv1.Lease, error) {
	return c.do(ctx, func() (*coordinationv1.Lease, error) { return c.store.get(c.name) })
}

// Write implements election.LeaseClient.
func (c *Client) Write(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	lease = shifted(lease, c.faults().skew)
	return c.do(ctx, func() (*coordinationv1.Lease, error) { return c.store.write(lease) })
}

// Delete implements election.LeaseClient.
func (c *Client) Delete(ctx context.Context, lease *coordinationv1.Lease) error {
	_, err := c.do(ctx, func() (*coordinationv1.Lease, error) { return lease, c.store.remove(lease.UID, lease.ResourceVersion) })
	return err
}

// Watch implements election.LeaseClient.
func (c *Client) Watch(ctx context.Context, resourceVersion string) (watch.Interface, error) {
	c.mu.Lock()
	c.calls++
	c.mu.Unlock()
	f := c.faults()
	if err := c.travel(ctx, f.before+f.after); err != nil {
		return nil, err
	}
	w, err := c.store.watch(resourceVersion)
	if err != nil {
		return nil, err
	}
	s := &stream{results: make(chan watch.Event), stop: make(chan struct{})}
	c.mu.Lock()
	c.opened++
	nth := c.opened
	c.mu.Unlock()
	go c.pump(ctx, w, s, nth)
	return s, nil
}

// pump moves events from the store to the client until either ends the watch.
func (c *Client) pump(ctx context.Context, w *watcher, s *stream, nth int) {
	defer close(s.results)
	defer c.store.unwatch(w)
	type late struct {
		watch.Event
		at time.Time
	}
	var pending []late
	for {
		f := c.faults()
		if f.line == refusing || nth <= f.broken {
			return
		}
		wake := w.wake
		var due <-chan time.Time
		switch {
		case f.line == hanging || nth <= f.deaf:
			wake = nil
		case len(pending) > 0:
			// No timer for what is due: one that fires at once, of which there would be very
			// many, does not go with the race detector in virtual time (go1.26).
			wait := time.Until(pending[0].at)
			if wait <= 0 {
				if !s.deliver(ctx, pending[0].Event) {
					return
				}
				pending = pending[1:]
				continue
			}
			due = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.stop:
			return
		case <-w.closed:
			return
		case <-f.changed:
		case <-wake:
			for _, ev := range w.take() {
				if lease, ok := ev.Object.(*coordinationv1.Lease); ok {
					ev.Object = shifted(lease, -f.skew)
				}
				pending = append(pending, late{ev, time.Now().Add(f.lag)})
			}
		case <-due:
		}
	}
}

// deliver reports false if the watch ends first.
func (s *stream) deliver(ctx context.Context, event watch.Event) bool {
	select {
	case s.results <- event:
		return true
	case <-s.stop:
	case <-ctx.Done():
	}
	return false
}

func shifted(lease *coordinationv1.Lease, by time.Duration) *coordinationv1.Lease {
	lease = lease.DeepCopy()
	if by == 0 {
		return lease
	}
	for _, t := range []**metav1.MicroTime{&lease.Spec.AcquireTime, &lease.Spec.RenewTime} {
		if *t != nil {
			moved := metav1.NewMicroTime((*t).Add(by))
			*t = &moved
		}
	}
	return lease
}

// API returns the client as client-go's Lease API. Only Get, Create, Update,
// Delete and Watch are served; other methods panic.
func (c *Client) API() coordinationv1client.LeasesGetter { return leases{c: c} }

type leases struct {
	coordinationv1client.LeaseInterface
	c *Client
}

func (l leases) Leases(string) coordinationv1client.LeaseInterface { return l }

func (l leases) Get(ctx context.Context, _ string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	return l.c.Get(ctx)
}

func (l leases) Create(
	ctx context.Context, lease *coordinationv1.Lease, _ metav1.CreateOptions,
) (*coordinationv1.Lease, error) {
	return l.c.Write(ctx, lease)
}

func (l leases) Update(
	ctx context.Context, lease *coordinationv1.Lease, _ metav1.UpdateOptions,
) (*coordinationv1.Lease, error) {
	return l.c.Write(ctx, lease)
}

func (l leases) Delete(ctx context.Context, _ string, opts metav1.DeleteOptions) error {
	lease := &coordinationv1.Lease{}
	lease.UID, lease.ResourceVersion = *opts.Preconditions.UID, *opts.Preconditions.ResourceVersion
	return l.c.Delete(ctx, lease)
}

func (l leases) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	return l.c.Watch(ctx, opts.ResourceVersion)
}
