package v1

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/apache/yunikorn-core/pkg/scheduler"

	"github.com/understudy-ha/understudy/coordinator/changes"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/replica/chronicle"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// Prefix is where everything is.
const Prefix = "/api/v1/"

// Replica is what is read of one. Its functions may be called from any goroutine.
type Replica struct {
	// Read calls read with the records, as api.Source does.
	Read func(ctx context.Context, read func(*ledger.Ledger)) bool
	// Core is the partition of a lead's scheduling core, nil of any other replica.
	Core func() *scheduler.PartitionContext
	// Standing says whether the replica leads, and the epoch of its state.
	Standing func() (leads bool, epoch uint64)
	// Changes are those of the records.
	Changes *changes.Log
	// Events are those of the cores of all leads; only a lead knows them.
	Events *chronicle.Log
	// Terms is the history of leadership, newest first.
	Terms func() []serve.Term
	// Turn does work once it may take a processor; false if ctx ends first.
	Turn func(ctx context.Context, work func()) bool
	// Over is closed when the replica stops to serve.
	Over <-chan struct{}
	// RevisionHeader is the header in which an answer says its revision.
	RevisionHeader string
}

// API answers requests.
type API struct {
	Replica
	watches chan struct{} // admits so many
}

// New returns what answers for a replica.
func New(of Replica) *API { return &API{Replica: of, watches: make(chan struct{}, maxWatches)} }

// Endpoint is a path, which is asked with GET.
type Endpoint struct {
	// Pattern is one of httprouter.
	Pattern string
	Handle  http.HandlerFunc
	// Local is answered by any replica, and Stale by an understudy if the client allows it. All
	// others are for the lead.
	Local, Stale bool
	// Watch says that the answer does not end if Watches says so of the request.
	Watch bool
	// List says that it has any number of items.
	List bool
}

// Endpoints are all that there are.
func (a *API) Endpoints() []Endpoint {
	all := []Endpoint{{Pattern: Prefix + "openapi.json", Handle: serveOpenAPI, Local: true}}
	for _, k := range kinds() {
		all = append(all, k.endpoints(a)...)
	}
	return all
}

// Write answers with an error.
func (e *Error) Write(w http.ResponseWriter) {
	if e.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", contentJSON)
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(e) // the client has gone: nobody to tell
}

const contentJSON = "application/json; charset=UTF-8"

// mark is up to where the replica is.
func (a *API) mark() Mark {
	_, epoch := a.Standing()
	return Mark{Revision: a.Changes.Newest().Revision, Epoch: epoch}
}

// sign puts the revision of an answer where clients look for it.
func (a *API) sign(w http.ResponseWriter, m Mark) {
	w.Header().Set(a.RevisionHeader, strconv.FormatInt(m.Revision, 10))
}
