package timeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// ErrNoSuccessor says that no newer epoch had bound a pod when the wait ended.
var ErrNoSuccessor = errors.New("no pod was bound by a newer epoch")

// Where the Lease of a cluster's replicas is.
const (
	LeaseNamespace = "understudy-system"
	LeaseName      = "understudy"
)

// recordWait is how long Failover waits for the record of the term after the
// first bind; it is the last thing that a promotion writes.
const recordWait = 5 * time.Second

// Observer follows what a timeline is made of. It is started before the kill.
type Observer struct {
	cluster *history.Cluster
	etcd    *history.Etcd
	lease   *history.Lease
}

// Observe starts to follow the Lease; the histories of cluster and etcd are
// the caller's, started before and closed by it.
func Observe(
	ctx context.Context, kube kubernetes.Interface, cluster *history.Cluster, etcd *history.Etcd,
	leaseNamespace, leaseName string, log *slog.Logger,
) (*Observer, error) {
	lease, err := history.WatchLease(ctx, kube, leaseNamespace, leaseName, log)
	if err != nil {
		return nil, err
	}
	return &Observer{cluster: cluster, etcd: etcd, lease: lease}, nil
}

// Close stops the observer.
func (o *Observer) Close() { o.lease.Close() }

// Lease returns the events of the Lease so far.
func (o *Observer) Lease() []history.LeaseEvent { return o.lease.Events() }

// Failover waits until a newer epoch than old has bound a pod and told its
// steps, and returns the timeline. When ctx ends before the bind it returns
// what there is, with ErrNoSuccessor.
func (o *Observer) Failover(ctx context.Context, killed time.Time, old uint64) (Timeline, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	w := waiting{old: old, told: map[uint64]bool{}}
	var patience <-chan time.Time
	for {
		pods, etcd := o.cluster.Pods(), o.etcd.Events()
		w.advance(pods, etcd)
		if w.bound != 0 && patience == nil {
			timer := time.NewTimer(recordWait)
			defer timer.Stop()
			patience = timer.C
		}
		var err error
		done := w.told[w.bound]
		if !done {
			select {
			case <-ctx.Done():
				done = true
				if w.bound == 0 {
					err = fmt.Errorf("%w than %d: %w", ErrNoSuccessor, old, context.Cause(ctx))
				}
			case <-patience:
				done = true
			case <-tick.C:
			}
		}
		if done {
			return Assemble(killed, old, o.lease.Events(), etcd, pods), err
		}
	}
}

// waiting looks at each event once, for histories are long.
type waiting struct {
	old uint64
	// bound is the newer epoch that bound first, told which have told all steps.
	bound            uint64
	told             map[uint64]bool
	nextPod, nextKey int
}

func (w *waiting) advance(pods []history.PodEvent, etcd []history.EtcdEvent) {
	for ; w.nextPod < len(pods) && w.bound == 0; w.nextPod++ {
		if p := pods[w.nextPod].Pod; p.Node != "" && p.Epoch > w.old {
			w.bound = p.Epoch
		}
	}
	for ; w.nextKey < len(etcd); w.nextKey++ {
		ev := etcd[w.nextKey]
		if ev.Deleted || !strings.HasPrefix(ev.Key, "terms/") {
			continue
		}
		if epoch, _, timings, err := verify.TermOf(ev.Value); err == nil && verify.Led(timings) {
			w.told[epoch] = true
		}
	}
}
