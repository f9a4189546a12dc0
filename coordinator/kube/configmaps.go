package kube

import (
	"cmp"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/settings"
)

// Configuration returns the queue configuration: the data of the ConfigMaps, a
// later one overriding an earlier one key by key. A ConfigMap that does not
// exist says nothing; one that cannot be read is an error, lest half a
// configuration be taken for a whole one.
func (c *Cluster) Configuration() (map[string]string, error) {
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	configuration, err := c.readConfiguration()
	c.feed.hand(configuration, err)
	return maps.Clone(configuration), err
}

func (c ClusterConfig) configMapNamespace() string { return cmp.Or(c.ConfigMapNamespace, c.Namespace) }

// ConfigMap returns the one that overrides the others, of those that exist; nil if none
// does.
func (c *Cluster) ConfigMap() *v1.ConfigMap {
	for i, informer := range slices.Backward(c.configMaps) {
		if cm, exists := lookUp[*v1.ConfigMap](informer, c.cfg.configMapNamespace()+"/"+c.cfg.ConfigMaps[i]); exists {
			return cm
		}
	}
	return nil
}

// ConfigMaps returns those that hold the configuration, in their order, nil for one that
// does not exist. It reports false while they have not been listed.
func (c *Cluster) ConfigMaps() (held []*v1.ConfigMap, listed bool) {
	listed = true
	for i, informer := range c.configMaps {
		cm, _ := lookUp[*v1.ConfigMap](informer, c.cfg.configMapNamespace()+"/"+c.cfg.ConfigMaps[i])
		held, listed = append(held, cm), listed && informer.HasSynced()
	}
	return held, listed
}

func (c *Cluster) readConfiguration() (map[string]string, error) {
	held, _ := c.ConfigMaps()
	merged, err := settings.Merge(held...)
	if err != nil {
		return nil, err
	}
	return merged.Data, nil
}
