package fenced

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/record"
)

// Reclaim puts a newer leader record in place of the one by which f was claimed, and
// returns the fence to go on with. It fails with ErrFenced if anybody else has claimed
// the prefix since, however long ago they left: what they wrote is not known here.
// While etcd does not answer it goes on until ctx ends; then it is not known whether
// f holds, and Reclaim may be called again with the same record.
func (s *Store) Reclaim(ctx context.Context, f Fence, leader record.Leader) (Fence, error) {
	if leader.Epoch <= f.epoch {
		return f, fmt.Errorf("reclaim: epoch %d is not newer than %d", leader.Epoch, f.epoch)
	}
	again := f
	again.value, again.epoch = string(record.EncodeLeader(leader)), leader.Epoch
	var last error
	for {
		next, err := s.tryReclaim(ctx, f, again)
		switch {
		case err == nil:
			return next, nil
		case errors.Is(err, ErrFenced):
			return f, fmt.Errorf("reclaim: %w", err)
		case ctx.Err() == nil:
			last = err
		}
		select {
		case <-ctx.Done():
			return f, fmt.Errorf("reclaim: %w", errors.Join(context.Cause(ctx), last))
		case <-time.After(claimPause):
			s.cli.ActiveConnection().ResetConnectBackoff()
		}
	}
}

func (s *Store) tryReclaim(ctx context.Context, f, again Fence) (Fence, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	resp, err := s.cli.Get(ctx, f.leader)
	if err != nil {
		return f, err
	}
	if err := f.sameHistory(resp.Header, s.newest.Load()); err != nil {
		return f, err
	}
	s.newest.Store(resp.Header.Revision)
	if len(resp.Kvs) > 0 && string(resp.Kvs[0].Value) == again.value {
		again.revision = resp.Kvs[0].ModRevision // an earlier attempt whose answer was lost
		return again, nil
	}
	if err := f.stillMine(resp.Kvs); err != nil {
		return f, err
	}
	f.revision = resp.Kvs[0].ModRevision // a renewal may have moved it
	txn, err := s.cli.Txn(ctx).If(f.holds()).Then(clientv3.OpPut(f.leader, again.value)).Commit()
	switch {
	case err != nil:
		return f, err
	case !txn.Succeeded:
		return f, errRaced
	}
	again.revision = txn.Header.Revision
	return again, nil
}
