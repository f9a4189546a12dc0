package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/replica/record"
)

// ManagersOptions says what is measured of app managers of custom resources.
type ManagersOptions struct {
	Lab lab.Options
	// Objects of each kind. Each has a pod that runs: an application that has none for half
	// a minute is over.
	Objects int
	// Rate of status updates a second, and how many of them there are. Each object is
	// updated alike; its last update ends its application, the others change what nobody
	// reads or how it runs.
	Rate    float64
	Updates int
	// Idle is how long everything is left alone before, to know what that costs.
	Idle time.Duration
	// Limit bounds each phase.
	Limit time.Duration
	// Out is told what is being done.
	Out io.Writer
}

// DefaultManagers is what `lab bench managers` measures.
func DefaultManagers() ManagersOptions {
	o := ManagersOptions{
		Lab: lab.Default(), Objects: 2000, Rate: 100, Updates: 20_000, Idle: 30 * time.Second, Limit: 10 * time.Minute,
	}
	o.Lab.Dir = ".lab-managers"
	return o
}

// Phases of the measurement, by which the meter tells what was used in them.
const (
	phaseIdle    = "idle"
	phaseUpdates = "updates"
)

// kind is one of the two whose objects are updated.
type kind struct {
	manager string
	gvk     schema.GroupVersionKind
	plural  string
	// app is the ID of the application of an object.
	app func(*unstructured.Unstructured) string
	// status is what an object says with its n-th update, the last of which ends its
	// application.
	status func(object *unstructured.Unstructured, n int, last bool) map[string]any
}

func managedKinds() []kind {
	return []kind{
		{
			manager: "spark-operator", plural: "sparkapplications",
			gvk: schema.GroupVersionKind{Group: "sparkoperator.k8s.io", Version: "v1beta2", Kind: "SparkApplication"},
			app: func(o *unstructured.Unstructured) string { return o.GetName() },
			status: func(o *unstructured.Unstructured, n int, last bool) map[string]any {
				state := "RUNNING"
				if last {
					state = "COMPLETED"
				}
				executors := make(map[string]any)
				for i := range 10 {
					executors[fmt.Sprintf("%s-exec-%d", o.GetName(), i)] = fmt.Sprintf("RUNNING %d", n)
				}
				return map[string]any{
					"sparkApplicationId": o.GetName(), "applicationState": map[string]any{"state": state}, "executorState": executors,
				}
			},
		},
		{
			manager: "rayjob", plural: "rayjobs",
			gvk: schema.GroupVersionKind{Group: "ray.io", Version: "v1", Kind: "RayJob"},
			app: func(o *unstructured.Unstructured) string {
				return fmt.Sprintf("rayjob-%s-%s-%s", o.GetNamespace(), o.GetName(), o.GetUID()[:8])
			},
			status: func(_ *unstructured.Unstructured, n int, last bool) map[string]any {
				state := "Running"
				if last {
					state = "Complete"
				}
				return map[string]any{
					"jobDeploymentStatus": state, "message": fmt.Sprint("update ", n),
					"rayClusterStatus": map[string]any{"availableWorkerReplicas": int64(n)},
				}
			},
		},
	}
}

// ManagersReport is what was measured of app managers, and under which conditions.
type ManagersReport struct {
	Begun    time.Time   `json:"begun"`
	Machine  lab.Machine `json:"machine"`
	Replicas int         `json:"replicas"`
	// Objects there are of each kind, Updates that were written in Took.
	Objects int           `json:"objects"`
	Updates int           `json:"updates"`
	Took    time.Duration `json:"took"`
	// Lag is, by manager, the time from sending the status that ends an application to the
	// moment at which etcd showed a watcher the record that has ended.
	Lag   map[string]load.Summary `json:"lag"`
	Usage []Usage                 `json:"usage"`
	// PerUpdate is what an update has cost, beyond what doing nothing costs.
	PerUpdate []PerUpdate `json:"per_update"`
	Figures   []Figure    `json:"figures"`
}

// PerUpdate is the CPU time that one status update has cost a replica.
type PerUpdate struct {
	Replica string        `json:"replica"`
	Led     bool          `json:"led"`
	CPU     time.Duration `json:"cpu"`
}

// Managers measures app managers of custom resources under status updates.
func Managers(ctx context.Context, o ManagersOptions) (report *ManagersReport, err error) {
	report = &ManagersReport{
		Begun: time.Now(), Machine: lab.ThisMachine(), Replicas: o.Lab.Replicas, Objects: o.Objects,
		Lag: make(map[string]load.Summary),
	}
	kinds := managedKinds()
	o.Lab.Out = o.Out
	o.Lab.Managers = []any{
		map[string]any{"name": kinds[0].manager},
		map[string]any{"name": kinds[1].manager, "type": "custom", "settings": map[string]any{"preset": "rayjob"}},
		map[string]any{"name": "general"},
	}
	l, err := lab.Up(ctx, o.Lab)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Down(err != nil)) }()
	objects, err := dynamic.NewForConfig(l.RESTConfig())
	if err != nil {
		return nil, err
	}
	meter := newMeter(l)
	m := &managersBench{ManagersOptions: o, lab: l, objects: objects, kinds: kinds, meter: meter, report: report, ended: make(map[string]time.Time)}
	err = m.measure(ctx)
	report.Usage = meter.close()
	report.compare()
	return report, err
}

type managersBench struct {
	ManagersOptions
	lab     *lab.Lab
	objects dynamic.Interface
	kinds   []kind
	meter   *meter
	report  *ManagersReport
	all     []managedObject

	mu    sync.Mutex
	ended map[string]time.Time // when the record of an application was seen to have
}

// managedObject is one object, and when the status that ends its application was sent.
type managedObject struct {
	kind   kind
	object *unstructured.Unstructured
	sent   time.Time
}

func (m *managersBench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(m.Out, format+"\n", args...)
}

func (m *managersBench) measure(ctx context.Context) error {
	kinds, err := m.lab.Objects()
	if err != nil {
		return err
	}
	for _, k := range m.kinds {
		crds, err := lab.ReadManifests(filepath.Join(m.lab.Root(), "e2e", "crds", k.plural+".yaml"))
		if err == nil {
			err = kinds.Apply(ctx, crds...)
		}
		if err != nil {
			return err
		}
	}
	state, err := m.lab.State()
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	watchers.Go(func() { m.watch(watching, state.Prefix) })
	defer watchers.Wait()
	defer stop()
	if err := m.create(ctx); err != nil {
		return err
	}
	m.say("nothing happens for %v", m.Idle)
	m.meter.begin(phaseIdle)
	select {
	case <-time.After(m.Idle):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := m.update(ctx); err != nil {
		return err
	}
	lead, err := m.lab.Leader(ctx)
	if err != nil {
		return err
	}
	m.meter.compared(lead)
	return m.lags(ctx)
}

// writers is how many requests of the measurement are under way at a time.
const writers = 16

// create makes the objects and their pods, and waits until all their applications are there.
func (m *managersBench) create(ctx context.Context) error {
	m.say("%d objects of each of %d kinds", m.Objects, len(m.kinds))
	group, making := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	m.all = make([]managedObject, len(m.kinds)*m.Objects)
	for i := range m.all {
		group.Go(func() error {
			k := m.kinds[i%len(m.kinds)]
			object, err := m.make(making, k, fmt.Sprintf("%s-%05d", k.plural, i/len(m.kinds)))
			m.all[i] = managedObject{kind: k, object: object}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return m.await(ctx, "all applications", func(counts map[string]int) bool {
		return !slices.ContainsFunc(m.kinds, func(k kind) bool { return counts[k.manager] < m.Objects })
	})
}

func (m *managersBench) make(ctx context.Context, k kind, name string) (*unstructured.Unstructured, error) {
	template := map[string]any{"spec": map[string]any{
		"schedulerName": "yunikorn", "containers": []any{map[string]any{"name": "ray-head", "image": "none"}},
	}}
	object := &unstructured.Unstructured{Object: map[string]any{
		"spec": map[string]any{"rayClusterSpec": map[string]any{"headGroupSpec": map[string]any{"template": template}}},
	}}
	object.SetGroupVersionKind(k.gvk)
	object.SetNamespace(v1.NamespaceDefault)
	object.SetName(name)
	resources := m.objects.Resource(k.gvk.GroupVersion().WithResource(k.plural)).Namespace(v1.NamespaceDefault)
	made, err := resources.Create(ctx, object, metav1.CreateOptions{})
	if err != nil {
		return made, err
	}
	yes, no := true, false
	pod := &v1.Pod{Spec: v1.PodSpec{
		SchedulerName: "yunikorn", AutomountServiceAccountToken: &no,
		Containers: []v1.Container{{Name: "spark", Image: "none", Resources: v1.ResourceRequirements{
			Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("100m")},
		}}},
	}}
	pod.Name = name + "-pod"
	if k.gvk.Kind == "SparkApplication" {
		pod.Labels = map[string]string{
			"sparkoperator.k8s.io/app-name": name, "spark-role": "driver", "spark-app-selector": name,
		}
	} else {
		pod.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: k.gvk.GroupVersion().String(), Kind: k.gvk.Kind, Name: name, UID: made.GetUID(), Controller: &yes,
		}}
	}
	_, err = m.lab.Client().CoreV1().Pods(v1.NamespaceDefault).Create(ctx, pod, metav1.CreateOptions{})
	return made, err
}

// await waits until the lead's count of applications that have not ended, by manager, is as
// it should be.
func (m *managersBench) await(ctx context.Context, what string, ok func(map[string]int) bool) error {
	limit, cancel := context.WithTimeout(ctx, m.Limit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var counts map[string]int
	for {
		if lead, err := m.lab.Leader(limit); err == nil {
			status, err := m.lab.Replica(lead).Status(limit)
			counts = make(map[string]int)
			for _, manager := range status.Managers {
				counts[manager.Name] = manager.Applications
			}
			if err == nil && ok(counts) {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-limit.Done():
			return fmt.Errorf("waiting for %s: %w; there are %v", what, context.Cause(limit), counts)
		}
	}
}

// update writes statuses at the rate, of all objects in turn.
func (m *managersBench) update(ctx context.Context) error {
	rounds := max(m.Updates/len(m.all), 1)
	m.say("%d status updates at %v/s", rounds*len(m.all), m.Rate)
	pace := time.NewTicker(time.Duration(float64(time.Second) / m.Rate))
	defer pace.Stop()
	m.meter.begin(phaseUpdates)
	defer m.meter.begin("")
	began := time.Now()
	for n := range rounds {
		group, writing := errgroup.WithContext(ctx)
		group.SetLimit(writers)
		for _, i := range rand.Perm(len(m.all)) {
			select {
			case <-pace.C:
			case <-writing.Done():
				return cmp.Or(group.Wait(), context.Cause(writing))
			}
			group.Go(func() error { return m.write(writing, &m.all[i], n, n == rounds-1) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	m.report.Updates, m.report.Took = rounds*len(m.all), time.Since(began)
	return nil
}

func (m *managersBench) write(ctx context.Context, to *managedObject, n int, last bool) error {
	to.object.Object["status"] = to.kind.status(to.object, n, last)
	resources := m.objects.Resource(to.kind.gvk.GroupVersion().WithResource(to.kind.plural)).Namespace(to.object.GetNamespace())
	if last {
		to.sent = time.Now()
	}
	after, err := resources.UpdateStatus(ctx, to.object, metav1.UpdateOptions{})
	if err == nil {
		to.object = after
	}
	return err
}

// watch notes when records of applications are seen to have ended.
func (m *managersBench) watch(ctx context.Context, prefix string) {
	keys := record.Keys{Prefix: prefix}
	for answer := range m.lab.Etcd().Watch(ctx, keys.Root()+"apps/", clientv3.WithPrefix()) {
		now := time.Now()
		for _, event := range answer.Events {
			entry, err := keys.Decode(string(event.Kv.Key), event.Kv.Value)
			if err != nil || entry.App == nil || !entry.App.State.Terminal() {
				continue
			}
			m.mu.Lock()
			if m.ended[entry.App.ID].IsZero() {
				m.ended[entry.App.ID] = now
			}
			m.mu.Unlock()
		}
	}
}

// lags waits until all applications have ended, in the lead and in what was seen of the mirror, and
// says how long that took each.
func (m *managersBench) lags(ctx context.Context) error {
	if err := m.await(ctx, "the end of all applications", func(counts map[string]int) bool {
		return m.allEnded() && !slices.ContainsFunc(m.kinds, func(k kind) bool { return counts[k.manager] > 0 })
	}); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	lags := make(map[string][]time.Duration)
	for _, o := range m.all {
		at := m.ended[o.kind.app(o.object)]
		if at.IsZero() || at.Before(o.sent) {
			return fmt.Errorf("the application %s has not ended by the status of its object", o.kind.app(o.object))
		}
		lags[o.kind.manager] = append(lags[o.kind.manager], at.Sub(o.sent))
	}
	for manager, all := range lags {
		m.report.Lag[manager] = load.Summarize(all)
	}
	return nil
}

func (m *managersBench) allEnded() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !slices.ContainsFunc(m.all, func(o managedObject) bool { return m.ended[o.kind.app(o.object)].IsZero() })
}

// compare says what an update has cost, and sets the figures against what is expected.
func (r *ManagersReport) compare() {
	var led, followed int64
	r.PerUpdate, r.Figures = nil, nil
	for _, u := range r.Usage {
		if u.Kind != lab.KindReplica || u.RSS == 0 {
			continue
		}
		if u.Led {
			led = u.RSS
		} else {
			followed = max(followed, u.RSS)
		}
		cost := PerUpdate{Replica: u.Name, Led: u.Led}
		if r.Updates > 0 {
			beyond := (u.CPUs[phaseUpdates] - u.CPUs[phaseIdle]) * r.Took.Seconds()
			cost.CPU = time.Duration(beyond / float64(r.Updates) * float64(time.Second))
		}
		r.PerUpdate = append(r.PerUpdate, cost)
	}
	ratio := float64(followed) / float64(max(led, 1))
	r.Figures = append(r.Figures, Figure{
		Name: "memory of an understudy", Value: ratio, Unit: "of the lead's", Limit: 1.2,
		Met: led > 0 && followed > 0 && ratio <= 1.2,
	})
}

// Print writes the report as tables.
func (r *ManagersReport) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) }
	p("\n%d replicas, %d objects of each kind, %d status updates in %.1f s, %d CPUs shared with the control plane and the load",
		r.Replicas, r.Objects, r.Updates, r.Took.Seconds(), r.Machine.CPUs)
	if r.Machine.Busy() {
		p("the machine was busy before (load %.1f): the figures say little", r.Machine.LoadBefore)
	}
	printFigures(p, r.Figures)
	p("\nEVENT LAG\tN\tP50 ms\tP99 ms\tMAX ms")
	for _, manager := range slices.Sorted(maps.Keys(r.Lag)) {
		s := r.Lag[manager]
		p("%s\t%d\t%.1f\t%.1f\t%.1f", manager, s.N, ms(s.P50), ms(s.P99), ms(s.Max))
	}
	p("\nREPLICA\tLED\tMB\tPEAK MB\tCPUS IDLE\tIN UPDATES\tµs PER UPDATE")
	for _, c := range r.PerUpdate {
		i := slices.IndexFunc(r.Usage, func(u Usage) bool { return u.Name == c.Replica && u.Led == c.Led && u.RSS > 0 })
		u := r.Usage[i]
		p("%s\t%t\t%d\t%d\t%.3f\t%.3f\t%d", u.Name, u.Led, u.RSS/1e6, u.PeakRSS/1e6, u.CPUs[phaseIdle], u.CPUs[phaseUpdates], c.CPU.Microseconds())
	}
	p("")
	return t.Flush()
}
