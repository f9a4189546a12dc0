package coordinator

import (
	"context"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/telemetry"
	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/record"
	"github.com/understudy-ha/understudy/replica/roster"
)

// newRoster starts to listen for the others, nil if that is not configured.
func (r *replica) newRoster() (*roster.Roster, error) {
	c := r.cfg.Gossip
	if c.Address == "" {
		return nil, nil
	}
	cfg := roster.Default()
	cfg.Name, cfg.Replica = r.incarnation, r.cfg.Identity
	cfg.Bind, cfg.Advertise, cfg.Peers, cfg.KeyringFile = c.Address, c.Advertise, c.Peers, c.KeyringFile
	// A hint, and no more: whoever follows looks at the Lease.
	cfg.Gone = func(m roster.Member) {
		r.log.Info("a replica is gone, as gossip has it", "member", m.Name, "was", m.Role)
		if failpoint.Off(failpoint.GossipGuard) {
			r.elector.ProvenDead(m.Name)
		}
		r.elector.Look()
	}
	cfg.TermEnded = func(said roster.TermEnded) {
		r.log.Info("a replica states that its term is over and its work has stopped", "incarnation", said.Incarnation, "of", said.Epoch)
		r.elector.TermEnded(said.Incarnation, said.Epoch)
	}
	return roster.New(cfg, r.log)
}

// tellStopped states to the others that all work of a term has stopped.
func (r *replica) tellStopped(epoch uint64) {
	if r.roster != nil && r.roster.TellTermEnded(epoch) {
		r.log.Info("stating that the term is over and its work has stopped", "of", epoch)
	}
}

// standingPeriod is how often this replica looks at itself for the others.
const standingPeriod = 100 * time.Millisecond

// gossip tells the others how this replica stands until ctx ends.
func (r *replica) gossip(ctx context.Context) error {
	return beside(ctx, func() { r.roster.Update(r.standing()) }, r.roster.Run)
}

// beside runs do, and tell again and again meanwhile. It returns when neither is under
// way any more.
func beside(ctx context.Context, tell func(), do func(context.Context) error) error {
	telling, stop := context.WithCancel(ctx)
	var teller sync.WaitGroup
	defer teller.Wait()
	defer stop()
	teller.Go(func() {
		wait.UntilWithContext(telling, func(context.Context) { tell() }, standingPeriod)
	})
	return do(ctx)
}

// standing is what this replica says about itself.
func (r *replica) standing() roster.Standing {
	missing := r.missing()
	if r.steppedBack.Load() {
		missing = append(missing, "it has stepped back")
	}
	s := roster.Standing{
		Role: string(*r.role.Load()), Ready: len(missing) == 0, Missing: roster.Summary(missing),
		HTTP: r.cfg.Reachable(), REST: r.restPort(), Template: r.cfg.Template, Created: r.created(),
	}
	c := r.standby.Configuration()
	s.Configuration, s.Stale = c.Hash, len(c.Restart) > 0
	if l := r.lead.Load(); l != nil {
		mirrored, _ := l.MirrorStatus()
		s.Epoch, s.Ready, s.Revision, s.Missing = l.Epoch(), false, mirrored.Revision, ""
		return s
	}
	view := r.view.Status()
	s.Epoch, s.Revision, s.Lag = view.Leader.Epoch, view.Revision, view.Lag
	return s
}

// created is when the own pod was created, in seconds since 1970; zero outside a
// cluster.
func (r *replica) created() int64 {
	if pod := r.cluster.OwnPod(); pod != nil {
		return pod.CreationTimestamp.Unix()
	}
	return 0
}

// successor is who should lead next, empty where nobody is known to be ready.
func (r *replica) successor(name string) string {
	if r.roster == nil {
		return name
	}
	if chosen := roster.Successor(r.roster.Members(), name); chosen != "" {
		return chosen
	}
	return name
}

func memberStatus(m roster.Member) serve.Member {
	return serve.Member{
		Replica: m.Replica, Incarnation: m.Name, Address: m.Address, Gone: m.Gone, Since: m.Since,
		Role: serve.Role(m.Role), Ready: m.Ready, Epoch: m.Epoch, Revision: m.Revision, Lag: m.Lag, HTTP: m.HTTP,
		Missing: m.Missing, Template: m.Template, Configuration: m.Configuration,
	}
}

// followWithin is how old a claim may be for a replica that learns of it to have
// a part in that failover: later ones have only been started.
const followWithin = time.Minute

// followed adds to the trace of another replica's failover how long it took this
// one to follow the new lead.
func (r *replica) followed(leader record.Leader, revision int64) {
	now, claimed := r.now(), leader.Since.Time()
	// A replica that led in an incarnation before this one does not follow itself.
	self := strings.HasPrefix(leader.Incarnation, r.cfg.Identity+"_")
	if leader.Trace == "" || self || now.Sub(claimed) > followWithin {
		return
	}
	r.opts.Standing.SetRevision(revision)
	r.opts.Tracing.SpanAt(telemetry.Continue(context.Background(), leader.Trace), "failover.follow", claimed, now,
		telemetry.EpochKey.Int64(int64(leader.Epoch)))
}
