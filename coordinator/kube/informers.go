package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
)

// ClusterConfig says what a replica watches.
type ClusterConfig struct {
	// Namespace is the replica's own: its pod is there.
	Namespace string
	// SchedulerName tells the pods to schedule from those of others.
	SchedulerName string
	// ConfigMaps hold the queue configuration; a later one overrides an earlier. They are in
	// ConfigMapNamespace, or if that is empty in Namespace.
	ConfigMaps         []string
	ConfigMapNamespace string
	// PodName is the replica's own pod; empty outside a cluster.
	PodName string
}

// Cluster is what a replica knows of Kubernetes. Informers keep it current from
// the start of the replica to its end, whatever its role. The objects are
// shared: nobody may change them.
type Cluster struct {
	cfg      ClusterConfig
	metadata metadata.Interface
	contact  *contact
	log      *slog.Logger
	factory  informers.SharedInformerFactory

	pods       cache.SharedIndexInformer
	nodes      cache.SharedIndexInformer
	configMaps []cache.SharedIndexInformer // in the order of cfg.ConfigMaps
	named      map[string]cache.SharedIndexInformer

	ran  atomic.Bool
	feed feed
}

// New makes the informers; Run starts them.
func New(clients *Clients, cfg ClusterConfig, log *slog.Logger) *Cluster {
	trim := trimmer{schedulerName: cfg.SchedulerName, namespace: cfg.Namespace}
	factory := informers.NewSharedInformerFactoryWithOptions(clients.Reads, 0, informers.WithTransform(trim.trim))
	core, storage := factory.Core().V1(), factory.Storage().V1()
	c := &Cluster{
		cfg: cfg, metadata: clients.Metadata, contact: clients.contact, log: log, factory: factory,
		pods: core.Pods().Informer(), nodes: core.Nodes().Informer(),
	}
	c.named = map[string]cache.SharedIndexInformer{
		"pods":            c.pods,
		"nodes":           c.nodes,
		"namespaces":      core.Namespaces().Informer(),
		"priorityclasses": factory.Scheduling().V1().PriorityClasses().Informer(),
		// What filter plugins ask about volumes. They can be added only before
		// the factory is started.
		"persistentvolumes":      core.PersistentVolumes().Informer(),
		"persistentvolumeclaims": core.PersistentVolumeClaims().Informer(),
		"storageclasses":         storage.StorageClasses().Informer(),
		"csinodes":               storage.CSINodes().Informer(),
		"csidrivers":             storage.CSIDrivers().Informer(),
		"csistoragecapacities":   storage.CSIStorageCapacities().Informer(),
		"volumeattachments":      storage.VolumeAttachments().Informer(),
	}
	for _, name := range cfg.ConfigMaps {
		// One by name each, so that no right to read others is needed.
		informer := coreinformers.NewFilteredConfigMapInformer(clients.Reads, cfg.configMapNamespace(), 0, cache.Indexers{}, func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
		})
		c.configMaps = append(c.configMaps, informer)
		c.named["configmap-"+name] = informer
	}
	if c.contact != nil {
		c.contact.tell(log)
	}
	c.feed.init(c)
	for name, informer := range c.named {
		c.prepare(name, informer, trim)
	}
	return c
}

// prepare sets up what has to be before an informer starts. It can only fail on
// one that runs.
func (c *Cluster) prepare(name string, informer cache.SharedIndexInformer, trim trimmer) {
	report := newWatchReport(name, c.log)
	err := errors.Join(
		informer.SetTransform(trim.trim),
		informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { report.failed(err) }),
		c.feed.attach(informer),
	)
	if err != nil {
		c.log.Error("informer not set up", "informer", name, "err", err)
	}
}

// Run runs the informers until ctx ends; they keep trying while the API server
// is away. It can be called once.
func (c *Cluster) Run(ctx context.Context) error {
	if c.ran.Swap(true) {
		return errors.New("informers: run more than once")
	}
	var running sync.WaitGroup
	defer running.Wait()
	for _, informer := range c.configMaps {
		running.Go(func() { informer.RunWithContext(ctx) })
	}
	c.factory.StartWithContext(ctx)
	defer c.factory.Shutdown()
	<-ctx.Done()
	return nil
}

// Synced tells for each informer whether it has seen its first listing.
func (c *Cluster) Synced() map[string]bool {
	synced := make(map[string]bool, len(c.named))
	for name, informer := range c.named {
		synced[name] = informer.HasSynced()
	}
	return synced
}

// Unreachable says why the API server cannot be read, naming it; nil while it
// answers.
func (c *Cluster) Unreachable() error {
	if c.contact == nil {
		return nil
	}
	c.contact.mu.Lock()
	defer c.contact.mu.Unlock()
	if c.contact.lost == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", c.contact.server, c.contact.lost)
}

// syncPeriod is how often WaitForSync looks.
const syncPeriod = 20 * time.Millisecond

// WaitForSync returns when every informer has seen its first listing. The error
// names those that had not when ctx ended.
func (c *Cluster) WaitForSync(ctx context.Context) error {
	ticker := time.NewTicker(syncPeriod)
	defer ticker.Stop()
	for {
		var missing []string
		for name, synced := range c.Synced() {
			if !synced {
				missing = append(missing, name)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			slices.Sort(missing)
			return fmt.Errorf("informers not synced: %s: %w", strings.Join(missing, ", "), context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// Factory gives listers and plugins the informers that are run. Informers that
// New did not make are not started.
func (c *Cluster) Factory() informers.SharedInformerFactory { return c.factory }

// PodInformer watches the pods of all namespaces.
func (c *Cluster) PodInformer() cache.SharedIndexInformer { return c.pods }

// Namespace returns a namespace, nil if it is not known.
func (c *Cluster) Namespace(name string) *v1.Namespace {
	namespace, err := c.factory.Core().V1().Namespaces().Lister().Get(name)
	if err != nil {
		return nil
	}
	return namespace
}

// PriorityClass returns a priority class, nil if it is not known.
func (c *Cluster) PriorityClass(name string) *schedulingv1.PriorityClass {
	class, err := c.factory.Scheduling().V1().PriorityClasses().Lister().Get(name)
	if err != nil {
		return nil
	}
	return class
}

// Pods returns all pods.
func (c *Cluster) Pods() []*v1.Pod { return stored[*v1.Pod](c.pods) }

// Nodes returns all nodes.
func (c *Cluster) Nodes() []*v1.Node { return stored[*v1.Node](c.nodes) }

// PriorityClasses returns all priority classes.
func (c *Cluster) PriorityClasses() []*schedulingv1.PriorityClass {
	return stored[*schedulingv1.PriorityClass](c.named["priorityclasses"])
}

// Pod returns a pod, nil if it is not known.
func (c *Cluster) Pod(namespace, name string) *v1.Pod {
	pod, _ := lookUp[*v1.Pod](c.pods, cache.ObjectName{Namespace: namespace, Name: name}.String())
	return pod
}

// PodCount is how many pods there are.
func (c *Cluster) PodCount() int { return len(c.pods.GetStore().ListKeys()) }

// stored returns what an informer holds.
func stored[T any](informer cache.SharedIndexInformer) []T {
	list := informer.GetStore().List()
	out := make([]T, 0, len(list))
	for _, obj := range list {
		if o, ok := obj.(T); ok {
			out = append(out, o)
		}
	}
	return out
}

// watchReport logs why an informer fails to list or watch: at once when the
// reason is new, and then every reportPeriod.
type watchReport struct {
	name string
	log  *slog.Logger

	mu   sync.Mutex
	last string
	at   time.Time
}

const reportPeriod = 30 * time.Second

func newWatchReport(name string, log *slog.Logger) *watchReport {
	return &watchReport{name: name, log: log}
}

func (r *watchReport) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	message, now := err.Error(), time.Now()
	if message == r.last && now.Sub(r.at) < reportPeriod {
		return
	}
	r.last, r.at = message, now
	r.log.Warn("informer cannot reach the API server and tries again", "informer", r.name, "err", err)
}
