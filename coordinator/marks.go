package coordinator

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// A lead marks its pod (see kube.Cluster.Barrier), and somebody may select by the mark.
// It takes the mark off when its term is over, and the next process in the pod does for
// one that has died; the successor does not wait for either.

// unmarkWithin bounds what a replica waits for the API server before it goes on.
const unmarkWithin = time.Second

// unmark takes the mark off the own pod, if it can.
func (r *replica) unmark(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unmarkWithin)
	defer cancel()
	if err := r.cluster.Unmark(ctx, r.kube.Own); err != nil {
		r.log.Warn("this pod is still marked as that of the lead", "err", err)
	}
}

// markAlone has marks see to it that nobody else is marked. It returns at once.
func (r *replica) markAlone() {
	select {
	case <-r.leads: // an epoch that nobody has come to yet
	default:
	}
	r.leads <- r.lead.Load().Epoch()
}

// marks takes the mark of a lead off pods whose term is over, whenever this replica has
// come to lead, until ctx ends.
func (r *replica) marks(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case epoch := <-r.leads:
			select {
			case <-ctx.Done():
			case <-time.After(podsFirst):
				r.unmarkOthers(ctx, epoch)
			}
		}
	}
}

// unmarkOthers tries until what is known of the pods shows no mark of an older epoch.
func (r *replica) unmarkOthers(ctx context.Context, epoch uint64) {
	again := wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.1, Steps: 6}
	var failed error
	err := wait.ExponentialBackoffWithContext(ctx, again, func(ctx context.Context) (bool, error) {
		none, err := r.cluster.UnmarkOthers(ctx, r.kube.Writes, epoch)
		failed = err
		return none || !r.leadsIn(epoch), nil
	})
	if err != nil && ctx.Err() == nil {
		r.log.Warn("other pods are still marked as that of the lead", "err", failed)
	}
}

func (r *replica) leadsIn(epoch uint64) bool {
	_, _, writes := r.guard()
	return writes && r.lead.Load().Epoch() == epoch
}
