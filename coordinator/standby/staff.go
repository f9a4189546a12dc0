package standby

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// staff are the app managers of a replica, in the order of the configuration. The code of
// a manager is not trusted: one that panics, blocks or fails is named, keeps the
// applications that the records have, and holds up nobody else.
type staff []*member

// hire makes the managers that are enabled, behind closed gates.
func (s *Standby) hire(deps managers.Deps) error {
	if err := s.cfg.Registry.Check(s.cfg.Managers); err != nil {
		return err
	}
	for _, entry := range s.cfg.Managers {
		m := &member{name: entry.Name, log: s.log.With("manager", entry.Name)}
		before := slices.Clone(s.staff)
		gate := managers.GateConfig{
			Manager: entry.Name, Read: s.cfg.View.Read, Pods: pods{s}, Suspect: s.suspected,
			Claimed: before.claimed, NoGangs: s.settings.DisableGangScheduling, Now: s.cfg.Now, Log: m.log,
		}
		m.gate = managers.NewGate(gate)
		deps.Protocol, deps.Claimed, deps.Cluster = m.gate, before.claimed, guarded{s.cfg.Cluster, m}
		made, err := s.cfg.Registry.Make(entry, deps)
		if err != nil {
			return err
		}
		m.AppManager = made
		if _, ok := made.(managers.Replayer); ok {
			m.gate.NoNotes()
		}
		follower, follows := made.(managers.Follower)
		if groups, of := made.(managers.GroupFollower); follows || of {
			m.tells = newTeller(follower)
			m.tells.groups = groups
		}
		s.staff = append(s.staff, m)
	}
	s.prepared.Store(true)
	return nil
}

const (
	// syncLimit is how long a replica that starts waits for its managers to have seen what
	// exists, for all of them together; syncPoll is how often it looks.
	syncLimit = time.Minute
	syncPoll  = 20 * time.Millisecond
)

// start starts all managers, and waits until those that can tell have seen what exists.
// waiting is told of each that it waits for.
func (st staff) start(ctx context.Context, waiting func(manager string)) {
	for _, m := range st {
		if m.do("ServiceInit", m.ServiceInit) {
			m.do("Start", m.Start)
		}
	}
	limit, cancel := context.WithTimeout(ctx, syncLimit)
	defer cancel()
	for _, m := range st {
		syncer, ok := m.AppManager.(managers.Syncer)
		if !ok || m.problem.Load() != nil {
			continue
		}
		waiting(m.Name())
		err := wait.PollUntilContextCancel(limit, syncPoll, true, func(context.Context) (synced bool, _ error) {
			synced, _ = try(m, "HasSynced", func() (bool, error) { return syncer.HasSynced(), nil })
			return synced || m.problem.Load() != nil, nil
		})
		if err != nil && ctx.Err() == nil {
			m.fail("Start", errors.New("it has not seen what exists yet"))
		}
	}
}

// Managers says how the app managers are, in order. Nothing is known of them before the
// standby is prepared.
func (s *Standby) Managers() []serve.Manager {
	if !s.prepared.Load() {
		return nil
	}
	list := make([]serve.Manager, len(s.staff))
	for i, m := range s.staff {
		list[i] = serve.Manager{Name: m.Name(), Noted: m.gate.Waiting()}
		if problem := m.problem.Load(); problem != nil {
			list[i].Problem = *problem
		}
		if d, ok := m.AppManager.(managers.Describer); ok {
			list[i].Resources, _ = try(m, "Describe", func() ([]serve.Resource, error) { return d.Describe(), nil })
		}
	}
	return list
}

// describes reports whether a manager follows resources that describe its applications.
func (st staff) describes(manager string) bool {
	return slices.ContainsFunc(st, func(m *member) bool {
		_, ok := m.AppManager.(managers.Describer)
		return ok && m.Name() == manager
	})
}

// expects reports whether a task of an application was reported that is to be told of.
func (st staff) expects(appID string) bool {
	return slices.ContainsFunc(st, func(m *member) bool { return m.gate.Expects(appID) })
}

// gone tells of a pod that is gone.
func (st staff) gone(pod *v1.Pod) {
	for _, m := range st {
		m.gate.Gone(string(pod.UID))
	}
}

// claimed names the manager that claims a pod, empty for none. Mostly it is another manager
// that asks, which is neither to fail nor to wait for one that does: what does not answer
// does not claim.
func (st staff) claimed(pod *v1.Pod) string {
	for _, m := range st {
		if c, ok := m.AppManager.(managers.Claimer); ok {
			claims, _ := timely(m, claimLimit, "Claims", func() (bool, error) { return c.Claims(pod), nil })
			if claims {
				return m.Name()
			}
		}
	}
	return ""
}

// open has those managers speak to the lead of p from now on for which nothing is noted.
func (st staff) open(p Promotion) {
	for _, m := range st {
		if r, ok := m.AppManager.(managers.Replayer); ok {
			opens := func() { m.gate.Open(p.Context, p.Mailbox) }
			if !m.do("Between", func() error { r.Between(opens); return nil }) {
				opens()
			}
		}
	}
}

// replay has the lead of p told what was reported while nobody led: of pods that wait, by
// the managers that can report them again.
func (st staff) replay(p Promotion, waiting []*v1.Pod) {
	var replaying sync.WaitGroup
	for _, m := range st {
		if r, ok := m.AppManager.(managers.Replayer); !ok {
			m.gate.Replay(p.Context, p.Mailbox)
		} else {
			replaying.Go(func() { m.safely("Replay", func() { r.Replay(waiting) }) })
		}
	}
	replaying.Wait()
}

// stop stops all managers. One that does not stop is left to itself.
func (st staff) stop() {
	for _, m := range st {
		m.do("Stop", func() error { m.Stop(); return nil })
	}
}

// holding is what a pod holds, as a manager says.
type holding struct {
	by   *member
	task protocol.TaskMetadata
}

// allocations asks the managers, in order, what pods that have a node hold. A pod that
// none of them knows is not in the answer.
func (st staff) allocations(pods []*v1.Pod) map[types.UID]holding {
	found := make(map[types.UID]holding, len(pods))
	for _, m := range st {
		recoverable, ok := m.AppManager.(protocol.Recoverable)
		if !ok || failpoint.Off(failpoint.Recoverable+m.Name()) {
			m.noted(pods, found)
			continue
		}
		left := slices.DeleteFunc(slices.Clone(pods), func(pod *v1.Pod) bool { _, ok := found[pod.UID]; return ok })
		tasks, _ := try(m, "GetExistingAllocation", func() (tasks []protocol.TaskMetadata, _ error) {
			for _, pod := range left {
				a := recoverable.GetExistingAllocation(pod)
				switch {
				case a == nil:
				case a.AllocationKey != string(pod.UID) || a.NodeID != pod.Spec.NodeName:
					m.fail("GetExistingAllocation", fmt.Errorf("pod %s: allocation %s on %s is not its own", cache.MetaObjectToName(pod), a.AllocationKey, a.NodeID))
				default:
					tasks = append(tasks, protocol.TaskMetadata{
						ApplicationID: a.ApplicationID, TaskID: a.AllocationKey, Pod: pod,
						Placeholder: a.Placeholder, TaskGroupName: a.TaskGroupName,
					})
				}
			}
			return tasks, nil
		})
		for _, task := range tasks {
			found[task.Pod.UID] = holding{m, task}
		}
	}
	return found
}

// noted adds to found what a manager that cannot be asked has reported of pods.
func (m *member) noted(pods []*v1.Pod, found map[types.UID]holding) {
	for _, pod := range pods {
		note, ok := m.gate.Noted(string(pod.UID))
		if _, known := found[pod.UID]; ok && !known && note.Node == pod.Spec.NodeName {
			found[pod.UID] = holding{m, protocol.TaskMetadata{
				ApplicationID: note.AppID, TaskID: note.ID, Pod: pod, Placeholder: note.Placeholder, TaskGroupName: note.TaskGroup,
			}}
		}
	}
}

// applications returns what brings applications back that the ledger lacks. missing has
// for each the manager that has it, and the name under which that manager has it.
func (st staff) applications(missing map[string]missingApp, stamp ledger.Stamp) (events []ledger.AddApp) {
	for _, m := range st {
		var listed map[string]protocol.ApplicationMetadata
		asked := false
		for id, app := range missing {
			if app.by != m {
				continue
			}
			if recoverable, ok := m.AppManager.(protocol.Recoverable); ok && !asked {
				asked = true
				listed, _ = try(m, "ListApplications", recoverable.ListApplications)
			}
			meta, ok := listed[id]
			if !ok {
				meta, ok = listed[app.named]
			}
			if ok {
				meta.ApplicationID = id
				events = append(events, m.gate.AppEvent(stamp, &meta, true))
			} else if note, ok := m.gate.NotedApp(id); ok {
				note.Recovery = true
				events = append(events, note)
			} else {
				m.log.Error("application is not listed by the manager that has pods of it", "app", id)
			}
		}
	}
	return events
}

// missingApp is an application of which there are pods and no record.
type missingApp struct {
	by    *member
	named string // by the pods today
}

// guarded is what a manager sees of the cluster. A handler that panics does not take the
// process with it.
type guarded struct {
	managers.Cluster
	m *member
}

// PodInformer watches the pods of all namespaces.
func (g guarded) PodInformer() cache.SharedIndexInformer {
	return guardedInformer{g.Cluster.PodInformer(), g.m}
}

type guardedInformer struct {
	cache.SharedIndexInformer
	m *member
}

func (i guardedInformer) AddEventHandler(h cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandler(guardedHandler{h, i.m})
}

func (i guardedInformer) AddEventHandlerWithResyncPeriod(
	h cache.ResourceEventHandler, resync time.Duration,
) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandlerWithResyncPeriod(guardedHandler{h, i.m}, resync)
}

func (i guardedInformer) AddEventHandlerWithOptions(
	h cache.ResourceEventHandler, o cache.HandlerOptions,
) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandlerWithOptions(guardedHandler{h, i.m}, o)
}

type guardedHandler struct {
	cache.ResourceEventHandler
	m *member
}

const handlingPod = "handling a pod"

func (h guardedHandler) OnAdd(obj any, initial bool) {
	h.m.safely(handlingPod, func() { h.ResourceEventHandler.OnAdd(obj, initial) })
}

func (h guardedHandler) OnUpdate(before, after any) {
	h.m.safely(handlingPod, func() { h.ResourceEventHandler.OnUpdate(before, after) })
}

func (h guardedHandler) OnDelete(obj any) {
	h.m.safely(handlingPod, func() { h.ResourceEventHandler.OnDelete(obj) })
}
