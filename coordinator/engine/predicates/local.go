package predicates

import (
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-helpers/storage/volume"
)

// localVolumes finds the volumes of a class that a node can reach, of classes that make none on
// demand. The plugin goes through all volumes of the class for each node, and of local volumes
// there is at least one for each node.
type localVolumes struct {
	claims  corelisters.PersistentVolumeClaimLister
	classes storagelisters.StorageClassLister
	volumes cache.Indexer
}

// byHost is the index of volumes by their class and the host that they are restricted to.
const byHost = "understudy.dev/host"

func hostKey(class, host string) string { return class + "/" + host }

func newLocalVolumes(factory informers.SharedInformerFactory) (*localVolumes, error) {
	core := factory.Core().V1()
	volumes := core.PersistentVolumes().Informer()
	if volumes.GetIndexer().GetIndexers()[byHost] == nil {
		if err := volumes.AddIndexers(cache.Indexers{byHost: hostsOf}); err != nil {
			return nil, fmt.Errorf("index of volumes: %w", err)
		}
	}
	return &localVolumes{
		claims: core.PersistentVolumeClaims().Lister(), classes: factory.Storage().V1().StorageClasses().Lister(),
		volumes: volumes.GetIndexer(),
	}, nil
}

// hostsOf are the keys of a volume: its hosts, or an empty one if it is not restricted to any.
func hostsOf(obj any) ([]string, error) {
	pv, ok := obj.(*v1.PersistentVolume)
	if !ok {
		return nil, fmt.Errorf("%T is no volume", obj)
	}
	class := volume.GetPersistentVolumeClass(pv)
	anywhere := []string{hostKey(class, "")}
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return anywhere, nil
	}
	var keys []string
	for _, term := range pv.Spec.NodeAffinity.Required.NodeSelectorTerms {
		i := slices.IndexFunc(term.MatchExpressions, func(r v1.NodeSelectorRequirement) bool {
			return r.Key == v1.LabelHostname && r.Operator == v1.NodeSelectorOpIn
		})
		if i < 0 {
			return anywhere, nil // one of the terms is enough
		}
		for _, host := range term.MatchExpressions[i].Values {
			keys = append(keys, hostKey(class, host))
		}
	}
	return keys, nil
}

// localClaims are the claims of a pod, if all of them wait for it and for a volume that exists;
// of others the plugin has more to say.
func (c *Cache) localClaims(pod *v1.Pod) (local []*v1.PersistentVolumeClaim) {
	for i := range pod.Spec.Volumes {
		source := &pod.Spec.Volumes[i]
		if source.Ephemeral != nil {
			return nil
		}
		if source.PersistentVolumeClaim == nil {
			continue
		}
		claim, err := c.local.claims.PersistentVolumeClaims(pod.Namespace).Get(source.PersistentVolumeClaim.ClaimName)
		if err != nil || claim.Spec.VolumeName != "" {
			return nil
		}
		class, err := c.local.classes.Get(volume.GetPersistentVolumeClaimClass(claim))
		if err != nil || class.Provisioner != volume.NotSupportedProvisioner {
			return nil
		}
		local = append(local, claim)
	}
	return local
}

// hasLocal reports whether there may be a volume for each claim on a node: false is certain.
func (c *Cache) hasLocal(claims []*v1.PersistentVolumeClaim, node *v1.Node) bool {
	for _, claim := range claims {
		class := volume.GetPersistentVolumeClaimClass(claim)
		if !c.local.has(claim, hostKey(class, node.Labels[v1.LabelHostname]), node) && !c.local.has(claim, hostKey(class, ""), node) {
			return false
		}
	}
	return true
}

func (l *localVolumes) has(claim *v1.PersistentVolumeClaim, key string, node *v1.Node) bool {
	objects, err := l.volumes.ByIndex(byHost, key)
	if err != nil {
		return true
	}
	volumes := make([]*v1.PersistentVolume, 0, len(objects))
	for _, obj := range objects {
		if pv, ok := obj.(*v1.PersistentVolume); ok {
			volumes = append(volumes, pv)
		}
	}
	pv, err := volume.FindMatchingVolume(claim, volumes, node, nil, true, true)
	return err != nil || pv != nil
}
