package engine

import (
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/apache/yunikorn-core/pkg/scheduler"
)

// Cluster is the root of the core's objects, for those who read them. They are alive: each
// method takes the locks of its object, so that whoever reads many of them sees no state of
// one moment. In a held engine nodes have no capacity, and there are no asks.
func (e *Engine) Cluster() *scheduler.ClusterContext { return e.core.Scheduler.GetClusterContext() }

// buildInfo is what the core tells users about this program: the keys are those of YuniKorn's
// shim, of which this program takes the place. A dependency has its version instead of a
// commit. What the build does not know is left out.
func buildInfo(version string, build *debug.BuildInfo) map[string]string {
	info := map[string]string{
		"buildVersion": version, "isPluginVersion": "false", "goVersion": runtime.Version(), "arch": runtime.GOARCH,
	}
	if build == nil {
		return info
	}
	for _, setting := range build.Settings {
		switch setting.Key {
		case "vcs.time":
			info["buildDate"] = setting.Value
		case "vcs.revision":
			info["shimSHA"] = setting.Value
		}
	}
	for _, module := range build.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		switch strings.TrimPrefix(module.Path, "github.com/apache/yunikorn-") {
		case "core":
			info["coreSHA"] = module.Version
		case "scheduler-interface":
			info["siSHA"] = module.Version
		}
	}
	return info
}
