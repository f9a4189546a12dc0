package mirror

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/mirror/internal/fenced"
	"github.com/understudy-ha/understudy/replica/record"
)

// ErrFenced says that the prefix belongs to a newer epoch, or that etcd lost the
// history in which this one was claimed. The error that wraps it says who.
var ErrFenced = fenced.ErrFenced

// Claimed is the proof that a prefix was claimed; New asks for it.
type Claimed struct {
	Epoch uint64
	// Revision is that of the claim. Whoever has applied everything up to it
	// holds all that any older epoch has committed.
	Revision int64

	fence fenced.Fence
}

// KnownEpoch returns the newest epoch that was ever claimed on the prefix, 0 if
// none was.
func KnownEpoch(ctx context.Context, cli *clientv3.Client, prefix string) (uint64, error) {
	return fenced.KnownEpoch(ctx, cli, prefix)
}

// Claim takes the prefix for leader.Epoch. It succeeds only over an older epoch,
// and else fails with ErrFenced; with record.ErrNewerSchema where a newer version
// has led that this one must not follow. It goes on until ctx ends while etcd does
// not answer. Repeating a claim with the same leader record is harmless.
//
// term is the record of leader.Epoch so far. It is written with the claim, so that a
// promotion that fails, or dies, leaves a record of a term that never led.
func Claim(ctx context.Context, cli *clientv3.Client, prefix string, leader record.Leader, term record.Term) (Claimed, error) {
	f, err := fenced.Claim(ctx, cli, prefix, leader, term)
	if err != nil {
		return Claimed{}, err
	}
	return Claimed{Epoch: f.Epoch(), Revision: f.Revision(), fence: f}, nil
}
