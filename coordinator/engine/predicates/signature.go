package predicates

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/utils/lru"
)

// sharedState is what PreFilter found for all pods of one signature: how they
// relate to the pods and nodes there are.
type sharedState struct {
	signature string
	pods      int // that share it; guarded by signatures.mu

	mu     sync.Mutex
	spread precomputed
	inter  precomputed
}

// precomputed is one plugin's state and what it was computed from. A nil state
// without error means that the plugin has nothing to check.
type precomputed struct {
	valid bool
	from  generations
	state *cycleState
	err   error
}

// signatures finds the shared state of pods that the plugins cannot tell apart.
type signatures struct {
	mu     sync.Mutex
	states map[string]*sharedState
	// recent are those whose state is kept.
	recent *lru.Cache
}

// keptStates is of how many signatures the state is kept, those that were asked about last. A
// state has something of each node. Where each pod that waits has a label of its own, as pods of
// StatefulSets and of indexed Jobs do, there are as many signatures as pods.
const keptStates = 256

// keptSignatures is how many signatures there may be for those that no pod has to be
// kept, for pods that come one after another. The state of one has something of each node.
const keptSignatures = 64

func (s *signatures) init() {
	s.states = make(map[string]*sharedState)
	s.recent = lru.NewWithEvictionFunc(keptStates, func(_ lru.Key, value any) {
		if st, ok := value.(*sharedState); ok {
			st.drop()
		}
	})
}

// used takes note that a state was asked for. The caller holds the lock of none.
func (s *signatures) used(st *sharedState) { s.recent.Add(st, st) }

// drop forgets what was found out.
func (s *sharedState) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spread, s.inter = precomputed{}, precomputed{}
}

// take returns the state of a signature for one more pod.
func (s *signatures) take(key string) *sharedState {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.states[key]
	if st == nil {
		st = &sharedState{signature: key}
		s.states[key] = st
	}
	st.pods++
	return st
}

// give takes back what a pod had, if it had any.
func (s *signatures) give(st *sharedState) {
	if st == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.pods--; st.pods == 0 && len(s.states) > keptSignatures {
		delete(s.states, st.signature)
	}
}

// signature spells out everything that the spread and inter-pod plugins read
// of an incoming pod.
func signature(pod *v1.Pod) string {
	parts := struct {
		Namespace   string
		Labels      map[string]string
		Affinity    *v1.Affinity                  `json:",omitempty"`
		Spread      []v1.TopologySpreadConstraint `json:",omitempty"`
		Selector    map[string]string             `json:",omitempty"`
		Tolerations []v1.Toleration               `json:",omitempty"`
	}{Namespace: pod.Namespace, Labels: pod.Labels, Affinity: pod.Spec.Affinity}
	if mustSpread(pod) {
		// Which nodes a spread counts depends on these.
		parts.Spread = pod.Spec.TopologySpreadConstraints
		parts.Selector = pod.Spec.NodeSelector
		parts.Tolerations = pod.Spec.Tolerations
	}
	key, err := json.Marshal(parts)
	if err != nil {
		// Not reachable with these types; a key of its own is always right.
		return string(pod.UID)
	}
	return string(key)
}

// plainSignature does the same, without the cost of encoding, for the many
// pods that have neither affinity nor spread.
func plainSignature(pod *v1.Pod) string {
	keys := sets.List(sets.KeySet(pod.Labels))
	parts := append(make([]string, 0, 2+2*len(keys)), "plain", pod.Namespace)
	for _, k := range keys {
		parts = append(parts, k, pod.Labels[k])
	}
	return strings.Join(parts, "\x00")
}

func (c *Cache) sharedState(e *podEntry, own *ownState) *sharedState {
	if s := e.shared.Load(); s != nil {
		return s
	}
	var s *sharedState
	if own.spread || e.pod.Spec.Affinity != nil {
		s = c.signatures.take(signature(e.pod))
	} else {
		s = c.signatures.take(plainSignature(e.pod))
	}
	if !e.shared.CompareAndSwap(nil, s) { // by another question about the pod
		c.signatures.give(s)
	}
	return s
}

// neighbourStates returns the PreFilter states of the spread and inter-pod
// plugins as of now, nil where the plugin has nothing to check for this pod.
func (c *Cache) neighbourStates(e *podEntry, own *ownState) (spread, inter *cycleState, err error) {
	s := c.sharedState(e, own)
	defer c.signatures.used(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if own.spread {
		from := generations{nodes: c.gens.nodes, pods: c.gens.pods}
		if err := c.refresh(&s.spread, from, c.plugins.spread, e.pod); err != nil {
			return nil, nil, err
		}
		spread = s.spread.state
	}
	if own.affine || c.index.repelled() {
		from := generations{nodes: c.gens.nodes, repel: c.gens.repel, namespaces: c.gens.namespaces}
		if own.affine && countsPods(e.pod) {
			from.pods = c.gens.pods
		}
		if err := c.refresh(&s.inter, from, c.plugins.interPod, e.pod); err != nil {
			return nil, nil, err
		}
		inter = s.inter.state
	}
	return spread, inter, nil
}

// countsPods reports whether the inter-pod plugin precomputes anything from
// the pods of the whole cluster for this pod. It does not if all the pod has
// is anti-affinity scoped to the hostname, which Filter checks on the spot.
func countsPods(pod *v1.Pod) bool {
	a := pod.Spec.Affinity
	if a.PodAffinity != nil && len(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
		return true
	}
	return a.PodAntiAffinity != nil && slices.ContainsFunc(
		a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution,
		func(t v1.PodAffinityTerm) bool { return t.TopologyKey != v1.LabelHostname })
}

func (c *Cache) refresh(p *precomputed, from generations, plugin fwk.PreFilterPlugin, pod *v1.Pod) error {
	if p.valid && p.from == from {
		return p.err
	}
	*p = precomputed{valid: true, from: from}
	state := &cycleState{}
	_, st := plugin.PreFilter(c.ctx, state, pod, c.index.all)
	switch {
	case st.IsSkip():
	case !st.IsSuccess():
		p.err = refusal(plugin.Name(), st)
	default:
		p.state = state
	}
	return p.err
}
