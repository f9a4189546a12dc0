package migrate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/settings"
	"github.com/understudy-ha/understudy/coordinator/workload"
)

// Check says what whoever migrates has to know of a cluster. cfg is the configuration that the
// replicas will have. namespace is that of YuniKorn's ConfigMaps; empty means where its scheduler
// reads them.
func Check(c *Cluster, cfg config.Config, namespace string) []Finding {
	x := &check{Cluster: c, cfg: cfg, namespace: namespace}
	for _, d := range c.Deployments {
		if componentOf(&d.Spec.Template) == componentScheduler {
			x.schedulers = append(x.schedulers, d)
		} else {
			x.admissions = append(x.admissions, d)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(c.Unread)) {
		x.add(Blocks, NotRead, what, "allow it, or have somebody check who is allowed to", "cannot be read: %v", c.Unread[what])
	}
	x.scheduler()
	x.lease()
	x.server()
	x.admission()
	x.services()
	x.rights()
	x.configuration()
	x.roles()
	x.nodes()
	x.managers()
	x.pods()
	x.annotations()
	x.gangs()
	x.queues()
	return x.found
}

// check is one check under way.
type check struct {
	*Cluster
	cfg       config.Config
	namespace string
	// schedulers and admissions are Deployments of YuniKorn.
	schedulers, admissions []*appsv1.Deployment
	// partition and configured are what the ConfigMaps say of queues; readable is false if that
	// could not be read.
	partition  configs.PartitionConfig
	configured []settings.Queue
	readable   bool
	// instanceType is the label of nodes that names their type, and chosen whether the ConfigMaps name another than the default.
	instanceType string
	chosen       bool
	found        []Finding
}

func (x *check) add(severity Severity, kind Kind, object, do, format string, args ...any) {
	x.found = append(x.found, Finding{Severity: severity, Kind: kind, Object: object, Message: fmt.Sprintf(format, args...), Do: do})
}

// namespaceOf is where the replicas of a configuration run.
func namespaceOf(cfg config.Config) string { return cmp.Or(cfg.Namespace, config.DefaultNamespace) }

// live are the pods that are to be scheduled and have not ended.
func (x *check) live() []*v1.Pod {
	return slices.DeleteFunc(slices.Clone(x.Pods), func(p *v1.Pod) bool {
		return workload.Terminated(p) || !workload.Ours(p, workload.DefaultSchedulerName)
	})
}

func podName(p *v1.Pod) string { return "pod " + p.Namespace + "/" + p.Name }

// counted is a number with its noun.
func counted(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// some names a few and counts the others.
func some(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
