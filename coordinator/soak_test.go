package coordinator_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/coordinator"
	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/telemetry"
	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// How long a soak is. `make soak` has more.
var (
	soakReplacements = flag.Int("soak.nodes", 400, "how many nodes are replaced")
	soakPods         = flag.Int("soak.pods", 8000, "how many pods come and go")
	soakAppSize      = flag.Int("soak.app", 4, "how many pods an application has")
	soakProfiles     = flag.String("soak.profiles", "", "directory for profiles of the heap")
)

const (
	soakNamespace = "understudy-system"
	// soakGrowth is how much more memory a replica may have at the end.
	soakGrowth = 1.2
	// soakPatience is how long nothing may come and go.
	soakPatience = 2 * time.Minute
	// soakReplica has the configuration of a process that is a replica in a soak.
	soakReplica = "UNDERSTUDY_SOAK_REPLICA"
)

func TestMain(m *testing.M) {
	if cfg := os.Getenv(soakReplica); cfg != "" {
		os.Exit(replicaOfSoak(cfg))
	}
	os.Exit(m.Run())
}

// memory is what a replica has in use, after what is garbage has been collected.
type memory struct {
	Heap       uint64 // bytes of live objects
	Spans      uint64 // bytes of the spans that hold them
	Goroutines int
}

// replicaOfSoak runs a replica until its standard input ends. For each line of that, the
// name of a file for a profile or nothing, it writes its memory as a line.
func replicaOfSoak(configuration string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var cfg config.Config
	if err := json.Unmarshal([]byte(configuration), &cfg); err != nil {
		log.Error("configuration", "err", err)
		return 2
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- coordinator.Run(ctx, cfg, coordinator.Options{
			Log: log, Standing: telemetry.NewStanding(cfg.Identity), Tracing: &telemetry.Tracing{}, Version: "soak",
			CompleteAfter: time.Second,
		})
	}()
	go func() {
		defer cancel()
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			runtime.GC()
			runtime.GC()
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			if file := in.Text(); file != "" {
				if f, err := os.Create(file); err == nil {
					_ = pprof.WriteHeapProfile(f)
					_ = f.Close()
				}
			}
			_ = json.NewEncoder(os.Stdout).Encode(memory{stats.HeapAlloc, stats.HeapInuse, runtime.NumGoroutine()})
		}
	}()
	if err := <-ended; err != nil {
		log.Error("the replica has ended", "err", err)
		return 1
	}
	return 0
}

// soaked is a replica in a process of its own.
type soaked struct {
	name, url string
	in        io.WriteCloser
	out       *bufio.Reader
	client    http.Client
}

// freeAddress returns one of the loopback network that hardly anybody else uses.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// replicaConfig is that of a replica which serves on free addresses.
func replicaConfig(t *testing.T, name, kubeconfig, etcd string) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.Identity, cfg.Namespace, cfg.Kubernetes.Kubeconfig = name, soakNamespace, kubeconfig
	cfg.Etcd.Endpoints, cfg.HTTP.Address, cfg.REST.Address = []string{"http://" + etcd}, freeAddress(t), ""
	// A machine that is too slow for a Lease is no matter of these tests.
	cfg.Election.LeaseDuration, cfg.Election.RenewDeadline, cfg.Election.MaxLeaseDuration = 60*time.Second, 40*time.Second, 60*time.Second
	cfg.Engine.LogLevel = "fatal" // it calls what is rejected an error
	return cfg
}

// launch runs a replica in a process of its own, which ends with its standard input.
func launch(t *testing.T, cfg config.Config, log io.Writer) (*soaked, *exec.Cmd) {
	t.Helper()
	encoded, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), soakReplica+"="+string(encoded))
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &soaked{
		name: cfg.Identity, url: "http://" + cfg.HTTP.Address, in: in, out: bufio.NewReader(out), client: http.Client{Timeout: 10 * time.Second},
	}, cmd
}

func startSoaked(t *testing.T, name, kubeconfig, etcd string) *soaked {
	t.Helper()
	s, cmd := launch(t, replicaConfig(t, name, kubeconfig, etcd), t.Output())
	t.Cleanup(func() {
		_ = s.in.Close() // which ends it, as the end of this process would
		kill := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("replica %s: %v", name, err)
		}
	})
	return s
}

// memory has the replica measure itself.
func (s *soaked) memory(t *testing.T, profile string) (m memory) {
	t.Helper()
	if _, err := fmt.Fprintln(s.in, profile); err != nil {
		t.Fatal(err)
	}
	line, err := s.out.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(line, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func (s *soaked) get(path string) (status int, body []byte) {
	resp, err := s.client.Get(s.url + path)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	body, _ = io.ReadAll(resp.Body)
	return resp.StatusCode, body
}

func (s *soaked) status() (status serve.Status) {
	_, body := s.get("/statusz")
	_ = json.Unmarshal(body, &status)
	return status
}

func (s *soaked) ready() bool {
	status, _ := s.get("/readyz")
	return status == http.StatusOK
}

// empty reports whether all that was is over, as the replica knows.
func (s *soaked) empty() bool {
	status := s.status()
	if status.Counts.Apps == nil || len(status.Counts.Tasks) > 0 {
		return false
	}
	for state := range status.Counts.Apps {
		if !ledger.AppState(state).Terminal() {
			return false
		}
	}
	return true
}

// TestSoak has pods and nodes come and go below two replicas, of which one leads and one
// is its understudy: in the end each has no more memory than after a tenth of it.
func TestSoak(t *testing.T) {
	if withRaceDetector {
		t.Skip("make test runs it without the race detector as well")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if end, ok := t.Deadline(); ok {
		ctx, cancel = context.WithDeadline(ctx, end.Add(-time.Minute))
		defer cancel()
	}
	c := newChurn(*soakAppSize)
	server := httptest.NewServer(c.api)
	t.Cleanup(server.CloseClientConnections) // once the replicas have ended
	etcd := etcdtest.Start(t, "--unsafe-no-fsync", "--auto-compaction-mode=revision", "--auto-compaction-retention=10000", "--quota-backend-bytes=8000000000")
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(soakKubeconfig(server.URL)), 0o600); err != nil {
		t.Fatal(err)
	}
	go c.kubelet(ctx)

	replicas := []*soaked{startSoaked(t, "lead", kubeconfig, etcd.Addr)}
	await(ctx, t, "the first replica leads", func() bool { return replicas[0].status().Role == serve.Lead })
	replicas = append(replicas, startSoaked(t, "understudy", kubeconfig, etcd.Addr))
	await(ctx, t, "the second replica is ready", func() bool { return replicas[1].ready() })

	pods, every := int64(*soakPods), float64(*soakPods)/float64(*soakReplacements)
	// What is bounded by number is full before the first look: the history, and the Events
	// that wait to be written.
	first := max(pods/10, ledger.HistoryLimit*int64(*soakAppSize))
	if first >= pods {
		t.Fatalf("a soak of %d pods has to be longer than %d", pods, first)
	}
	before := soakTo(ctx, t, c, replicas, first, every)
	for at := pods / 10; at < pods; at += pods / 10 {
		if at > first && testing.Verbose() {
			soakTo(ctx, t, c, replicas, at, every)
		}
	}
	after := soakTo(ctx, t, c, replicas, pods, every)
	for i, r := range replicas {
		if grown := float64(after[i].Heap) / float64(before[i].Heap); grown > soakGrowth {
			t.Errorf("the %s has %.2f times the memory that it had: %d bytes, %d after %d pods", r.name, grown, after[i].Heap, before[i].Heap, first)
		}
		if after[i].Goroutines > before[i].Goroutines+20 {
			t.Errorf("the %s has %d goroutines, and had %d", r.name, after[i].Goroutines, before[i].Goroutines)
		}
	}
}

// soakTo goes on until so many pods have come and gone, and measures.
func soakTo(ctx context.Context, t *testing.T, c *churn, replicas []*soaked, pods int64, every float64) []memory {
	t.Helper()
	began, from := time.Now(), c.pods.Load()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.until(ctx, pods, every)
	}()
	last, since := from, time.Now()
	for tick := time.NewTicker(time.Second); ; {
		select {
		case <-ended:
		case <-tick.C:
			if now := c.pods.Load(); now != last {
				last, since = now, time.Now()
			}
			if time.Since(since) > soakPatience || ctx.Err() != nil {
				t.Fatalf("nothing comes and goes at %d pods and %d nodes: %s; %s", last, c.replaced.Load(), standings(replicas), c.waiting())
			}
			continue
		}
		tick.Stop()
		break
	}
	if ctx.Err() != nil {
		t.Fatalf("at %d pods and %d nodes: %v", c.pods.Load(), c.replaced.Load(), context.Cause(ctx))
	}
	took := time.Since(began)
	quiet, stop := context.WithTimeout(ctx, soakPatience)
	defer stop()
	c.sweep(quiet, func() bool {
		for _, r := range replicas {
			if !r.empty() {
				return false
			}
		}
		return true
	})
	if quiet.Err() != nil {
		t.Fatalf("what is over does not end: %s", standings(replicas))
	}
	var all []memory
	for _, r := range replicas {
		profile := ""
		if *soakProfiles != "" {
			profile = filepath.Join(*soakProfiles, fmt.Sprintf("%s-%d.pprof", r.name, pods))
		}
		m := r.memory(t, profile)
		t.Logf("%7d pods, %5d nodes, %5.0f s (%4.0f pods/s): the %-10s has %6.1f MiB in %6.1f MiB of spans, %d goroutines",
			pods, c.replaced.Load(), took.Seconds(), float64(pods-from)/took.Seconds(), r.name, mib(m.Heap), mib(m.Spans), m.Goroutines)
		all = append(all, m)
	}
	return all
}

func mib(bytes uint64) float64 { return float64(bytes) / (1 << 20) }

func standings(replicas []*soaked) string {
	var all []string
	for _, r := range replicas {
		s := r.status()
		all = append(all, fmt.Sprintf("%s is %s with %v, lag %d", r.name, s.Role, s.Counts, s.View.Lag))
	}
	return strings.Join(all, "; ")
}

func await(ctx context.Context, t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.After(soakPatience)
	for !done() {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-limit:
			t.Fatalf("never: %s", what)
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, context.Cause(ctx))
		}
	}
}

func soakKubeconfig(server string) string {
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "soak",
"clusters": [{"name": "soak", "cluster": {"server": %q}}],
"contexts": [{"name": "soak", "context": {"cluster": "soak", "user": "soak"}}], "users": [{"name": "soak", "user": {}}]}`, server)
}
