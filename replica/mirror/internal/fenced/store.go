package fenced

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/record"
)

var (
	// ErrTooLarge says that etcd will never take a transaction of this size.
	ErrTooLarge = errors.New("too large for etcd")
	// ErrTooMany says that etcd will never take this many operations at once.
	ErrTooMany = errors.New("too many operations for etcd")
	// ErrStale says that the fence is still mine and has to be renewed.
	ErrStale = errors.New("the fence has been renewed since")
)

// Op puts Value at Key, or with Delete removes Key.
type Op struct {
	Key    string
	Value  []byte
	Delete bool
}

// Store writes below one prefix. Commit and Renew may be called by one goroutine
// at a time.
type Store struct {
	cli     *clientv3.Client
	timeout time.Duration
	newest  atomic.Int64 // the highest revision that a write or renewal has seen
}

// Open returns a store whose requests take no longer than timeout.
func Open(cli *clientv3.Client, timeout time.Duration) *Store {
	return &Store{cli: cli, timeout: timeout}
}

// Commit writes ops in one transaction and returns its revision. Of its errors,
// ErrFenced, ErrStale, ErrTooLarge and ErrTooMany say that nothing was written;
// with every other one that is not known: the transaction may take effect at
// any time, until the fence has been renewed.
func (s *Store) Commit(ctx context.Context, f Fence, ops []Op) (int64, error) {
	if !f.Valid() {
		return 0, errors.New("commit without a claim")
	}
	then := make([]clientv3.Op, len(ops))
	for i, op := range ops {
		if op.Delete {
			then[i] = clientv3.OpDelete(op.Key)
		} else {
			then[i] = clientv3.OpPut(op.Key, string(op.Value))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	txn := s.cli.Txn(ctx)
	if !failpoint.Off(failpoint.EtcdFence) {
		txn = txn.If(f.holds())
	}
	resp, err := txn.Then(then...).Else(clientv3.OpGet(f.leader)).Commit()
	if err != nil {
		return 0, classify(err)
	}
	if err := f.sameHistory(resp.Header, s.newest.Load()); err != nil {
		return 0, err
	}
	s.newest.Store(resp.Header.Revision)
	if !resp.Succeeded {
		if err := f.stillMine(resp.Responses[0].GetResponseRange().Kvs); err != nil {
			return 0, err
		}
		return 0, ErrStale
	}
	return resp.Header.Revision, nil
}

// Renew makes sure that no transaction sent under f can take effect any more,
// and returns the fence to go on with.
//
// A transaction whose answer was lost may still be on its way: in a buffer, or
// in the proposals of a member that is about to lose its leadership. Repeating
// it is harmless in itself, but it must not arrive after newer values of the
// same keys. So the leader key is written again, unchanged, which gives it a
// new ModRevision, and whatever still carries the old one fails.
func (s *Store) Renew(ctx context.Context, f Fence) (Fence, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	// The client waits up to two minutes between attempts to connect.
	s.cli.ActiveConnection().ResetConnectBackoff()
	for {
		resp, err := s.cli.Get(ctx, f.leader)
		if err != nil {
			return f, err
		}
		if err := f.sameHistory(resp.Header, s.newest.Load()); err != nil {
			return f, err
		}
		s.newest.Store(resp.Header.Revision)
		if err := f.stillMine(resp.Kvs); err != nil {
			return f, err
		}
		if now := resp.Kvs[0].ModRevision; now != f.revision {
			// An earlier renewal whose answer was lost has done it.
			f.revision = now
			return f, nil
		}
		txn, err := s.cli.Txn(ctx).If(f.holds()).Then(clientv3.OpPut(f.leader, f.value)).Commit()
		if err != nil {
			return f, err
		}
		if txn.Succeeded {
			f.revision = txn.Header.Revision
			return f, nil
		}
	}
}

// Check reads the leader key, and returns ErrFenced if it is not f's any more.
func (s *Store) Check(ctx context.Context, f Fence) error {
	newest := s.newest.Load()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	resp, err := s.cli.Get(ctx, f.leader)
	if err != nil {
		return err
	}
	if err := f.sameHistory(resp.Header, newest); err != nil {
		return err
	}
	return f.stillMine(resp.Kvs)
}

// OldTerms returns the keys of all but the newest `keep` terms.
func (s *Store) OldTerms(ctx context.Context, keys record.Keys, keep int) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	resp, err := s.cli.Get(ctx, keys.Terms(), clientv3.WithPrefix(), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
	if err != nil {
		return nil, err
	}
	var old []string
	for i := range len(resp.Kvs) - keep {
		old = append(old, string(resp.Kvs[i].Key))
	}
	return old, nil
}

// classify tells refusals for good apart from everything else.
func classify(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrRequestTooLarge),
		// Refused by gRPC, on either side, before etcd saw it.
		strings.Contains(err.Error(), "message larger than max"):
		return ErrTooLarge
	case errors.Is(err, rpctypes.ErrTooManyOps):
		return ErrTooMany
	}
	return err
}
