package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"time"

	corelog "github.com/apache/yunikorn-core/pkg/log"
	"github.com/apache/yunikorn-core/pkg/scheduler"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-core/pkg/webservice"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// stack answers with the stacks of all goroutines of this process.
func (c *core) stack(w http.ResponseWriter, _ *http.Request) {
	for buf := make([]byte, 64<<10); ; buf = make([]byte, 2*len(buf)) {
		if n := runtime.Stack(buf, true); n < len(buf) {
			_, _ = w.Write(buf[:n]) // The client has gone: nobody to tell.
			return
		}
	}
}

// redirectDebug leads from where stack and state dump were before YuniKorn 1.7 to where they
// are.
func redirectDebug(w http.ResponseWriter, r *http.Request) {
	r.URL.Path = strings.Replace(r.URL.Path, webservice.WSBase, webservice.DebugBase, 1)
	// The query is the client's, and must not end the attribute that it is written into.
	to := strings.NewReplacer(`"`, "%22", "<", "%3C", ">", "%3E").Replace(r.URL.String())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusMovedPermanently)
	fmt.Fprintf(w, "<a href=\"%s\">%s</a>.\n\n", to, http.StatusText(http.StatusMovedPermanently))
}

// stateDump answers with everything, one client at a time.
func (c *core) stateDump(w http.ResponseWriter, r *http.Request) {
	select {
	case c.dumping <- struct{}{}:
		defer func() { <-c.dumping }()
	case <-r.Context().Done():
		return
	}
	var body []byte
	var err error
	placed := c.placed(r.Context())
	if !c.turns.take(r.Context(), func() { body, err = json.MarshalIndent(c.aggregate(r.Context(), placed), "", "  ") }) {
		return
	}
	if err != nil {
		failed(err.Error()).write(w)
		return
	}
	_, _ = w.Write(append(body, '\n')) // The client has gone: nobody to tell.
}

func (c *core) aggregate(ctx context.Context, placed map[types.UID]*ledger.Task) webservice.AggregatedStateInfo {
	partitions, samples := c.partitions(), c.chronicle.Samples()
	dump := webservice.AggregatedStateInfo{
		Timestamp:        time.Now().UnixNano(),
		Partitions:       c.allPartitions(ctx),
		AppHistory:       applicationSamples(samples),
		ClusterInfo:      c.allClusters(),
		ContainerHistory: containerSamples(samples),
		RMDiagnostics:    c.diagnostics(placed),
		LogLevel:         corelog.GetZapConfigs().Level.Level().String(),
		Config:           c.configuration(),
		PlacementRules:   c.allRules(),
		EventStreams:     c.open.list(),
	}
	for _, p := range partitions {
		apps := append(p.GetApplications(), p.GetCompletedApplications()...)
		dump.Applications = append(dump.Applications, each(apps, func(app *objects.Application) *dao.ApplicationDAOInfo { return c.applicationOf(ctx, app) })...)
		dump.Applications = append(dump.Applications, each(c.ended(ctx, besides(apps)), staleApp.dao)...)
		dump.Nodes = append(dump.Nodes, c.nodesOf(ctx, p))
		dump.Queues = append(dump.Queues, p.GetPartitionQueues())
	}
	return dump
}

func (c *core) nodesOf(ctx context.Context, p *scheduler.PartitionContext) *dao.NodesDAOInfo {
	nodes := each(p.GetNodes(), func(node *objects.Node) *dao.NodeDAOInfo { return c.nodeOf(ctx, node) })
	return &dao.NodesDAOInfo{PartitionName: nameOf(p), Nodes: nodes}
}

// diagnostics is what a shim has to say beside the core.
func (c *core) diagnostics(placed map[types.UID]*ledger.Task) map[string]any {
	if c.objects == nil {
		return map[string]any{"empty": "Resource Manager did not register callback"} // as the core says
	}
	return map[string]any{"cache": shim(c.objects(), placed)}
}
