package election

import (
	"context"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
)

// HandOver is what came of a request to step down.
type HandOver struct {
	// From and To are the identities that held and hold the Lease, Epoch is that
	// of the new term.
	From, To string
	Epoch    uint64
	// Asked, Released and Taken are local times: of the request, and of the sight
	// of the Lease without a holder and with the new one. Released is zero if the
	// Lease was never seen without.
	Asked, Released, Taken time.Time
}

// Vacancy is how long nobody held the Lease, as far as was seen.
func (h HandOver) Vacancy() time.Duration {
	if h.Released.IsZero() {
		return 0
	}
	return h.Taken.Sub(h.Released)
}

// ErrNoHolder is returned when there is nobody to step down.
var ErrNoHolder = errors.New("election: nobody holds the lease")

// StepDown asks the holder of the Lease to hand over to a replica, named by its
// identity or by what its identities begin with, or with an empty name to whom it
// chooses; and waits until another holds the Lease. Who asks needs the right to
// update the Lease and to watch it.
func StepDown(ctx context.Context, client LeaseClient, to string) (HandOver, error) {
	h := HandOver{}
	if to == "" {
		to = Anyone
	}
	for {
		lease, err := client.Get(ctx)
		if apierrors.IsNotFound(err) {
			return h, ErrNoHolder
		}
		if err != nil {
			return h, fmt.Errorf("election: step down: %w", err)
		}
		rec := parse(lease)
		if rec.holder == "" {
			return h, ErrNoHolder
		}
		if to != Anyone && (record{preferred: to}).prefers(rec.holder) {
			return h, fmt.Errorf("election: step down: %s holds the lease already", rec.holder)
		}
		h.From, h.Asked = rec.holder, time.Now()
		asking := lease.DeepCopy()
		annotate(asking, AnnotationStepDown, to)
		written, err := client.Write(ctx, asking)
		if apierrors.IsConflict(err) && ctx.Err() == nil {
			continue // a renewal was quicker
		}
		if err != nil {
			return h, fmt.Errorf("election: step down: %w", err)
		}
		err = h.follow(ctx, client, written.ResourceVersion)
		return h, err
	}
}

// follow watches the Lease until another holds it.
func (h *HandOver) follow(ctx context.Context, client LeaseClient, version string) error {
	for {
		w, err := client.Watch(ctx, version)
		if err != nil {
			return fmt.Errorf("election: step down: watching: %w", err)
		}
		for ev := range w.ResultChan() {
			lease, ok := ev.Object.(*coordinationv1.Lease)
			if !ok || ev.Type == watch.Bookmark {
				continue
			}
			if h.see(parse(lease)) {
				w.Stop()
				return nil
			}
		}
		w.Stop()
		if ctx.Err() != nil {
			return fmt.Errorf("election: step down: %s was asked, and nobody else holds the lease: %w", h.From, ctx.Err())
		}
		version = "" // from the present state: the watch may have ended because it was too old
	}
}

func (h *HandOver) see(rec record) bool {
	switch rec.holder {
	case h.From:
		return false
	case "":
		if h.Released.IsZero() {
			h.Released = time.Now()
		}
		return false
	}
	h.To, h.Epoch, h.Taken = rec.holder, rec.transitions, time.Now()
	return true
}
