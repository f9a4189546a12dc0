package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"time"

	corelog "github.com/apache/yunikorn-core/pkg/log"
	"github.com/apache/yunikorn-core/pkg/plugins"
	"github.com/apache/yunikorn-core/pkg/scheduler"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-core/pkg/webservice"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"
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
	rejected := c.rejected(r.Context())
	if !c.turns.take(r.Context(), func() { body, err = json.MarshalIndent(c.aggregate(rejected), "", "  ") }) {
		return
	}
	if err != nil {
		failed(err.Error()).write(w)
		return
	}
	_, _ = w.Write(append(body, '\n')) // The client has gone: nobody to tell.
}

func (c *core) aggregate(rejected []staleApp) webservice.AggregatedStateInfo {
	partitions, samples := c.partitions(), c.chronicle.Samples()
	dump := webservice.AggregatedStateInfo{
		Timestamp:        time.Now().UnixNano(),
		Partitions:       c.allPartitions(len(rejected)),
		AppHistory:       applicationSamples(samples),
		ClusterInfo:      c.allClusters(),
		ContainerHistory: containerSamples(samples),
		RMDiagnostics:    diagnostics(),
		LogLevel:         corelog.GetZapConfigs().Level.Level().String(),
		Config:           c.configuration(),
		PlacementRules:   c.allRules(),
		EventStreams:     c.open.list(),
	}
	for _, p := range partitions {
		for _, apps := range [][]*objects.Application{p.GetApplications(), p.GetCompletedApplications()} {
			dump.Applications = append(dump.Applications, each(apps, applicationOf)...)
		}
		dump.Nodes = append(dump.Nodes, nodesOf(p))
		dump.Queues = append(dump.Queues, p.GetPartitionQueues())
	}
	dump.Applications = append(dump.Applications, each(rejected, staleApp.dao)...)
	return dump
}

func nodesOf(p *scheduler.PartitionContext) *dao.NodesDAOInfo {
	return &dao.NodesDAOInfo{PartitionName: nameOf(p), Nodes: each(p.GetNodes(), nodeOf)}
}

// diagnostics is what the engine has to say beside the core.
func diagnostics() map[string]any {
	plugin := plugins.GetStateDumpPlugin()
	if plugin == nil {
		return map[string]any{"empty": "Resource Manager did not register callback"}
	}
	out := make(map[string]any)
	text, err := plugin.GetStateDump()
	if err == nil {
		err = json.Unmarshal([]byte(text), &out)
	}
	if err != nil {
		out["Error"] = err.Error()
	}
	return out
}
