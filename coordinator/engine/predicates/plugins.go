package predicates

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	plfeature "k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/interpodaffinity"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeaffinity"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodename"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeports"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/noderesources"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeunschedulable"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodevolumelimits"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/podtopologyspread"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/tainttoleration"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/volumebinding"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/volumerestrictions"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/volumezone"
)

// checker is what every plugin used here implements.
type checker interface {
	fwk.PreFilterPlugin
	fwk.FilterPlugin
}

// plugins holds one instance of each filter plugin.
type plugins struct {
	name          fwk.FilterPlugin
	unschedulable fwk.FilterPlugin
	taints        fwk.FilterPlugin
	affinity      checker
	ports         checker
	resources     checker
	spread        checker
	interPod      checker
	// volumes is empty unless the cache was built WithVolumes.
	volumes []checker
	binding *volumebinding.VolumeBinding
}

// factory creates a plugin from its arguments.
type factory = func(context.Context, runtime.Object, fwk.Handle, plfeature.Features) (fwk.Plugin, error)

// builder creates plugins and collects the errors of doing so.
type builder struct {
	ctx      context.Context
	handle   fwk.Handle
	features plfeature.Features
	args     map[string]runtime.Object
	errs     []error
}

func (b *builder) make(name string, f factory) fwk.Plugin {
	p, err := f(b.ctx, b.args[name], b.handle, b.features)
	if err != nil {
		b.errs = append(b.errs, fmt.Errorf("plugin %s: %w", name, err))
		return nil
	}
	return p
}

// build creates a plugin and checks that it has the extension points T.
func build[T any](b *builder, name string, f factory) T {
	var zero T
	p := b.make(name, f)
	if p == nil {
		return zero
	}
	t, ok := p.(T)
	if !ok {
		b.errs = append(b.errs, fmt.Errorf("plugin %s does not implement %T", name, zero))
	}
	return t
}

func newPlugins(ctx context.Context, h *handle, o options) (*plugins, error) {
	features := plfeature.NewSchedulerFeaturesFromGates(utilfeature.DefaultFeatureGate)
	features.EnableInterPodAffinityHostnameFastPath = true
	features.EnableDRAExtendedResource = false
	b := &builder{ctx: ctx, handle: h, features: features, args: defaultArgs(o.bindTimeout)}
	p := &plugins{
		name:          build[fwk.FilterPlugin](b, names.NodeName, nodename.New),
		unschedulable: build[fwk.FilterPlugin](b, names.NodeUnschedulable, nodeunschedulable.New),
		taints:        build[fwk.FilterPlugin](b, names.TaintToleration, tainttoleration.New),
		affinity:      build[checker](b, names.NodeAffinity, nodeaffinity.New),
		ports:         build[checker](b, names.NodePorts, nodeports.New),
		resources:     build[checker](b, names.NodeResourcesFit, noderesources.NewFit),
		spread:        build[checker](b, names.PodTopologySpread, podtopologyspread.New),
		interPod:      build[checker](b, names.InterPodAffinity, interpodaffinity.New),
	}
	if o.volumes {
		p.binding = build[*volumebinding.VolumeBinding](b, names.VolumeBinding, volumebinding.New)
		p.volumes = []checker{
			build[checker](b, names.VolumeRestrictions, volumerestrictions.New),
			p.binding,
			build[checker](b, names.NodeVolumeLimits, nodevolumelimits.NewCSI),
			build[checker](b, names.VolumeZone, volumezone.New),
		}
	}
	return p, errors.Join(b.errs...)
}

// defaultArgs returns the arguments kube-scheduler would start each plugin
// with, except that pods get no topology spread they did not ask for: the
// defaults are preferences only, and would need listers of every controller.
// Scoring never happens here; the strategy is set because it is validated.
func defaultArgs(bindTimeout time.Duration) map[string]runtime.Object {
	return map[string]runtime.Object{
		names.NodeAffinity: &config.NodeAffinityArgs{},
		names.NodeResourcesFit: &config.NodeResourcesFitArgs{ScoringStrategy: &config.ScoringStrategy{
			Type:      config.LeastAllocated,
			Resources: []config.ResourceSpec{{Name: string(v1.ResourceCPU), Weight: 1}, {Name: string(v1.ResourceMemory), Weight: 1}},
		}},
		names.PodTopologySpread: &config.PodTopologySpreadArgs{DefaultingType: config.ListDefaulting},
		names.InterPodAffinity:  &config.InterPodAffinityArgs{HardPodAffinityWeight: 1},
		names.VolumeBinding: &config.VolumeBindingArgs{
			BindTimeoutSeconds: int64(max(bindTimeout, time.Second).Seconds()),
			Shape:              []config.UtilizationShapePoint{{Utilization: 0, Score: 0}, {Utilization: 100, Score: 10}},
		},
	}
}

// volumeBindTimeout is kube-scheduler's default of WithBindTimeout, and YuniKorn's.
const volumeBindTimeout = 10 * time.Minute

// handle gives plugins the few services they use of the scheduler. What is not
// overridden is nil and must not be called by the plugins above.
type handle struct {
	fwk.Handle
	lister  fwk.SharedLister
	factory informers.SharedInformerFactory
	client  clientset.Interface
	csi     fwk.CSIManager
}

func (h *handle) SnapshotSharedLister() fwk.SharedLister                 { return h.lister }
func (h *handle) SharedInformerFactory() informers.SharedInformerFactory { return h.factory }
func (h *handle) ClientSet() clientset.Interface                         { return h.client }
func (h *handle) SharedCSIManager() fwk.CSIManager                       { return h.csi }
func (h *handle) SharedDRAManager() fwk.SharedDRAManager                 { return nil }
func (h *handle) Parallelizer() fwk.Parallelizer                         { return inline{} }

// inline runs work pieces one after the other on the calling goroutine. A
// piece costs less than handing it to another goroutine, and the scheduling
// loop has the processor's other cores to share with everything else.
type inline struct{}

func (inline) Until(ctx context.Context, pieces int, do workqueue.DoWorkPieceFunc, _ string) {
	for i := range pieces {
		if ctx.Err() != nil {
			return
		}
		do(i)
	}
}

// cycleState is the state that the plugins' PreFilter leave for their Filter:
// a handful of entries, so a slice is faster than the map of the scheduler's
// own type. It may be read by several goroutines once nobody writes to it.
type cycleState struct {
	fwk.CycleState
	keys  []fwk.StateKey
	data  []fwk.StateData
	outer *cycleState
}

func (s *cycleState) Read(key fwk.StateKey) (fwk.StateData, error) {
	for c := s; c != nil; c = c.outer {
		for i, k := range c.keys {
			if k == key {
				return c.data[i], nil
			}
		}
	}
	return nil, fwk.ErrNotFound
}

func (s *cycleState) Write(key fwk.StateKey, val fwk.StateData) {
	for i, k := range s.keys {
		if k == key {
			s.data[i] = val
			return
		}
	}
	s.keys = append(s.keys, key)
	s.data = append(s.data, val)
}

func (s *cycleState) Delete(key fwk.StateKey) {
	for i, k := range s.keys {
		if k == key {
			s.keys = append(s.keys[:i:i], s.keys[i+1:]...)
			s.data = append(s.data[:i:i], s.data[i+1:]...)
			return
		}
	}
}

// Clone copies the state so that AddPod and RemovePod of the plugins may
// change it.
func (s *cycleState) Clone() fwk.CycleState { return s.clone() }

func (s *cycleState) clone() *cycleState {
	c := &cycleState{}
	for o := s; o != nil; o = o.outer {
		for i, k := range o.keys {
			c.keys = append(c.keys, k)
			c.data = append(c.data, o.data[i].Clone())
		}
	}
	return c
}

func (s *cycleState) ShouldRecordPluginMetrics() bool                    { return false }
func (s *cycleState) GetSkipFilterPlugins() sets.Set[string]             { return nil }
func (s *cycleState) IsPodGroupSchedulingCycle() bool                    { return false }
func (s *cycleState) GetPodGroupSchedulingCycle() fwk.PodGroupCycleState { return nil }
func (s *cycleState) GetPlacementCycleState() fwk.PlacementCycleState    { return nil }

var _ fwk.CycleState = (*cycleState)(nil)

// usesVolumes reports whether a volume plugin may have something to say about
// the pod.
func usesVolumes(pod *v1.Pod) bool {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil, v.Ephemeral != nil,
			v.GCEPersistentDisk != nil, v.AWSElasticBlockStore != nil, v.AzureDisk != nil,
			v.Cinder != nil, v.VsphereVolume != nil, v.PortworxVolume != nil, v.RBD != nil, v.ISCSI != nil, v.CSI != nil:
			return true
		}
	}
	return false
}
