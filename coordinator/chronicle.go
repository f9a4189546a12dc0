package coordinator

import (
	"context"
	"time"

	"github.com/understudy-ha/understudy/replica/chronicle"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
)

// chronicler keeps the chronicle while this replica leads, which happens once at most.
type chronicler struct {
	*chronicle.Log
	// writer is the mirror of the newest claim: the lead's by the time that it begins.
	writer *mirror.Mirror
	begun  chan struct{} // closed when this replica leads
	ending context.Context
	end    context.CancelFunc
	ended  chan struct{} // closed when nothing is read from the engine any more
}

func (r *replica) newChronicler() (*chronicler, error) {
	cfg := chronicle.Default()
	cfg.Prefix, cfg.Now = r.cfg.Etcd.Prefix, r.now
	cfg.Events, cfg.Age = r.cfg.History.Events, r.cfg.History.EventAge
	past, err := chronicle.New(cfg, r.log)
	if err != nil {
		return nil, err
	}
	c := &chronicler{Log: past, begun: make(chan struct{}), ended: make(chan struct{})}
	c.ending, c.end = context.WithCancel(context.Background())
	return c, nil
}

// keepChronicle waits until this replica leads, and keeps the chronicle until it does not.
func (r *replica) keepChronicle(ctx context.Context) error {
	c := r.chronicler
	defer close(c.ended)
	if !c.itsTurn(ctx) {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ending, cancel)()
	c.Keep(ctx, chronicle.Lead{
		Writer: c.writer,
		Load:   chronicle.Load(r.etcd, r.cfg.Etcd.Prefix, r.cfg.Etcd.RequestTimeout, r.log),
		Events: r.standby.Engine().Events(),
		Count:  func() (applications, containers int, ok bool) { return sampled(r.lead.Load().Counts()) },
	})
	return nil
}

// itsTurn waits until this replica leads, and has left a while to the pods that wait. It reports false
// if that does not come about.
func (c *chronicler) itsTurn(ctx context.Context) bool {
	select {
	case <-c.begun:
	case <-ctx.Done():
		return false
	}
	select {
	case <-time.After(podsFirst):
		return true
	case <-c.ending.Done():
	case <-ctx.Done():
	}
	return false
}

// sampled is what a sample has of what there is: as in the core, applications that run, and
// containers that have a node.
func sampled(c *ledger.Counts) (applications, containers int, ok bool) {
	if c == nil {
		return 0, 0, false
	}
	return c.Apps[ledger.AppStateRunning], c.Tasks[ledger.TaskStateAllocated] + c.Tasks[ledger.TaskStateBound], true
}

// lastWords is how long a replica that ends waits for the last events to be handed to the
// mirror, which flushes them with all else.
const lastWords = 200 * time.Millisecond

// finish has what is new handed to the mirror, and nothing after that, if this replica leads.
func (c *chronicler) finish() {
	select {
	case <-c.begun:
	default:
		return
	}
	c.end()
	select {
	case <-c.ended:
	case <-time.After(lastWords):
	}
}
