package migrate

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/managers/application"
	"github.com/understudy-ha/understudy/coordinator/managers/custom"
	"github.com/understudy-ha/understudy/coordinator/managers/spark"
	"github.com/understudy-ha/understudy/coordinator/workload"
)

// managers looks at the kinds of objects for which there are app managers.
func (x *check) managers() {
	if n := len(x.Applications); n > 0 {
		if !x.enabled(application.Type) {
			x.add(Configure, Manager, "applications.yunikorn.apache.org", "add the manager "+application.Type,
				"has %s, whose status nobody writes without the manager", counted(n, "object"))
		}
		for _, o := range x.Applications {
			if groups, _, _ := unstructured.NestedSlice(o.Object, "spec", "taskGroups"); len(groups) > 0 {
				x.add(Differs, ApplicationGang, "application "+o.GetNamespace()+"/"+o.GetName(), "take them out if they are not meant",
					"has %s: YuniKorn ignores them, the manager %s reserves for them", counted(len(groups), "task group"), application.Type)
			}
		}
	}
	ours := slices.DeleteFunc(slices.Clone(x.SparkApplications), func(o *unstructured.Unstructured) bool {
		name, _, _ := unstructured.NestedString(o.Object, "spec", "batchScheduler")
		return name != workload.DefaultSchedulerName
	})
	if len(ours) > 0 && !x.enabled(spark.Type) {
		x.add(Configure, Manager, sparkResource.GroupResource().String(), "add the manager "+spark.Type,
			"has %s for YuniKorn: without the manager their pods alone say what becomes of an application", counted(len(ours), "object"))
	}
	var offered []string
	for _, name := range custom.Presets() {
		preset, err := custom.Preset(name)
		if err != nil {
			continue // a test reads them all
		}
		if gv, err := schema.ParseGroupVersion(preset.APIVersion); err == nil && x.Served[gv.WithKind(preset.Kind)] && !x.enabledPreset(name) {
			offered = append(offered, name)
		}
	}
	if len(offered) > 0 {
		x.add(Note, ManagerOffered, "managers", "", "could be enabled for kinds that are served, and need not be: %s; YuniKorn knows their pods alone", strings.Join(offered, ", "))
	}
}

// enabled reports whether a manager of a type is.
func (x *check) enabled(kind string) bool {
	return slices.ContainsFunc(x.cfg.Managers, func(m config.Manager) bool { return m.Type == kind || m.Type == "" && m.Name == kind })
}

func (x *check) enabledPreset(name string) bool {
	return slices.ContainsFunc(x.cfg.Managers, func(m config.Manager) bool {
		if m.Type != custom.Type {
			return false
		}
		definition, err := custom.Decode(m.Decode)
		return err == nil && definition.Preset == name
	})
}
