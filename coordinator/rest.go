package coordinator

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/api"
	"github.com/understudy-ha/understudy/coordinator/api/access"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/roster"
)

const (
	// forwardDial bounds the wait for a connection to the lead, forwardAnswer that for the
	// beginning of an answer: a state dump is made whole before it begins.
	forwardDial   = 2 * time.Second
	forwardAnswer = time.Minute
	// forwardIdle is how many connections to the lead are kept for later requests.
	forwardIdle = 16
)

// serveREST serves /ws/v1 if that is configured.
func (r *replica) serveREST(start func(name string, run func(context.Context) error)) error {
	cfg := r.cfg.REST
	if cfg.Address == "" {
		return nil
	}
	server, err := cfg.TLS.Server()
	if err != nil {
		return err
	}
	client, err := cfg.TLS.Client()
	if err != nil {
		return err
	}
	scheme := "http"
	if client != nil {
		scheme = "https"
	}
	forward := &http.Transport{
		DialContext: (&net.Dialer{Timeout: forwardDial}).DialContext, TLSClientConfig: client, TLSHandshakeTimeout: forwardDial,
		ResponseHeaderTimeout: forwardAnswer, MaxIdleConnsPerHost: forwardIdle, IdleConnTimeout: time.Minute,
		DisableCompression: true, // what the client takes, it says itself
	}
	handler := api.New(api.Config{
		SchedulerName: r.cfg.SchedulerName, Profiling: r.cfg.HTTP.Profiling, Forward: forward, Scheme: scheme,
		Chronicle: r.chronicler.Log, Objects: r.objects, Changes: r.changes, Terms: r.terms,
	}, restSource{r}, r.log)
	var guarded http.Handler = handler
	if cfg.TokenReview {
		guarded = access.Guard(r.kube.Reads, handler, api.Refuse, r.log)
	}
	listening, err := serve.Listen("YuniKorn's REST interface", cfg.Address, server, guarded, r.log)
	if err != nil {
		return err
	}
	r.restListens = listening.Addr()
	listening.OnShutdown(handler.Shutdown)
	start("rest", func(ctx context.Context) error {
		defer forward.CloseIdleConnections()
		return listening.Serve(ctx)
	})
	return nil
}

// objects are those that this replica knows.
func (r *replica) objects() api.Objects {
	return api.Objects{Nodes: r.cluster.Nodes(), Pods: r.cluster.Pods(), PriorityClasses: r.cluster.PriorityClasses()}
}

// restPort is that of /ws/v1, zero if it is not served to others: at the host where gossip
// has this replica.
func (r *replica) restPort() uint16 {
	if r.roster == nil {
		return 0
	}
	return portAt(r.restListens, r.roster.Address())
}

// portAt is the port of who listens at an address, zero if that is not reached at the host
// of another one.
func portAt(listens, at string) uint16 {
	listening, errs := netip.ParseAddrPort(listens)
	host, err := netip.ParseAddrPort(at)
	if errs != nil || err != nil || !listening.Addr().IsUnspecified() && listening.Addr().Unmap() != host.Addr().Unmap() {
		return 0
	}
	return listening.Port()
}

// restSource is the replica as package api sees it.
type restSource struct{ *replica }

func (s restSource) Standing() api.Standing {
	held := s.elector.Observed()
	standing := api.Standing{Replica: s.cfg.Identity, Lead: held.Holder}
	if lead := s.lead.Load(); lead != nil && *s.role.Load() == serve.Lead {
		mirrored, _ := lead.MirrorStatus()
		standing.Leads, standing.Lead, standing.Epoch, standing.Revision = true, s.incarnation, lead.Epoch(), mirrored.Revision
		return standing
	}
	if held.Holder == s.incarnation {
		standing.Lead = "" // not yet, or no more
	}
	followed := s.view.Status()
	standing.Epoch, standing.Revision = followed.Leader.Epoch, followed.Revision
	if s.roster != nil {
		standing.LeadAddress = addressOf(s.roster.Members(), held.Holder)
	}
	return standing
}

// addressOf is where an incarnation serves /ws/v1, empty if that is not known. The host is
// where gossip reaches the member, and nothing that a member may say of itself.
func addressOf(members []roster.Member, incarnation string) string {
	for _, m := range members {
		if m.Name != incarnation || m.Self || m.Gone || m.REST == 0 {
			continue
		}
		if host, _, err := net.SplitHostPort(m.Address); err == nil {
			return net.JoinHostPort(host, strconv.Itoa(int(m.REST)))
		}
	}
	return ""
}

func (s restSource) Engine() api.Engine {
	if running := s.standby.Engine(); running != nil {
		return running
	}
	return nil
}

func (s restSource) Pod(namespace, name string) *v1.Pod { return s.cluster.Pod(namespace, name) }

// Read reads the ledger of a lead, or the view of an understudy.
func (s restSource) Read(ctx context.Context, read func(*ledger.Ledger)) bool {
	if lead := s.lead.Load(); lead != nil && *s.role.Load() == serve.Lead {
		return lead.Read(ctx, read)
	}
	return s.view.Synced() && s.view.Read(read)
}
