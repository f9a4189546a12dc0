package api

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/scheduler"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-core/pkg/webservice"
	"github.com/julienschmidt/httprouter"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/explain"
	"github.com/understudy-ha/understudy/replica/chronicle"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// Engine is where the state of the scheduling core is read: package engine's.
type Engine interface {
	// Cluster is the root of the core's objects.
	Cluster() *scheduler.ClusterContext
	// Explaining returns a function that says why tasks have no place, as far as a lead's engine
	// knows: for one goroutine and a short time.
	Explaining() func(appID, taskID string) *explain.Core
}

// core answers from the objects of the scheduling core. Each handler has the name of its
// endpoint, and does what the one of pkg/webservice/handlers.go does, in the same order:
// where two things are wrong with a request, the same one is told.
type core struct {
	// engine returns nil while there is none. Handlers that need it are called only when
	// there is one.
	engine func() Engine
	// read is Source's Read.
	read func(ctx context.Context, read func(*ledger.Ledger)) bool
	// chronicle has events and samples, also those of older leads.
	chronicle *chronicle.Log
	// placed are the tasks that have a place, by the UID of their pod.
	placed func(ctx context.Context) map[types.UID]*ledger.Task
	// objects are those of the API server, nil if nobody has them.
	objects func() Objects
	turns   turns
	lines   *lines
	streams *webservice.StreamingLimiter
	open    openStreams
	dumping chan struct{} // admits one dump at a time
	// over is closed when the replica stops to serve.
	over chan struct{}
	stop sync.Once
}

func (c *core) shutdown() { c.stop.Do(func() { close(c.over) }) }

func newCore(source Source, cfg Config) *core {
	return &core{
		chronicle: cfg.Chronicle,
		objects:   cfg.Objects,

		engine: func() Engine { return source.Engine() },
		read:   func(ctx context.Context, read func(*ledger.Ledger)) bool { return source.Read(ctx, read) },
		placed: func(ctx context.Context) map[types.UID]*ledger.Task { return placements(ctx, source) },
		turns:  newTurns(cfg.Changes), lines: newLines(), streams: webservice.NewStreamingLimiter(),
		dumping: make(chan struct{}, 1), over: make(chan struct{}),
	}
}

func (c *core) cluster() *scheduler.ClusterContext { return c.engine().Cluster() }

// param is a part of the path, empty if the route has none of that name.
func param(r *http.Request, name string) string {
	return httprouter.ParamsFromContext(r.Context()).ByName(name)
}

// unescaped is a part of the path of which the core undoes the escaping a second time.
func unescaped(r *http.Request, name string) (string, *refusal) {
	value, err := url.QueryUnescape(param(r, name))
	if err != nil {
		return "", badRequest(err.Error())
	}
	return value, nil
}

func validQueue(path string) *refusal {
	if path == "" {
		return nil
	}
	for name := range strings.SplitSeq(path, ".") {
		if err := configs.IsQueueNameValid(name); err != nil {
			return badRequest(err.Error())
		}
	}
	return nil
}

// partition is the one that a request names.
func (c *core) partition(r *http.Request) (*scheduler.PartitionContext, *refusal) {
	partition := c.cluster().GetPartitionWithoutClusterID(param(r, "partition"))
	if partition == nil {
		return nil, notFound(webservice.PartitionDoesNotExists)
	}
	return partition, nil
}

// queueName is the name of a queue in a request, which need not exist.
func queueName(r *http.Request) (string, *refusal) {
	name, err := unescaped(r, "queue")
	if err == nil {
		err = validQueue(name)
	}
	return name, err
}

// queue is the one that a request names.
func (c *core) queue(r *http.Request) (*objects.Queue, *refusal) {
	partition, err := c.partition(r)
	if err != nil {
		return nil, err
	}
	name, err := queueName(r)
	if err != nil {
		return nil, err
	}
	queue := partition.GetQueue(name)
	if queue == nil {
		return nil, notFound(webservice.QueueDoesNotExists)
	}
	return queue, nil
}

// partitions are all of them.
func (c *core) partitions() []*scheduler.PartitionContext {
	return valuesOf(c.cluster().GetPartitionMapClone())
}

func valuesOf[K comparable, V any](m map[K]V) []V {
	return slices.AppendSeq(make([]V, 0, len(m)), maps.Values(m))
}

// each converts all of a list. The result is never nil.
func each[A, B any](list []A, convert func(A) B) []B {
	out := make([]B, 0, len(list))
	for _, a := range list {
		out = append(out, convert(a))
	}
	return out
}
