package mirror

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/mirror/internal/fenced"
	"github.com/understudy-ha/understudy/replica/record"
)

const (
	keepTerms = 100
	// opOverhead is what an operation adds to its key and value on the wire.
	opOverhead = 32
)

// retries are the pauses before etcd is asked again, each of which may be twice as long.
var retries = wait.Backoff{Duration: 20 * time.Millisecond, Factor: 2, Jitter: 1, Cap: time.Second, Steps: math.MaxInt}

// writer brings batches to etcd, one at a time.
type writer struct {
	store    *fenced.Store
	fence    fenced.Fence
	keys     record.Keys
	epoch    uint64 // which every record is signed with
	maxOps   int
	maxBytes int
	metrics  *metrics
	log      *slog.Logger
	failed   func(error)
	answered func()
	pruned   bool
}

// outcome is what became of a batch.
type outcome struct {
	revision int64
	written  []string          // keys that etcd took
	refused  map[string]string // keys that it will never take, and why
	terms    bool              // a record of a term was among them
	landed   []func()          // of the entries of a batch that is durable
	err      error             // ErrFenced, or that of the context
}

// write returns when the whole batch is durable, or never will be.
func (w *writer) write(ctx context.Context, batch []*entry) outcome {
	out := outcome{refused: make(map[string]string)}
	ops := make([]fenced.Op, len(batch))
	for i, e := range batch {
		ops[i] = e.op(w.keys, w.epoch)
		out.terms = out.terms || e.slot.epoch > 0
		if e.landed != nil {
			out.landed = append(out.landed, e.landed)
		}
	}
	for len(ops) > 0 && out.err == nil {
		n := w.fit(ops)
		w.commit(ctx, ops[:n], &out)
		ops = ops[n:]
	}
	return out
}

// fit says how many operations from the front make one transaction: at least
// one, whatever its size.
func (w *writer) fit(ops []fenced.Op) int {
	size := 0
	for i, op := range ops {
		size += len(op.Key) + len(op.Value) + opOverhead
		if i > 0 && (i >= w.maxOps || size > w.maxBytes) {
			return i
		}
	}
	return len(ops)
}

// commit writes ops in one transaction if etcd takes it, and else in halves.
func (w *writer) commit(ctx context.Context, ops []fenced.Op, out *outcome) {
	revision, err := w.insist(ctx, ops)
	refused := errors.Is(err, fenced.ErrTooLarge) || errors.Is(err, fenced.ErrTooMany)
	switch {
	case err == nil:
		w.answered()
		out.revision = revision
		for _, op := range ops {
			if out.refused[op.Key] == "" {
				out.written = append(out.written, op.Key)
			}
		}
	case refused && len(ops) > 1:
		half := len(ops) / 2
		if errors.Is(err, fenced.ErrTooMany) {
			w.maxOps = half
		}
		w.commit(ctx, ops[:half], out)
		if out.err == nil {
			w.commit(ctx, ops[half:], out)
		}
	case refused && !ops[0].Delete:
		w.refuse(ctx, ops[0], err, out)
	default:
		out.err = err
	}
}

// refuse gives up on a record, and deletes the older version that etcd has of it.
func (w *writer) refuse(ctx context.Context, op fenced.Op, err error, out *outcome) {
	w.metrics.refused.Inc()
	w.log.Error("etcd does not take this record; a failover would have to recover it from the cluster",
		"key", op.Key, "bytes", len(op.Value), "err", err)
	out.refused[op.Key] = err.Error()
	w.commit(ctx, []fenced.Op{{Key: op.Key, Delete: true}}, out)
}

// insist commits ops and repeats them, behind a renewed fence, until their fate
// is known.
func (w *writer) insist(ctx context.Context, ops []fenced.Op) (int64, error) {
	pause := retries
	for {
		start := time.Now()
		failpoint.Hit(failpoint.BeforeCommit)
		revision, err := w.store.Commit(ctx, w.fence, ops)
		if err == nil {
			failpoint.Hit(failpoint.AfterCommit)
			w.metrics.duration.Observe(time.Since(start).Seconds())
			w.metrics.operations.Observe(float64(len(ops)))
			return revision, nil
		}
		if errors.Is(err, fenced.ErrFenced) || errors.Is(err, fenced.ErrTooLarge) || errors.Is(err, fenced.ErrTooMany) {
			return 0, err
		}
		for {
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			w.metrics.failures.Inc()
			w.failed(err)
			if w.fence, err = w.store.Renew(ctx, w.fence); err == nil {
				break
			}
			if errors.Is(err, fenced.ErrFenced) {
				return 0, err
			}
			if !sleep(ctx, pause.Step()) {
				return 0, ctx.Err()
			}
		}
	}
}

// prune removes old terms, all of them, once in a term. It is housekeeping: should it
// fail, the next term does it.
func (w *writer) prune(ctx context.Context, fence fenced.Fence, most int) {
	old, err := w.store.OldTerms(ctx, w.keys, keepTerms)
	for batch := range slices.Chunk(old, most) {
		ops := make([]fenced.Op, len(batch))
		for i, key := range batch {
			ops[i] = fenced.Op{Key: key, Delete: true}
		}
		if _, err = w.store.Commit(ctx, fence, ops); err != nil {
			break
		}
	}
	if err != nil {
		w.log.Debug("old terms were not removed", "err", err)
	}
}

// sleep waits for d, or until ctx ends; it reports whether ctx is still good.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
