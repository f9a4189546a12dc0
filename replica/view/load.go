package view

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// smallestPage is what the page size falls to while pages do not arrive in time.
const smallestPage = 10

// snapshot is what a load has read, before any of it is applied.
type snapshot struct {
	origin   origin
	revision int64
	changes  []ledger.Change
	known    map[ledger.Key]version
	leader   record.Leader
	terms    map[uint64]record.Term

	configuration *record.Configuration

	refused map[string]error
}

// load reads everything at one revision, and applies what differs from the
// state so far.
func (v *View) load(ctx context.Context) error {
	snap, err := v.read(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !errors.Is(err, errOtherHistory) {
		v.heard(err)
	}
	if err != nil {
		return err
	}
	return v.adopt(snap)
}

func (v *View) read(ctx context.Context) (*snapshot, error) {
	head, err := v.get(ctx, v.cfg.RequestTimeout, v.keys.Schema())
	if err != nil {
		return nil, err
	}
	snap := &snapshot{
		origin:   originOf(v, head),
		revision: head.Header.Revision,
		known:    make(map[ledger.Key]version),
		terms:    make(map[uint64]record.Term),
		refused:  make(map[string]error),
	}
	v.mu.Lock()
	known, same := v.known, v.origin == snap.origin && v.revision <= snap.revision
	v.mu.Unlock()
	if !same {
		known = nil // equal revisions would mean nothing
	}
	key, end := v.keys.Root(), v.keys.Followed()
	size := v.cfg.PageSize
	for more := true; more; {
		began := time.Now()
		page, err := v.get(ctx, 4*v.cfg.RequestTimeout, key, clientv3.WithRange(end),
			clientv3.WithRev(snap.revision), clientv3.WithLimit(int64(size)))
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && size > smallestPage {
			size = max(size/4, smallestPage)
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, kv := range page.Kvs {
			snap.add(v.keys, string(kv.Key), kv.Value, kv.ModRevision, known)
			key = string(kv.Key) + "\x00"
		}
		more = page.More
		if more && v.cfg.Yields != nil && v.cfg.Yields() {
			rest(ctx, time.Since(began))
		}
	}
	// Pages of two histories would make no state at all.
	tail, err := v.get(ctx, v.cfg.RequestTimeout, v.keys.Schema())
	if err != nil {
		return nil, err
	}
	if tail.Header.ClusterId != snap.origin.cluster || tail.Header.Revision < snap.revision {
		return nil, fmt.Errorf("during the load: %w", errOtherHistory)
	}
	if len(tail.Kvs) == 0 || tail.Kvs[0].ModRevision <= snap.revision {
		if originOf(v, tail) != snap.origin {
			return nil, fmt.Errorf("during the load: %w", errOtherHistory)
		}
	}
	return snap, nil
}

// rest waits for d, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (v *View) get(ctx context.Context, timeout time.Duration, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return v.cli.Get(ctx, key, opts...)
}

// originOf reads the history from an answer to a request for the schema key.
func originOf(v *View, resp *clientv3.GetResponse) origin {
	o := origin{cluster: resp.Header.ClusterId}
	if len(resp.Kvs) > 0 {
		o.history = v.historyIn(resp.Kvs[0].Value)
	}
	return o
}

// add takes one record into the snapshot. Those that are known in the same
// version are not decoded again.
func (s *snapshot) add(keys record.Keys, key string, value []byte, modRevision int64, known map[ledger.Key]version) {
	path, err := keys.Parse(key)
	if err != nil {
		return // of a newer version, or nobody's
	}
	isRecord := path.Kind == record.KindApp || path.Kind == record.KindTask
	if at, ok := known[path.Key]; ok && isRecord && at.modRevision == modRevision {
		s.known[path.Key] = at
		return
	}
	e, err := keys.Decode(key, value)
	if err != nil {
		s.refused[key] = err
		if old, ok := known[path.Key]; ok && isRecord {
			// What was known before stays, and is not what etcd has.
			s.known[path.Key] = version{modRevision: old.modRevision}
		}
		return
	}
	switch path.Kind {
	case record.KindApp, record.KindTask:
		s.known[e.Key] = version{modRevision: modRevision}
		s.changes = append(s.changes, e.Change())
	case record.KindLeader:
		s.leader = e.Leader
	case record.KindTerm:
		s.terms[e.Epoch] = e.Term
	case record.KindConfiguration:
		s.configuration = &e.Configuration
	}
}
