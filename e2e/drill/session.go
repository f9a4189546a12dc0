package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/timeline"
	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// restWithin is how long records and cluster may take to agree once all pods
// are bound: twice what an application takes to complete that has no pods.
const restWithin = time.Minute

// Session is a lab under observation.
type Session struct {
	Lab      *lab.Lab
	Cluster  *history.Cluster
	Etcd     *history.Etcd
	Timeline *timeline.Observer

	state  *lab.State
	queues verify.Queues        // as they were at the beginning
	kube   kubernetes.Interface // for loads
	log    *slog.Logger

	mu    sync.Mutex
	lines []timeline.Timeline // of the failovers waited for
	loads []*load.Generator
	// expected are pods that must have been bound, besides those of loads.
	expected []verify.Expected
	faults   []history.Running // what ran before each
	times    []time.Time       // of the faults
	resets   int
	forged   map[int64]bool  // revisions of the mirror's etcd
	gone     map[string]bool // UIDs of pods that were ended or deleted, besides those of loads
	// members are pods, by UID, whose own labels do not say what they are part of.
	members map[string]membership
}

// Begin starts to write down what happens in l. The session does not own l.
func Begin(ctx context.Context, l *lab.Lab, log *slog.Logger) (*Session, error) {
	state, err := l.State()
	if err != nil {
		return nil, err
	}
	s := &Session{Lab: l, state: state, log: log, forged: map[int64]bool{}, gone: map[string]bool{}, members: map[string]membership{}}
	if s.kube, err = load.Client(l.RESTConfig()); err != nil {
		return nil, err
	}
	if s.queues, err = verify.ReadQueues(ctx, l.Client(), state.Namespace); err != nil {
		return nil, err
	}
	if s.Cluster, err = history.WatchCluster(ctx, l.Client(), history.NewStore(l.KubernetesEtcd()), log); err != nil {
		return nil, err
	}
	if s.Etcd, err = history.WatchEtcd(ctx, l.Etcd(), state.Prefix, log); err != nil {
		s.Close()
		return nil, err
	}
	s.Timeline, err = timeline.Observe(ctx, l.Client(), s.Cluster, s.Etcd, state.Namespace, state.Lease, log)
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// membership is the application that a pod is of, and the queue of that.
type membership struct{ app, queue string }

// belongs notes of which application pods are, and in which queue, where an object says so
// and not the pods.
func (s *Session) belongs(app, queue string, pods ...*v1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pod := range pods {
		s.members[string(pod.UID)] = membership{app, queue}
	}
}

// pods returns what the history says of pods, with what was noted of them.
func (s *Session) pods() []history.PodEvent {
	events := slices.Clone(s.Cluster.Pods())
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, ev := range events {
		if of, noted := s.members[ev.Pod.UID]; noted {
			pod := *ev.Pod
			pod.AppID, pod.Queue = of.app, of.queue
			events[i].Pod = &pod
		}
	}
	return events
}

// Close ends the observation.
func (s *Session) Close() {
	if s.Timeline != nil {
		s.Timeline.Close()
	}
	if s.Etcd != nil {
		s.Etcd.Close()
	}
	s.Cluster.Close()
}

// Load prepares a load whose pods the verdict will ask for.
func (s *Session) Load(cfg load.Config) (*load.Generator, error) {
	g, err := load.New(s.kube, s.Cluster, cfg, s.log)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads = append(s.loads, g)
	return g, nil
}

// Fault is something done to the lab.
type Fault struct {
	// Replica is whom it hit.
	Replica string
	// Epoch is the newest that had been claimed.
	Epoch uint64
	At    time.Time
}

// Note remembers which pods run, for a fault that is about to be done: none of
// them may be touched by what follows.
func (s *Session) Note() {
	running := s.Cluster.Running()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.times = append(s.faults, running), append(s.times, time.Now())
}

// faultsSince returns the times of the faults noted since then.
func (s *Session) faultsSince(then time.Time) []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, _ := slices.BinarySearchFunc(s.times, then, time.Time.Compare)
	return slices.Clone(s.times[first:])
}

// NoteReset says that the leader key will be lost, with which epochs in etcd
// start over.
func (s *Session) NoteReset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resets++
}

// Forge writes value under key, which is relative to the prefix, as no lead would.
func (s *Session) Forge(ctx context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp, err := s.Lab.Etcd().Put(ctx, s.state.Prefix+"/"+key, string(value))
	if err != nil {
		return fmt.Errorf("forge %s: %w", key, err)
	}
	s.forged[resp.Header.Revision] = true
	return nil
}

// Delete deletes a pod as its user would.
func (s *Session) Delete(ctx context.Context, pod *v1.Pod) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[string(pod.UID)] = true
	return s.Lab.Client().CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{})
}

// leaves notes pods that do not have to run on: somebody ends them, and no failover.
func (s *Session) leaves(uids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, uid := range uids {
		s.gone[uid] = true
	}
}

// lead waits until a replica leads, and returns a fault that may hit it. Nobody leads
// for a moment when a lead has found that etcd lost its data, and has given up the
// Lease.
func (s *Session) lead(ctx context.Context) (Fault, error) {
	name, err := s.Lab.WaitLeader(ctx)
	if err != nil {
		return Fault{}, err
	}
	status, err := s.Lab.Replica(name).Status(ctx)
	return Fault{Replica: name, Epoch: status.Epoch, At: time.Now()}, err
}

// heldByAnother waits until another replica than the one that f hit holds the Lease,
// and returns its name.
func (s *Session) heldByAnother(ctx context.Context, f Fault) (holder string, err error) {
	err = await(ctx, "another holder of the Lease", func() (bool, error) {
		name, err := s.Lab.Leader(ctx)
		holder = name
		return err == nil && name != f.Replica, nil
	})
	return holder, err
}

// faultOfLead notes a fault of the replica that leads, which is to follow at once.
func (s *Session) faultOfLead(ctx context.Context) (Fault, error) {
	fault, err := s.lead(ctx)
	if err != nil {
		return Fault{}, err
	}
	s.Note()
	fault.At = time.Now()
	return fault, nil
}

// KillLead sends sig to the replica that leads.
func (s *Session) KillLead(ctx context.Context, sig syscall.Signal) (Fault, error) {
	fault, err := s.faultOfLead(ctx)
	if err != nil {
		return Fault{}, err
	}
	return fault, s.Lab.Kill(fault.Replica, sig)
}

// FreezeLead stops the replica that leads, and its supervisor, until Lab.Thaw.
func (s *Session) FreezeLead(ctx context.Context) (Fault, error) {
	fault, err := s.faultOfLead(ctx)
	if err != nil {
		return Fault{}, err
	}
	return fault, s.Lab.Freeze(fault.Replica)
}

// AwaitReady waits until every replica leads or could lead at once.
func (s *Session) AwaitReady(ctx context.Context) error {
	return await(ctx, "all replicas to be ready", func() (bool, error) {
		for _, name := range s.state.Replicas() {
			if ready := s.Lab.Replica(name).Ready(ctx) == nil; !ready {
				return false, nil
			}
		}
		return true, nil
	})
}

// Epoch returns the newest epoch that was claimed in etcd.
func (s *Session) Epoch() (uint64, error) {
	var newest uint64
	for _, ev := range s.Etcd.Events() {
		if ev.Key != "leader" || ev.Deleted {
			continue
		}
		epoch, _, err := verify.LeaderOf(ev.Value)
		if err != nil {
			return 0, err
		}
		newest = max(newest, epoch)
	}
	if newest == 0 {
		return 0, errors.New("no epoch has been claimed")
	}
	return newest, nil
}

// Failover waits for the successor of the lead that f hit, and tells how it
// came to be.
func (s *Session) Failover(ctx context.Context, f Fault) (timeline.Timeline, error) {
	line, err := s.Timeline.Failover(ctx, f.At, f.Epoch)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
	return line, err
}

// failovers returns the timelines of those waited for so far.
func (s *Session) failovers() []timeline.Timeline {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines
}

// Verdict judges everything since Begin, once all loads are done.
func (s *Session) Verdict(ctx context.Context) (verify.Verdict, error) {
	agree, err := s.agree(ctx)
	if err != nil {
		return verify.Verdict{}, err
	}
	s.awaitTerm(ctx)
	if err := errors.Join(s.Cluster.Settle(ctx), s.Etcd.Settle(ctx)); err != nil {
		return verify.Verdict{}, fmt.Errorf("the history cannot be completed: %w", err)
	}
	var audit []verify.Binding
	if s.state.AuditLog != "" {
		if audit, err = verify.ReadAuditFile(s.state.AuditLog); err != nil {
			return verify.Verdict{}, err
		}
	}
	if err := s.sameQueues(ctx); err != nil {
		return verify.Verdict{}, err
	}
	pods, gaps := s.pods(), s.Cluster.Gaps()
	s.mu.Lock()
	defer s.mu.Unlock()
	expected := slices.Clone(s.expected)
	deleted := maps.Clone(s.gone)
	for _, g := range s.loads {
		expected = append(expected, g.Created()...)
		for uid := range g.Deleted() {
			deleted[uid] = true
		}
	}
	suspended, err := s.suspended()
	if err != nil {
		return verify.Verdict{}, err
	}
	checks := []verify.Check{
		verify.BoundOnce(expected, pods, gaps, audit),
		verify.Capacity(s.Cluster.Nodes(), pods, gaps),
		verify.QueueQuota(s.queues, pods, gaps),
		verify.OneEpochBinds(pods, gaps, audit, ""),
		verify.Fence(s.Etcd.Events(), s.Etcd.Gaps(), verify.FenceOptions{Resets: s.resets, Forged: s.forged}),
		verify.IntentBeforeBind(pods, gaps, s.Etcd.Events(), s.Etcd.Gaps(), verify.IntentOptions{Suspended: suspended}),
		verify.Promoted(s.Etcd.Events(), s.Etcd.Gaps()),
		agree,
	}
	for i, running := range s.faults {
		c := verify.Untouched(running, pods, gaps, deleted)
		if len(s.faults) > 1 {
			c.Name = fmt.Sprintf("%s (fault %d)", c.Name, i+1)
		}
		checks = append(checks, c)
	}
	return verify.NewVerdict(checks...), nil
}

func (s *Session) agree(ctx context.Context) (verify.Check, error) {
	ctx, cancel := context.WithTimeout(ctx, restWithin)
	defer cancel()
	apps := map[string]string{}
	for _, ev := range s.pods() {
		apps[ev.Pod.UID] = ev.Pod.AppID
	}
	return verify.AwaitRecordsAgree(ctx, s.Lab.Client(), s.Lab.Etcd(), s.state.Prefix, verify.AgreeOptions{Apps: apps})
}

// sameQueues makes sure that the quotas have been the same all the time.
func (s *Session) sameQueues(ctx context.Context) error {
	now, err := verify.ReadQueues(ctx, s.Lab.Client(), s.state.Namespace)
	if err == nil && !now.Same(s.queues) {
		err = errors.New("the queue configuration has changed: quotas cannot be judged")
	}
	return err
}

// awaitTerm waits until the record of the last epoch to be claimed says that its lead
// leads. That it does not is for the verdict to say.
func (s *Session) awaitTerm(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, restWithin)
	defer cancel()
	_ = await(ctx, "the record of the term", func() (bool, error) {
		epoch, err := s.Epoch()
		if err != nil {
			return false, err
		}
		term, err := s.Lab.Etcd().Get(ctx, fmt.Sprintf("%s/terms/%020d", s.state.Prefix, epoch))
		if err != nil || len(term.Kvs) == 0 {
			return false, err
		}
		_, _, timings, err := verify.TermOf(term.Kvs[0].Value)
		return err == nil && verify.Led(timings), err
	})
}

// runsAhead is what a lead says when it suspends the guarantee that effects
// follow their records.
const runsAhead = "etcd does not answer: effects run ahead of durability"

// suspended returns the epochs whose leads said so. Their logs tell, for a lead
// that was killed cannot be asked any more.
func (s *Session) suspended() (map[uint64]bool, error) {
	epochs := map[uint64]bool{}
	for _, name := range s.state.Replicas() {
		log, err := os.ReadFile(s.state.Process(name).Log)
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(log) {
			var said struct {
				Msg   string
				Epoch uint64
			}
			if json.Unmarshal(line, &said) == nil && said.Msg == runsAhead {
				epochs[said.Epoch] = true
			}
		}
	}
	return epochs, nil
}

// ErrVerdict says that a check failed.
var ErrVerdict = errors.New("the verdict is: failed")

// Conclude prints the verdict, and returns ErrVerdict unless it is good.
func Conclude(w io.Writer, v verify.Verdict) error {
	if err := v.Print(w); err != nil {
		return err
	}
	if !v.OK {
		return ErrVerdict
	}
	return nil
}
