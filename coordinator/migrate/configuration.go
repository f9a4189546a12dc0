package migrate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/settings"
)

// configuration looks at YuniKorn's ConfigMaps.
func (x *check) configuration() {
	x.instanceType = settings.Default(settings.KeyInstanceTypeLabel)
	where := x.homeOfConfiguration()
	look := cmp.Or(x.cfg.Engine.ConfigMapNamespace, namespaceOf(x.cfg))
	held, err := settings.Ordered(x.configMapsIn(where), settings.DefaultsConfigMap, settings.ConfigMap)
	if err != nil || !slices.ContainsFunc(held, func(cm *v1.ConfigMap) bool { return cm != nil }) {
		x.add(Note, ConfigurationMissing, "namespace "+where, "", "has no ConfigMap of YuniKorn's: each namespace gets a queue of its own, and all else has its default")
		held = nil
	} else if where != look {
		x.add(Configure, ConfigurationNamespace, "namespace "+where,
			fmt.Sprintf("set engine.configMapNamespace: %s and apply deploy/yunikorn-namespace, or copy them to %s", where, look),
			"has YuniKorn's ConfigMaps; replicas look in %s", look)
	}
	refused := false
	for _, p := range settings.Validate(held...) {
		object := "configmap " + where + "/" + cmp.Or(p.ConfigMap, settings.ConfigMap)
		message := strings.TrimPrefix(p.Error(), "ConfigMap "+p.ConfigMap+": ")
		if p.Severity == settings.Error {
			refused = true
			x.add(Blocks, ConfigurationRefused, object, "mend it: understudy config validate says the same", "%s; replicas without an earlier configuration take none of it", message)
			continue
		}
		x.add(Differs, ConfigurationDiffers, object, "", "%s", message)
	}
	merged, err := settings.Merge(held...)
	if err != nil || refused {
		return
	}
	x.handOver(where, merged)
	if label, there := merged.Data[settings.KeyInstanceTypeLabel]; there {
		x.instanceType, x.chosen = label, label != settings.Default(settings.KeyInstanceTypeLabel)
	}
	x.partition, x.configured, err = settings.Partition(merged.Data)
	x.readable = err == nil
}

// handOver names what takes effect by itself here, where YuniKorn has to be restarted.
func (x *check) handOver(where string, merged settings.Merged) {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(merged.Data)) {
		if known, ok := settings.Lookup(merged.Data, key); ok && known.Effect == settings.HandOver && merged.Data[key] != known.Default {
			keys = append(keys, key)
		}
	}
	if len(keys) > 0 {
		x.add(Note, ConfigurationHandOver, "namespace "+where, "", "sets %s, which count here as well; a change takes effect by a rolling hand-over", some(keys))
	}
}

// homeOfConfiguration is the namespace of YuniKorn's ConfigMaps: what was asked for, what its scheduler is told, or where
// there are any.
func (x *check) homeOfConfiguration() string {
	if x.namespace != "" {
		return x.namespace
	}
	for _, d := range x.schedulers {
		container := containerOf(&d.Spec.Template.Spec, schedulerContainer)
		if container == nil {
			continue
		}
		for _, e := range container.Env {
			if e.Name != envNamespace {
				continue
			}
			if e.ValueFrom != nil {
				return d.Namespace
			}
			return cmp.Or(e.Value, v1.NamespaceDefault)
		}
		if len(x.configMapsIn(d.Namespace)) > 0 {
			return d.Namespace
		}
	}
	for _, cm := range x.ConfigMaps {
		if cm.Namespace != namespaceOf(x.cfg) {
			return cm.Namespace
		}
	}
	return namespaceOf(x.cfg)
}

func (x *check) configMapsIn(namespace string) (list []*v1.ConfigMap) {
	for _, cm := range x.ConfigMaps {
		if cm.Namespace == namespace {
			list = append(list, cm)
		}
	}
	return list
}
