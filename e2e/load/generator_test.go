package load

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is an API server of a kind, with a scheduler that binds each pod
// after a delay.
type cluster struct {
	*fake.Clientset
	delay time.Duration
	// before may fail a creation, after hide its success.
	before, after func(name string) error

	wg   sync.WaitGroup
	mu   sync.Mutex
	subs []func(history.PodEvent)
	made []*v1.Pod
}

func newCluster(delay time.Duration) *cluster {
	pass := func(string) error { return nil }
	c := &cluster{Clientset: fake.NewClientset(), delay: delay, before: pass, after: pass}
	c.PrependReactor("create", "pods", c.create)
	return c
}

func (c *cluster) Subscribe(fn func(history.PodEvent)) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs = append(c.subs, fn)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.subs = nil
	}
}

func (c *cluster) create(a clienttesting.Action) (bool, runtime.Object, error) {
	p := a.(clienttesting.CreateAction).GetObject().(*v1.Pod).DeepCopy()
	p.UID = types.UID("uid-" + p.Name)
	if err := c.before(p.Name); err != nil {
		return true, nil, err
	}
	if err := c.Tracker().Add(p); err != nil {
		return true, nil, apierrors.NewAlreadyExists(schema.GroupResource{Resource: "pods"}, p.Name)
	}
	c.mu.Lock()
	c.made = append(c.made, p)
	c.mu.Unlock()
	if c.delay >= 0 {
		c.wg.Go(func() {
			time.Sleep(c.delay) // virtual
			c.bind(p)
		})
	}
	return true, p, c.after(p.Name)
}

func (c *cluster) bind(p *v1.Pod) {
	p = p.DeepCopy()
	p.Spec.NodeName = "n1"
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, fn := range c.subs {
		fn(history.PodEvent{At: time.Now(), Kind: history.Changed, Pod: history.FromPod(p, nil)})
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func generator(t *testing.T, c *cluster, change func(*Config)) *Generator {
	t.Helper()
	cfg := Default()
	cfg.Pods, cfg.Apps = 60, 4
	change(&cfg)
	g, err := New(c, c, cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestSteadyLoadKeepsItsRateAndMeasuresLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(30 * msec)
		g := generator(t, c, func(cfg *Config) { *cfg = cfg.Steady(20, 3*time.Second) })
		start := time.Now()
		r, err := g.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.wg.Wait()
		if r.Created != 60 || r.Bound != 60 || r.Latency.N != 60 {
			t.Errorf("created %d, bound %d", r.Created, r.Bound)
		}
		if r.Latency.Min != 30*msec || r.Latency.Max != 30*msec {
			t.Errorf("latency %v, want 30 ms for all", r.Latency)
		}
		// The last of 60 pods is due 59 intervals after the first.
		if d := time.Since(start); d != 59*50*msec+30*msec {
			t.Errorf("took %v", d)
		}
		if r.Gap.Length != 30*msec {
			t.Errorf("gap %v: between two pods nothing waits", r.Gap.Length)
		}
		if r.Peak != 20 {
			t.Errorf("peak %v", r.Peak)
		}
	})
}

func TestPodsCarryWhatTheSchedulerReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(0)
		g := generator(t, c, func(cfg *Config) { cfg.Name, cfg.CPU = "burst", "150m" })
		if _, err := g.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.wg.Wait()
		apps := map[string]int{}
		for _, p := range c.made {
			apps[p.Labels["applicationId"]]++
			if p.Spec.SchedulerName != "yunikorn" || p.Labels["queue"] != "root.default" || p.Namespace != "default" {
				t.Fatalf("pod %s: scheduler %q, labels %v", p.Name, p.Spec.SchedulerName, p.Labels)
			}
			if q := p.Spec.Containers[0].Resources.Requests[v1.ResourceCPU]; q.String() != "150m" {
				t.Fatalf("pod %s requests %s", p.Name, q.String())
			}
		}
		if len(apps) != 4 || apps["burst-app-0"] != 15 {
			t.Errorf("applications: %v", apps)
		}
		for _, e := range g.Created() {
			if e.UID != "uid-"+e.Name || e.Namespace != "default" {
				t.Fatalf("created: %+v", e)
			}
		}
		if n := len(g.Created()); n != 60 {
			t.Errorf("%d created", n)
		}
	})
}

// The API server of this test answers the first pods only when as many
// requests as there are workers have come in, and counts whether more do.
func TestCreationsInFlightAreBounded(t *testing.T) {
	const workers = 8
	var mu sync.Mutex
	flight, highest := 0, 0
	all := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Content-Type"); got != "application/vnd.kubernetes.protobuf" {
			t.Errorf("content type %q", got)
		}
		mu.Lock()
		flight++
		highest = max(highest, flight)
		if flight == workers && highest == workers {
			select {
			case <-all:
			default:
				close(all)
			}
		}
		mu.Unlock()
		select {
		case <-all:
		case <-r.Context().Done():
		}
		mu.Lock()
		flight--
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x","uid":"u"}}`)
	}))
	defer srv.Close()
	kube, err := Client(&rest.Config{Host: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Default()
	cfg.Pods, cfg.Workers = 60, workers
	g, err := New(kube, newCluster(0), cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := g.create(ctx); err != nil {
		t.Fatal(err)
	}
	if created, _ := g.Progress(); highest != workers || created != 60 {
		t.Errorf("%d in flight at once, %d created; want %d and 60", highest, created, workers)
	}
	utilnet.CloseIdleConnectionsFor(kube.CoreV1().RESTClient().(*rest.RESTClient).Client.Transport)
}

// An answer that is lost leaves it open whether the pod was made. It must be
// neither forgotten nor made twice.
func TestCreationWhoseAnswerWasLostIsLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(5 * msec)
		failed := map[string]int{}
		var mu sync.Mutex
		once := func(name string) error {
			mu.Lock()
			defer mu.Unlock()
			if failed[name]++; failed[name] == 1 {
				return errors.New("connection reset")
			}
			return nil
		}
		c.before = func(name string) error {
			if name == "load-3" {
				return once(name) // not made
			}
			return nil
		}
		c.after = func(name string) error {
			if name == "load-7" {
				return once(name) // made
			}
			return nil
		}
		g := generator(t, c, func(*Config) {})
		r, err := g.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.wg.Wait()
		if r.Created != 60 || r.Bound != 60 || r.Retries != 2 || len(c.made) != 60 {
			t.Errorf("created %d of %d, bound %d, repeated %d", r.Created, len(c.made), r.Bound, r.Retries)
		}
		if e := g.Created()[7]; e.UID != "uid-load-7" {
			t.Errorf("created: %+v", e)
		}
	})
}

func TestLoadEndsWithAnErrorWhenPodsStayUnbound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(-1)
		g := generator(t, c, func(cfg *Config) { cfg.Timeout = 30 * time.Second })
		start := time.Now()
		r, err := g.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "0 of 60 pods are bound") || !strings.Contains(err.Error(), "longer than 30s") {
			t.Errorf("error: %v", err)
		}
		if r.Created != 60 || r.Bound != 0 || r.Gap.Length != 30*time.Second {
			t.Errorf("created %d, bound %d, gap %v", r.Created, r.Bound, r.Gap.Length)
		}
		if d := time.Since(start); d != 30*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

func TestRefusedCreationEndsTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(0)
		c.before = func(name string) error {
			if name == "load-9" {
				return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, name, errors.New("quota"))
			}
			return nil
		}
		// One at a time: at full speed it is chance how many go before the refusal is seen.
		_, err := generator(t, c, func(cfg *Config) { cfg.Rate = 1000 }).Run(t.Context())
		c.wg.Wait()
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "load-9") {
			t.Errorf("error: %v", err)
		}
		if n := len(c.made); n != 9 {
			t.Errorf("%d pods were made, want the 9 before the refused one", n)
		}
	})
}

func TestWaitBoundReturnsInTheMiddleOfTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(10 * msec)
		g := generator(t, c, func(cfg *Config) { cfg.Rate = 10 })
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := g.Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
		if err := g.WaitBound(t.Context(), 20); err != nil {
			t.Fatal(err)
		}
		if created, bound := g.Progress(); bound != 20 || created != 20 {
			t.Errorf("%d created, %d bound, want 20 of each", created, bound)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.WaitBound(ctx, 50); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error: %v", err)
		}
		wg.Wait()
		c.wg.Wait()
	})
}

func TestHeldPodsComeWhenReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(10 * msec)
		g := generator(t, c, func(cfg *Config) { cfg.Held = cfg.Pods / 4 })
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := g.Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
		first := g.cfg.Pods - g.cfg.Held
		if err := g.WaitBound(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if created, _ := g.Progress(); created != first {
			t.Errorf("%d of %d were created, want %d before Release", created, g.cfg.Pods, first)
		}
		g.Release()
		g.Release()
		wg.Wait()
		c.wg.Wait()
		if created, bound := g.Progress(); created != g.cfg.Pods || bound != g.cfg.Pods {
			t.Errorf("%d created, %d bound after Release, want all", created, bound)
		}
	})
}

func TestDeleteRemovesExactlyWhatWasCreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(0)
		other := &v1.Pod{}
		other.Name, other.Namespace = "load-other", "default"
		if err := c.Tracker().Add(other); err != nil {
			t.Fatal(err)
		}
		g := generator(t, c, func(*Config) {})
		if _, err := g.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.wg.Wait()
		if len(g.Deleted()) != 0 {
			t.Error("pods count as deleted before they are")
		}
		if err := g.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
		left, err := c.Tracker().List(v1.SchemeGroupVersion.WithResource("pods"), v1.SchemeGroupVersion.WithKind("Pod"), "default")
		if err != nil {
			t.Fatal(err)
		}
		if items := left.(*v1.PodList).Items; len(items) != 1 || items[0].Name != "load-other" {
			t.Errorf("%d pods are left", len(items))
		}
		if d := g.Deleted(); len(d) != 60 || !d["uid-load-0"] {
			t.Errorf("%d pods count as deleted", len(d))
		}
		if err := g.Delete(t.Context()); err != nil {
			t.Errorf("a second time: %v", err)
		}
	})
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	bad := Config{Rate: -1, Workers: 1000, Pods: 1 << 30, CPU: "many"}
	err := bad.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, field := range []string{"name", "namespace", "scheduler", "pods", "rate", "apps", "workers", "timeout", `cpu "many"`} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named in %q", field, err)
		}
	}
	if _, err := New(nil, nil, bad, nil); err == nil {
		t.Error("New accepted it")
	}
}

func TestResultShowsMilliseconds(t *testing.T) {
	r := measure([]Sample{pod(0, 2, 25)}, at(30))
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"p50_ms":25`, `"bound":1`, `"longest_gap_ms":23`, `"pods_per_s":40`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("JSON lacks %s: %s", want, raw)
		}
	}
	var out strings.Builder
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"40 pods/s", "p50 25.0 ms", "23 ms (1 pods waiting)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}
