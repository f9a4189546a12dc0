package coordinator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/internal/netfault"
)

// cluster is what a history happens to: an API server in memory, its kubelets and its
// garbage collector, and two replicas, each in a process of its own behind networks of its
// own. It notes all that the oracle has to know.
type cluster struct {
	t      *testing.T
	api    *apiServer
	dir    string
	prefix string // of the mirror, in an etcd that others use as well
	etcd   string
	lease  election.LeaseClient
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // of the kubelets

	running sync.WaitGroup
	// queues are those in force; who plays the history has them alone.
	queues map[string]quota

	mu       sync.Mutex // is never held while api is called
	facts    []fact
	noted    time.Time // when the last one was
	replicas []*player // that have not ended
	started  int
	pods     int // that have been created, and gangs
	gangs    int
	closing  bool
	// crashed says how replicas ended that nobody killed.
	crashed []string
}

func newCluster(t *testing.T, etcd, prefix string) *cluster {
	t.Helper()
	c := &cluster{t: t, api: newAPIServer(), dir: t.TempDir(), prefix: prefix, etcd: etcd, wake: make(chan struct{}, 1), noted: time.Now()}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.api.changed = func(pod *v1.Pod, gone bool) { c.note(fact{pod: pod, gone: gone}) }
	own := httptest.NewServer(c.api)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: own.URL})
	if err != nil {
		t.Fatal(err)
	}
	c.lease = election.KubeLease(client.CoordinationV1(), soakNamespace, "understudy")
	c.running.Go(func() {
		<-c.ctx.Done()
		own.CloseClientConnections()
		own.Close()
	})
	c.running.Go(c.kubelets)
	return c
}

// close ends everything.
func (c *cluster) close() {
	c.mu.Lock()
	c.closing = true
	replicas := slices.Clone(c.replicas)
	c.mu.Unlock()
	for _, p := range replicas {
		p.kill()
	}
	c.cancel()
	c.running.Wait()
}

func (c *cluster) note(f fact) {
	c.mu.Lock()
	f.at = time.Now()
	c.noted = f.at
	c.facts = append(c.facts, f)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// kubelets take the pods that are bound to their nodes, or refuse them. What belongs to a
// node or a pod that is gone goes as well.
func (c *cluster) kubelets() {
	for {
		select {
		case <-c.wake:
		case <-c.ctx.Done():
			return
		}
		nodes, uids := make(map[string]*v1.Node), make(map[types.UID]bool)
		for _, node := range list[*v1.Node](c.api, "nodes") {
			nodes[node.Name] = node
		}
		pods := list[*v1.Pod](c.api, "pods")
		slices.SortFunc(pods, func(a, b *v1.Pod) int { return strings.Compare(a.Name, b.Name) })
		used := make(map[string]int64)
		for _, pod := range pods {
			uids[pod.UID] = true
			if pod.Status.Phase == v1.PodRunning {
				used[pod.Spec.NodeName] += cpuOf(pod)
			}
		}
		for _, pod := range pods {
			name := pod.Spec.NodeName
			orphan := slices.ContainsFunc(pod.OwnerReferences, func(o metav1.OwnerReference) bool { return !uids[o.UID] })
			switch {
			case orphan || name != "" && nodes[name] == nil:
				c.api.remove("pods", pod.Namespace, pod.Name, pod.UID)
			case name == "" || pod.Status.Phase != v1.PodPending:
			case used[name]+cpuOf(pod) > cpuOfNode(nodes[name]):
				edit(c.api, "pods", pod.Namespace, pod.Name, func(p *v1.Pod) { p.Status.Phase, p.Status.Reason = v1.PodFailed, reasonRefused })
			default:
				used[name] += cpuOf(pod)
				edit(c.api, "pods", pod.Namespace, pod.Name, func(p *v1.Pod) { p.Status.Phase = v1.PodRunning })
			}
		}
	}
}

// player is a replica in a history.
type player struct {
	*soaked
	c      *cluster
	rest   string
	cmd    *exec.Cmd
	server *httptest.Server
	etcd   *netfault.Proxy
	log    *os.File
	// runs is closed once the process runs, over once it has ended.
	runs, over chan struct{}

	mu     sync.Mutex
	killed bool
	// fuse is after how many requests about pods it dies: before the last of them has come
	// about, or after that and before it has an answer. Negative for never.
	fuse   int
	before bool
}

// start starts one more replica.
func (c *cluster) start() {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return
	}
	c.started++
	p := &player{c: c, runs: make(chan struct{}), over: make(chan struct{}), fuse: -1}
	name := fmt.Sprint("r", c.started)
	c.mu.Unlock()
	p.server = httptest.NewServer(p)
	proxy, err := netfault.Listen("127.0.0.1:0", c.etcd)
	if err != nil {
		panic(err)
	}
	p.etcd = proxy
	kubeconfig := filepath.Join(c.dir, name)
	if err := os.WriteFile(kubeconfig, []byte(soakKubeconfig(p.server.URL)), 0o600); err != nil {
		panic(err)
	}
	if p.log, err = os.Create(kubeconfig + ".log"); err != nil {
		panic(err)
	}
	cfg := replicaConfig(c.t, name, kubeconfig, proxy.Address())
	cfg.Etcd.Prefix, cfg.REST.Address = c.prefix, freeAddress(c.t)
	p.rest = "http://" + cfg.REST.Address
	p.soaked, p.cmd = launch(c.t, cfg, p.log)
	close(p.runs)
	c.mu.Lock()
	c.replicas = append(c.replicas, p)
	closing := c.closing
	c.mu.Unlock()
	if closing {
		p.kill()
	}
	c.running.Go(p.watchOver)
}

// watchOver is the supervisor of a replica: it waits for its end, releases the Lease if that
// was the lead's, and starts another one.
func (p *player) watchOver() {
	err := p.cmd.Wait()
	close(p.over)
	c := p.c
	p.mu.Lock()
	killed := p.killed
	p.mu.Unlock()
	c.mu.Lock()
	c.replicas = slices.DeleteFunc(c.replicas, func(other *player) bool { return other == p })
	closing := c.closing
	// A port that was free a moment ago may be another's by now: the next one has another.
	if !killed && !closing && !strings.Contains(p.said(), "address already in use") {
		c.crashed = append(c.crashed, fmt.Sprintf("%s: %v\n%s", p.name, err, p.said()))
	}
	c.mu.Unlock()
	p.server.CloseClientConnections()
	p.server.Close()
	p.etcd.Close()
	_ = p.log.Close()
	if closing {
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
	defer cancel()
	_, _, err = election.Depose(ctx, c.lease, nil, time.Now(), func(holder string) bool { return strings.HasPrefix(holder, p.name+"_") })
	if err != nil && c.ctx.Err() == nil {
		panic(err)
	}
	c.start()
}

// said is what a replica has logged.
func (p *player) said() string {
	said, _ := os.ReadFile(p.log.Name())
	return string(said[max(0, len(said)-4000):])
}

func (p *player) kill() {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	_ = p.cmd.Process.Kill()
}

// lights has the replica die over one of its next requests.
func (p *player) lights(fuse int, before bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fuse, p.before = fuse, before
}

// burns counts a request about a pod. It reports whether the replica has to die over it,
// before or after.
func (p *player) burns() (dies, before, dead bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed {
		return false, false, true
	}
	if p.fuse < 0 {
		return false, false, false
	}
	p.fuse--
	p.killed = p.fuse < 0
	return p.killed, p.before, false
}

// ServeHTTP is the API server of one replica, which does nothing any more for one that is dead.
func (p *player) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	<-p.runs
	t := targetOf(r)
	if r.Method == http.MethodGet || t.resource != "pods" || r.URL.Query().Has("dryRun") {
		p.c.api.ServeHTTP(w, r)
		return
	}
	dies, before, dead := p.burns()
	if dead {
		panic(http.ErrAbortHandler)
	}
	if !dies || !before {
		r.Body = p.noteAsked(r, t)
	}
	if !dies {
		p.c.api.ServeHTTP(w, r)
		return
	}
	if !before {
		p.c.api.ServeHTTP(httptest.NewRecorder(), r)
	}
	_ = p.cmd.Process.Kill()
	<-p.over
	panic(http.ErrAbortHandler)
}

// leads returns the replica that holds the Lease, nil if none does.
func (c *cluster) leads() *player {
	var holder string
	for _, lease := range list[*coordinationv1.Lease](c.api, "leases") {
		if lease.Spec.HolderIdentity != nil {
			holder = *lease.Spec.HolderIdentity
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.replicas {
		if holder != "" && strings.HasPrefix(holder, p.name+"_") {
			return p
		}
	}
	return nil
}

// leading returns the replica that leads, nil as long as none does.
func (c *cluster) leading() *player {
	p := c.leads()
	if p == nil || p.status().Role != serve.Lead {
		return nil
	}
	return p
}

// usage is what the lead's engine counts for each queue, in thousandths.
func (p *player) usage() (map[string]int64, error) {
	resp, err := p.client.Get(p.rest + "/ws/v1/partition/default/queues")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	type queue struct {
		Name     string           `json:"queuename"`
		Used     map[string]int64 `json:"allocatedResource"`
		Children []queue          `json:"children"`
	}
	var root queue
	if err := json.NewDecoder(resp.Body).Decode(&root); err != nil {
		return nil, err
	}
	all := make(map[string]int64)
	var walk func(queue)
	walk = func(q queue) {
		all[q.Name] = q.Used["vcore"]
		for _, child := range q.Children {
			walk(child)
		}
	}
	walk(root)
	return all, nil
}
