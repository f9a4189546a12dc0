package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"github.com/apache/yunikorn-core/pkg/common"
	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/common/resources"
	"github.com/apache/yunikorn-core/pkg/locking"
	"github.com/apache/yunikorn-core/pkg/metrics"
	"github.com/apache/yunikorn-core/pkg/scheduler"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.yaml.in/yaml/v3"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

func nameOf(partition *scheduler.PartitionContext) string {
	return common.GetPartitionNameWithoutClusterID(partition.Name)
}

func (c *core) clusters(w http.ResponseWriter, r *http.Request) {
	c.turns.write(w, r, func() any { return c.allClusters() })
}

func (c *core) allClusters() []*dao.ClusterDAOInfo {
	return each(c.partitions(), func(partition *scheduler.PartitionContext) *dao.ClusterDAOInfo {
		var build []map[string]string
		for _, rm := range c.cluster().GetRMInfoMapClone() {
			build = append(build, rm.RMBuildInformation)
		}
		return &dao.ClusterDAOInfo{
			StartTime:          c.cluster().GetStartTime().UnixNano(),
			RMBuildInformation: build,
			PartitionName:      nameOf(partition),
			ClusterName:        "kubernetes",
		}
	})
}

// listPartitions answers with the partitions.
func (c *core) listPartitions(w http.ResponseWriter, r *http.Request) {
	c.turns.write(w, r, func() any { return c.allPartitions(r.Context()) })
}

func (c *core) allPartitions(ctx context.Context) []*dao.PartitionInfo {
	return each(c.partitions(), func(p *scheduler.PartitionContext) *dao.PartitionInfo { return partitionOf(p, c.states(ctx, p)) })
}

// states counts applications by state, those that have ended included: each once, and in the
// state that the other answers say it is in.
func (c *core) states(ctx context.Context, p *scheduler.PartitionContext) map[string]int {
	of := make(map[string]string)
	for _, app := range append(p.GetApplications(), p.GetCompletedApplications()...) {
		of[app.ApplicationID] = app.CurrentState()
	}
	for _, app := range c.ended(ctx, func(*ledger.App) bool { return true }) {
		of[app.app.ID] = string(app.app.State)
	}
	counts := map[string]int{"total": len(of)}
	for _, state := range of {
		counts[state]++
	}
	return counts
}

func partitionOf(p *scheduler.PartitionContext, states map[string]int) *dao.PartitionInfo {
	capacity, used := p.GetTotalPartitionResource(), p.GetAllocatedResource()
	return &dao.PartitionInfo{
		ClusterID: p.RmID,
		Name:      nameOf(p),
		Capacity: dao.PartitionCapacity{
			Capacity:     capacity.DAOMap(),
			UsedCapacity: used.DAOMap(),
			Utilization:  resources.CalculateAbsUsedCapacity(capacity, used).DAOMap(),
		},
		NodeSortingPolicy: dao.NodeSortingPolicy{
			Type:            p.GetNodeSortingPolicyType().String(),
			ResourceWeights: p.GetNodeSortingResourceWeights(),
		},
		PreemptionEnabled:       p.IsPreemptionEnabled(),
		QuotaPreemptionEnabled:  p.IsQuotaPreemptionEnabled(),
		TotalNodes:              p.GetTotalNodeCount(),
		Applications:            states,
		TotalContainers:         p.GetTotalAllocationCount(),
		State:                   p.GetCurrentState(),
		LastStateTransitionTime: p.GetStateTime().UnixNano(),
	}
}

// config answers in YAML unless the client accepts JSON and nothing else.
func (c *core) config(w http.ResponseWriter, r *http.Request) {
	marshal := json.Marshal
	if r.Header.Get("Accept") != "application/json" {
		marshal = yaml.Marshal
		w.Header().Set("Content-Type", contentYAML)
	}
	body, err := marshal(c.configuration())
	if err != nil {
		failed(err.Error()).write(w)
		return
	}
	_, _ = w.Write(body) // The client has gone: nobody to tell.
}

func (c *core) configuration() *dao.ConfigDAOInfo {
	return &dao.ConfigDAOInfo{
		SchedulerConfig:          configs.ConfigContext.Get(c.cluster().GetPolicyGroup()),
		Extra:                    configs.GetConfigMap(),
		DeadlockDetectionEnabled: locking.IsTrackingEnabled(),
		DeadlockTimeoutSeconds:   locking.GetDeadlockTimeoutSeconds(),
	}
}

// maxConfiguration bounds what validateConf reads, in bytes. A ConfigMap holds 1 MiB.
const maxConfiguration = 4 << 20

// validateConf says whether a text could be the queue configuration. It needs no state.
func (c *core) validateConf(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxConfiguration))
	c.turns.write(w, r, func() any {
		if err == nil {
			_, err = configs.LoadSchedulerConfigFromByteArray(text)
		}
		if err != nil {
			return dao.ValidateConfResponse{Reason: err.Error()}
		}
		return dao.ValidateConfResponse{Allowed: true}
	})
}

// metrics are the core's own, which dashboards of YuniKorn show. Those of this program are
// at /metrics, see package serve.
func (c *core) metrics(w http.ResponseWriter, r *http.Request) {
	metrics.GetRuntimeMetrics().Collect()
	promhttp.Handler().ServeHTTP(w, r)
}

// health answers with the outcome of the core's last check of itself: 200 whatever it was.
func (c *core) health(w http.ResponseWriter, r *http.Request) {
	result := c.cluster().GetLastHealthCheckResult()
	if result == nil {
		notFound("Health check is not available").write(w)
		return
	}
	c.turns.write(w, r, func() any { return result })
}

// applicationHistory and containerHistory have one sample a minute.
func (c *core) applicationHistory(w http.ResponseWriter, r *http.Request) {
	if c.recalled(w, r) {
		c.turns.write(w, r, func() any { return applicationSamples(c.chronicle.Samples()) })
	}
}

func (c *core) containerHistory(w http.ResponseWriter, r *http.Request) {
	if c.recalled(w, r) {
		c.turns.write(w, r, func() any { return containerSamples(c.chronicle.Samples()) })
	}
}

func applicationSamples(samples []record.Sample) []*dao.ApplicationHistoryDAOInfo {
	return each(samples, func(s record.Sample) *dao.ApplicationHistoryDAOInfo {
		return &dao.ApplicationHistoryDAOInfo{Timestamp: int64(s.At), TotalApplications: strconv.Itoa(s.Applications)}
	})
}

func containerSamples(samples []record.Sample) []*dao.ContainerHistoryDAOInfo {
	return each(samples, func(s record.Sample) *dao.ContainerHistoryDAOInfo {
		return &dao.ContainerHistoryDAOInfo{Timestamp: int64(s.At), TotalContainers: strconv.Itoa(s.Containers)}
	})
}
