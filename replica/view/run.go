package view

import (
	"cmp"
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/understudy-ha/understudy/replica/failpoint"
)

// Why a watch ends, other than by an error of etcd.
var (
	errOtherHistory = errors.New("etcd has another history than the state that was loaded")
	errStalled      = errors.New("the watch has stalled")
)

// retries are the pauses before the view tries again, each of which may be twice as long,
// so that not all replicas come at once.
var retries = wait.Backoff{Duration: 20 * time.Millisecond, Factor: 2, Jitter: 1, Cap: 2 * time.Second, Steps: math.MaxInt}

// Run loads and follows the prefix until ctx ends or the ledger is taken, and
// then returns nil. It must be called once.
func (v *View) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var prober sync.WaitGroup
	defer prober.Wait()
	defer cancel()
	prober.Go(func() { v.keepProbing(ctx) })
	pause := retries
	loaded := false
	for ctx.Err() == nil {
		before := v.Status().Revision
		var err error
		if !loaded {
			err = v.load(ctx)
			loaded = err == nil
		}
		if loaded {
			err = v.follow(ctx)
		}
		switch {
		case errors.Is(err, ErrTaken) || ctx.Err() != nil:
			return nil
		case loaded && (errors.Is(err, errOtherHistory) || errors.Is(err, rpctypes.ErrCompacted)):
			v.log.Warn("the view loads anew", "reason", err, "revision", before)
			v.metrics.reloads.Inc()
			v.lost()
			loaded, pause = false, retries
			continue
		case v.Status().Revision > before:
			pause = retries
		}
		v.log.Debug("the view tries again", "err", err, "loaded", loaded)
		select {
		case <-time.After(pause.Step()):
		case <-ctx.Done():
		}
		// The client waits up to two minutes between attempts to connect.
		v.cli.ActiveConnection().ResetConnectBackoff()
	}
	return nil
}

// lost takes note that the state has to be loaded again.
func (v *View) lost() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.synced = false
	v.announce()
}

// follow watches from the revision that has been applied, until the watch ends.
func (v *View) follow(ctx context.Context) error {
	watch, interrupt := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	defer interrupt(nil)
	v.mu.Lock()
	from, taken, void := v.revision+1, v.taken, v.void
	v.interrupt = interrupt
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		v.interrupt = nil
		v.mu.Unlock()
	}()
	switch {
	case taken:
		return ErrTaken
	case void:
		return errOtherHistory
	}
	changes := v.cli.Watch(watch, v.keys.Root(), clientv3.WithRange(v.keys.Followed()), clientv3.WithRev(from))
	for resp := range changes {
		failpoint.Hit(failpoint.ViewChange)
		err := resp.Err()
		if err == nil {
			err = v.absorb(resp)
		}
		if err != nil {
			return cmp.Or(context.Cause(watch), err)
		}
	}
	return cmp.Or(context.Cause(watch), errors.New("the watch has ended"))
}

// keepProbing asks etcd, for as long as ctx lasts, whether it is there and still
// the same, and for progress where the view is behind.
func (v *View) keepProbing(ctx context.Context) {
	tick := time.NewTicker(v.cfg.ProbeInterval)
	defer tick.Stop()
	var behind struct {
		at, target int64
		since      time.Time
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.poke:
			v.requestProgress(ctx)
			continue
		case <-tick.C:
		}
		if v.probe(ctx) != nil {
			behind.since = time.Time{}
			continue
		}
		v.mu.Lock()
		at, newest, interrupt := v.revision, v.newest, v.interrupt
		v.mu.Unlock()
		switch {
		case interrupt == nil || at >= newest:
			behind.since = time.Time{}
		case behind.since.IsZero() || at != behind.at:
			behind.at, behind.target, behind.since = at, newest, time.Now()
		case time.Since(behind.since) > v.cfg.StallTimeout:
			v.log.Warn("the watch delivers nothing and is started again", "revision", at, "etcd", behind.target)
			interrupt(errStalled)
			behind.since = time.Time{}
		}
		if at < newest {
			v.requestProgress(ctx)
		}
	}
}

// requestProgress has etcd say how far the watch is, if it is under way.
func (v *View) requestProgress(ctx context.Context) {
	v.mu.Lock()
	watching := v.interrupt != nil
	v.mu.Unlock()
	if !watching {
		return
	}
	// The same metadata as the watch, which is how the client finds its stream;
	// while that is down the call blocks.
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), v.cfg.ProbeInterval)
	defer cancel()
	if err := v.cli.RequestProgress(ctx); err != nil && ctx.Err() == nil {
		v.log.Debug("no progress notification", "err", err)
	}
}

// probe asks etcd which history it has. It returns nil if that is the one that
// has been loaded; if it is another one, the view loads anew.
func (v *View) probe(ctx context.Context) error {
	v.mu.Lock()
	origin, revision, synced := v.origin, v.revision, v.synced
	v.mu.Unlock()

	request, cancel := context.WithTimeout(ctx, v.cfg.RequestTimeout)
	defer cancel()
	resp, err := v.cli.Get(request, v.keys.Schema())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	v.heard(err)
	if err != nil {
		v.cli.ActiveConnection().ResetConnectBackoff()
		return err
	}
	if !synced {
		return errors.New("not loaded yet")
	}
	same := resp.Header.ClusterId == origin.cluster && resp.Header.Revision >= revision
	switch {
	case len(resp.Kvs) == 0:
		same = same && origin.history == ""
	case resp.Kvs[0].ModRevision <= revision:
		same = same && origin.history == v.historyIn(resp.Kvs[0].Value)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !same {
		if v.origin == origin { // and nothing has been loaded meanwhile
			v.void = true
			if v.interrupt != nil {
				v.interrupt(errOtherHistory)
			}
		}
		return errOtherHistory
	}
	v.newest = max(v.newest, resp.Header.Revision)
	return nil
}

// historyIn returns the identity in the value of the schema key, empty if that
// cannot be read.
func (v *View) historyIn(schema []byte) string {
	e, err := v.keys.Decode(v.keys.Schema(), schema)
	if err != nil {
		return ""
	}
	return e.Schema.History
}

// heard takes note whether etcd answers, and logs when that changes.
func (v *View) heard(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	first, was := !v.heardOf, v.away
	v.away, v.heardOf = err, true
	if (was == nil) == (err == nil) && !first {
		return
	}
	if err != nil {
		v.log.Warn("etcd does not answer; the view keeps what it has", "endpoints", v.cli.Endpoints(), "err", err, "revision", v.revision)
	} else {
		v.log.Info("etcd answers", "after", time.Since(v.since).String(), "revision", v.revision)
	}
	v.since = time.Now()
	v.announce()
}
