package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strconv"

	"github.com/julienschmidt/httprouter"
	v1 "k8s.io/api/core/v1"

	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
	"github.com/understudy-ha/understudy/coordinator/changes"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/replica/chronicle"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// The headers of answers. They name the replica that has answered, the incarnation that
// leads as far as it knows, and what the answer is true for.
const (
	HeaderReplica = "X-Understudy-Replica"
	HeaderLead    = "X-Understudy-Lead"
	HeaderEpoch   = "X-Understudy-Epoch"
	// HeaderRevision is a revision of etcd: the answer has everything up to it.
	HeaderRevision = "X-Understudy-Revision"
	// HeaderStale is set on what an understudy has answered from its view.
	HeaderStale = "X-Understudy-Stale"
	// HeaderVia names the replica that has passed an answer on.
	HeaderVia = "X-Understudy-Via"
	// HeaderForwarded is set on requests that a replica passes on, with its name.
	HeaderForwarded = "X-Understudy-Forwarded"
)

// Standing is how a replica stands when a request comes.
type Standing struct {
	Replica string
	// Leads says that it leads, and answers from its own core.
	Leads bool
	// Epoch and Revision are those of the state that it has.
	Epoch    uint64
	Revision int64
	// Lead is the incarnation that holds the Lease, and LeadAddress host:port at which it
	// serves /ws/v1 to the others; empty where that is not known.
	Lead, LeadAddress string
}

// Source is the replica. Its methods may be called from any goroutine.
type Source interface {
	// Standing and Engine return at once. Engine is that of this replica, nil while it has
	// none.
	Standing() Standing
	Engine() Engine
	// Read calls read with what this replica has of the records, the ledger of a lead or the
	// view of an understudy, which is not read's to change or keep; its records never change.
	// It reports false if there is nothing to read or ctx ends first.
	Read(ctx context.Context, read func(*ledger.Ledger)) bool
	// Pod returns the pod of that name, which must not be changed, nil if it is not known.
	Pod(namespace, name string) *v1.Pod
}

// Config says what is served.
type Config struct {
	// SchedulerName is what pods name that are scheduled here.
	SchedulerName string
	// Profiling serves /debug/pprof, which YuniKorn always does.
	Profiling bool
	// Objects returns the objects of the API server, for the shim's part of a state dump; it may
	// be nil.
	Objects func() Objects
	// Forward passes requests on to the lead; its scheme is "https" if TLS is on.
	Forward http.RoundTripper
	Scheme  string
	// Chronicle has what outlives a lead. Nil stands for one of which nothing is known.
	Chronicle *chronicle.Log
	// Changes are those of the records, and Terms returns the history of leadership, newest
	// first. Nil stands for none.
	Changes *changes.Log
	Terms   func() []serve.Term
}

// API answers requests.
type API struct {
	cfg    Config
	source Source
	log    *slog.Logger
	core   *core
	own    *apiv1.API
	router *httprouter.Router
}

// New makes the handler of one replica.
func New(cfg Config, source Source, log *slog.Logger) *API {
	if cfg.Chronicle == nil {
		cfg.Chronicle = chronicle.Unknown(log)
	}
	a := &API{cfg: cfg, source: source, log: log, core: newCore(source, cfg), router: httprouter.New()}
	a.own = a.newOwn()
	for _, r := range a.routes() {
		a.router.Handler(r.method, r.pattern, a.serve(r))
	}
	return a
}

// ServeHTTP routes as the core does: with its redirections, and its answers to unknown
// paths and wrong methods.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.router.ServeHTTP(w, r) }

// Shutdown ends the streams of events. No request waits for it.
func (a *API) Shutdown() { a.core.shutdown() }

// route is one endpoint.
type route struct {
	method, pattern string
	handle          http.HandlerFunc
	// local answers are any replica's: they tell of no state, or of this process. All others
	// are the lead's.
	local bool
	// stale answers from an understudy's view for those who allow it; nil if the view does
	// not have the answer.
	stale http.HandlerFunc
	// bare answers have none of the core's usual headers.
	bare bool
	// raw answers are not compressed here.
	raw bool
	// streams says that the answer does not end, watch that it does not if it is to be a watch.
	streams, watch bool
	// list says that the answer may be long, so that those who ask for the same share one.
	list bool
}

// routes are the endpoints of yunikorn-core 1.9, and our own.
func (a *API) routes() []route {
	const partition = "/ws/v1/partition/:partition"
	const get, post = http.MethodGet, http.MethodPost
	c := a.core
	all := []route{
		{method: get, pattern: "/ws/v1/clusters", handle: c.clusters},
		{method: get, pattern: "/ws/v1/metrics", handle: c.metrics, local: true, bare: true, raw: true},
		{method: get, pattern: "/ws/v1/config", handle: c.config},
		{method: post, pattern: "/ws/v1/validate-conf", handle: c.validateConf, local: true},
		{method: get, pattern: "/ws/v1/history/apps", handle: c.applicationHistory},
		{method: get, pattern: "/ws/v1/history/containers", handle: c.containerHistory},
		{method: get, pattern: "/ws/v1/partitions", handle: c.listPartitions},
		{method: get, pattern: partition + "/placementrules", handle: c.placementRules},
		{method: get, pattern: partition + "/queues", handle: c.queues, stale: a.staleQueues},
		{method: get, pattern: partition + "/queue/:queue", handle: c.oneQueue},
		{method: get, pattern: partition + "/nodes", handle: c.nodes, list: true},
		{method: get, pattern: partition + "/node/:node", handle: c.node},
		{method: get, pattern: partition + "/queue/:queue/applications", handle: c.queueApplications, stale: a.staleApplications, list: true},
		{method: get, pattern: partition + "/queue/:queue/application/:application", handle: c.application, stale: a.staleApplication},
		{method: get, pattern: partition + "/application/:application", handle: c.application, stale: a.staleApplication},
		{method: get, pattern: partition + "/applications/:state", handle: c.partitionApplications, list: true},
		{method: get, pattern: partition + "/queue/:queue/applications/:state", handle: c.queueApplicationsByState, list: true},
		{method: get, pattern: partition + "/usage/users", handle: c.users, list: true},
		{method: get, pattern: partition + "/usage/user/:user", handle: c.user},
		{method: get, pattern: partition + "/usage/groups", handle: c.groups, list: true},
		{method: get, pattern: partition + "/usage/group/:group", handle: c.group},
		{method: get, pattern: "/ws/v1/events/batch", handle: c.eventBatch},
		{method: get, pattern: "/ws/v1/events/stream", handle: c.eventStream, streams: true, raw: true},
		{method: get, pattern: "/ws/v1/scheduler/healthcheck", handle: c.health},
		{method: get, pattern: "/ws/v1/scheduler/node-utilizations", handle: c.nodeUtilizations},
		{method: get, pattern: PathExplain, handle: a.explain, stale: a.explain},
		{method: get, pattern: "/debug/stack", handle: c.stack, local: true},
		{method: get, pattern: "/debug/fullstatedump", handle: c.stateDump},
		{method: get, pattern: "/ws/v1/stack", handle: redirectDebug, local: true, bare: true},
		{method: get, pattern: "/ws/v1/fullstatedump", handle: redirectDebug, local: true, bare: true},
	}
	for _, e := range a.own.Endpoints() {
		own := route{method: get, pattern: e.Pattern, handle: e.Handle, local: e.Local, watch: e.Watch, list: e.List}
		if e.Stale {
			own.stale = e.Handle
		}
		all = append(all, own)
	}
	if a.cfg.Profiling {
		for path, handle := range map[string]http.HandlerFunc{
			"": pprof.Index, "heap": pprof.Index, "threadcreate": pprof.Index, "goroutine": pprof.Index,
			"allocs": pprof.Index, "block": pprof.Index, "mutex": pprof.Index,
			"cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
		} {
			all = append(all, route{method: get, pattern: "/debug/pprof/" + path, handle: handle, local: true, bare: true})
		}
	}
	return all
}

// serve answers here, or has the lead answer.
func (a *API) serve(to route) http.HandlerFunc {
	dress := func(handle http.HandlerFunc) http.HandlerFunc {
		if !to.bare {
			undressed := handle
			handle = func(w http.ResponseWriter, r *http.Request) {
				writeHeaders(w, r.Method)
				undressed(w, r)
			}
		}
		if to.raw {
			return handle
		}
		short := compressed(handle)
		if to.list {
			short = (&shared{handle: handle, turns: a.core.turns, lines: a.core.lines}).ServeHTTP
		}
		if !to.watch {
			return short
		}
		return func(w http.ResponseWriter, r *http.Request) {
			if apiv1.Watches(r) {
				handle(w, r)
				return
			}
			short(w, r)
		}
	}
	answer, stale := dress(to.handle), dress(to.stale)
	return func(w http.ResponseWriter, r *http.Request) {
		standing := a.source.Standing()
		if to.local || standing.Leads {
			sign(w, standing)
			answer(w, r)
			return
		}
		if to.stale != nil && r.URL.Query().Has("stale") {
			sign(w, standing)
			w.Header().Set(HeaderStale, "true")
			stale(w, r)
			return
		}
		a.forward(w, r, standing, to.streams || to.watch && apiv1.Watches(r))
	}
}

// sign says who answers.
func sign(w http.ResponseWriter, s Standing) {
	h := w.Header()
	h.Set(HeaderReplica, s.Replica)
	if s.Lead != "" {
		h.Set(HeaderLead, s.Lead)
	}
	h.Set(HeaderEpoch, strconv.FormatUint(s.Epoch, 10))
	h.Set(HeaderRevision, strconv.FormatInt(s.Revision, 10))
}
