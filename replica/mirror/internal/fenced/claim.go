package fenced

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/record"
)

const (
	// attemptTimeout bounds one request of a claim; the claim as a whole goes
	// on until its context ends.
	attemptTimeout = 2 * time.Second
	claimPause     = 50 * time.Millisecond
)

// CheckPrefix refuses a prefix that is none: everything in etcd would be ours.
func CheckPrefix(prefix string) error {
	if strings.Trim(prefix, "/") == "" {
		return fmt.Errorf("prefix %q: must not be empty", prefix)
	}
	return nil
}

// ownership is what a prefix says about its lead.
type ownership struct {
	epoch     uint64 // the newest known, of leader key and terms
	value     []byte // of the leader key
	revision  int64  // its ModRevision, 0 if there is none
	cluster   uint64
	schema    record.Schema
	schemaRev int64
}

// KnownEpoch returns the newest epoch that was ever claimed, 0 if none.
func KnownEpoch(ctx context.Context, cli *clientv3.Client, prefix string) (uint64, error) {
	if err := CheckPrefix(prefix); err != nil {
		return 0, err
	}
	o, err := look(ctx, cli, record.Keys{Prefix: prefix})
	if err != nil {
		return 0, fmt.Errorf("known epoch: %w", err)
	}
	return o.epoch, nil
}

// look reads who owns the prefix. A leader key that cannot be read does not keep
// anybody from leading, as the terms tell the epoch too; one that is meant for a
// newer version does.
func look(ctx context.Context, cli *clientv3.Client, keys record.Keys) (ownership, error) {
	resp, err := cli.Txn(ctx).Then(
		clientv3.OpGet(keys.Leader()),
		clientv3.OpGet(keys.Schema()),
		clientv3.OpGet(keys.Terms(), clientv3.WithPrefix(), clientv3.WithKeysOnly(),
			clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(1)),
	).Commit()
	if err != nil {
		return ownership{}, err
	}
	o := ownership{cluster: resp.Header.ClusterId}
	if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		o.value, o.revision = kvs[0].Value, kvs[0].ModRevision
		e, err := keys.Decode(keys.Leader(), o.value)
		if errors.Is(err, record.ErrNewerSchema) {
			return ownership{}, err
		}
		o.epoch = e.Leader.Epoch
	}
	if kvs := resp.Responses[1].GetResponseRange().Kvs; len(kvs) > 0 {
		e, err := keys.Decode(keys.Schema(), kvs[0].Value)
		if errors.Is(err, record.ErrNewerSchema) {
			return ownership{}, err
		}
		o.schema, o.schemaRev = e.Schema, kvs[0].ModRevision
	}
	for _, kv := range resp.Responses[2].GetResponseRange().Kvs {
		if p, err := keys.Parse(string(kv.Key)); err == nil {
			o.epoch = max(o.epoch, p.Epoch)
		}
	}
	return o, nil
}

// Claim takes the prefix for leader.Epoch, which must be newer than every epoch
// before it; otherwise the error is ErrFenced. Claiming again what is already
// claimed, by the same leader record, succeeds. The record of the term is written in
// the same transaction. While etcd does not answer it goes on until ctx ends.
func Claim(ctx context.Context, cli *clientv3.Client, prefix string, leader record.Leader, term record.Term) (Fence, error) {
	if err := CheckPrefix(prefix); err != nil {
		return Fence{}, err
	}
	if leader.Epoch == 0 {
		return Fence{}, errors.New("claim: epoch 0")
	}
	if term.Epoch != leader.Epoch {
		return Fence{}, fmt.Errorf("claim: epoch %d with the record of term %d", leader.Epoch, term.Epoch)
	}
	var last error
	for {
		f, err := tryClaim(ctx, cli, record.Keys{Prefix: prefix}, leader, term)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, ErrFenced), errors.Is(err, record.ErrNewerSchema):
			return Fence{}, fmt.Errorf("claim: %w", err)
		case ctx.Err() == nil:
			last = err
		}
		select {
		case <-ctx.Done():
			return Fence{}, fmt.Errorf("claim: %w", errors.Join(context.Cause(ctx), last))
		case <-time.After(claimPause):
			cli.ActiveConnection().ResetConnectBackoff()
		}
	}
}

var errRaced = errors.New("the leader key changed meanwhile")

func tryClaim(ctx context.Context, cli *clientv3.Client, keys record.Keys, leader record.Leader, term record.Term) (Fence, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	o, err := look(ctx, cli, keys)
	if err != nil {
		return Fence{}, err
	}
	f := Fence{
		leader: keys.Leader(), value: string(record.EncodeLeader(leader)), epoch: leader.Epoch,
		revision: o.revision, cluster: o.cluster,
	}
	if o.revision > 0 && string(o.value) == f.value {
		return f, nil // an earlier attempt whose answer was lost
	}
	if o.epoch >= leader.Epoch {
		return Fence{}, fmt.Errorf("%w: epoch %d is not newer than %d: %s", ErrFenced, leader.Epoch, o.epoch, owner(o.value))
	}
	ops := []clientv3.Op{
		clientv3.OpPut(f.leader, f.value),
		clientv3.OpPut(keys.Term(term.Epoch), string(record.Sign(record.KindTerm, record.EncodeTerm(term), term.Epoch))),
	}
	if schema := upgraded(o.schema); schema != o.schema {
		ops = append(ops, clientv3.OpPut(keys.Schema(), string(record.EncodeSchema(schema))))
	}
	resp, err := cli.Txn(ctx).If(
		f.holds(),
		clientv3.Compare(clientv3.ModRevision(keys.Schema()), "=", o.schemaRev),
	).Then(ops...).Commit()
	if err != nil {
		return Fence{}, err
	}
	if !resp.Succeeded {
		return Fence{}, errRaced
	}
	f.revision = resp.Header.Revision
	return f, nil
}

// upgraded is what the schema key must say once this version leads.
func upgraded(s record.Schema) record.Schema {
	s.MinReader = max(s.MinReader, record.SchemaVersion)
	s.Version = max(s.Version, record.SchemaVersion)
	if s.History == "" {
		s.History = rand.Text()
	}
	return s
}
