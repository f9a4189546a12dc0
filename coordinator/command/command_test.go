package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/understudy-ha/understudy/coordinator"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/election"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// invoke runs one command line, with a launch that must not be called.
func invoke(t *testing.T, args ...string) (status int, out, err string) {
	t.Helper()
	return invokeWith(t, func(context.Context, replica) error {
		t.Error("a replica was launched")
		return nil
	}, args...)
}

func invokeWith(t *testing.T, launch func(context.Context, replica) error, args ...string) (status int, out, err string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status = execute(t.Context(), args, command{out: &stdout, err: &stderr, managers: coordinator.Managers(), launch: launch})
	return status, stdout.String(), stderr.String()
}

const minimal = `apiVersion: understudy.dev/v1alpha1
kind: Config
identity: r1
etcd: {endpoints: [http://127.0.0.1:2379]}
`

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWrongUse(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want []string // lines of standard error
	}{
		"unknown command": {[]string{"stauts"}, []string{
			`understudy: unknown command "stauts" for "understudy"; did you mean status?`, "Try 'understudy --help'."}},
		"unknown command below": {[]string{"config", "print"}, []string{
			`understudy: unknown command "print" for "understudy config"`, "Try 'understudy config --help'."}},
		"unknown flag": {[]string{"run", "--etcd", "x"}, []string{
			"understudy: unknown flag: --etcd", "Try 'understudy run --help'."}},
		"no configuration": {[]string{"run"}, []string{
			"understudy: --config is missing: name a configuration file", "Try 'understudy run --help'."}},
		"argument": {[]string{"version", "1"}, []string{
			`understudy: unknown command "1" for "understudy version"`, "Try 'understudy version --help'."}},
		"no file": {[]string{"config", "validate"}, []string{
			"understudy: requires at least 1 arg(s), only received 0", "Try 'understudy config validate --help'."}},
		"format": {[]string{"status", "-o", "xml"}, []string{
			`understudy: output format "xml": want table or json`, "Try 'understudy status --help'."}},
		"server": {[]string{"status", "--server", "ftp://a"}, []string{
			`understudy: --server: "ftp://a" is not a URL such as http://127.0.0.1:8080`, "Try 'understudy status --help'."}},
		"server and lab": {[]string{"status", "--server", "a:1", "--lab", "b"}, []string{
			"understudy: --server and --lab exclude each other", "Try 'understudy status --help'."}},
	} {
		t.Run(name, func(t *testing.T) {
			status, out, err := invoke(t, c.args...)
			if want := strings.Join(c.want, "\n") + "\n"; status != exitUsage || out != "" || err != want {
				t.Errorf("exit %d\nstdout %q\nstderr %q\nwant   %q", status, out, err, want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}, {"run", "--help"}, {"status", "--help"}, {"config"}, {"config", "validate", "-h"}} {
		status, out, err := invoke(t, args...)
		if status != exitOK || err != "" || !strings.Contains(out, "Usage:") {
			t.Errorf("%q: exit %d, stderr %q\n%s", args, status, err, out)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	good := file(t, "good.yaml", minimal)
	bad := file(t, "bad.yaml", minimal+"election:\n  leaseDuration: 4\n  retries: 3\nlog: {level: loud}\n")

	if status, out, err := invoke(t, "config", "validate", good); status != exitOK || out != good+": valid\n" || err != "" {
		t.Errorf("exit %d, %q, %q", status, out, err)
	}
	status, out, err := invoke(t, "config", "validate", bad, good)
	want := strings.Join([]string{
		bad + `:6: election.leaseDuration: is "4", want a duration with its unit, such as "2.5s"`,
		bad + ":7: election.retries: unknown field",
		bad + `:8: log.level: is "loud", want debug, info, warn, error`,
		good + ": valid",
		"",
	}, "\n")
	if status != exitFailed || out != want || err != "understudy: 1 of 2 files invalid\n" {
		t.Errorf("exit %d, stderr %q, stdout\n%s\nwant\n%s", status, err, out, want)
	}
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	if status, _, err := invoke(t, "config", "validate", missing); status != exitFailed || !strings.Contains(err, missing) {
		t.Errorf("missing file: exit %d, %q", status, err)
	}
}

func TestRunLaunchesWhatIsConfigured(t *testing.T) {
	path := file(t, "config.yaml", minimal)
	var got replica
	status, out, log := invokeWith(t, func(_ context.Context, r replica) error {
		got = r
		r.standing.Set("lead", 3)
		r.log.Info("scheduling")
		return nil
	}, "run", "--config", path, "--identity", "r2", "--log-level", "debug")
	if status != exitOK || out != "" {
		t.Fatalf("exit %d, stdout %q, stderr %s", status, out, log)
	}
	if got.config.Identity != "r2" || got.config.Log.Level != "debug" || got.standing.Replica() != "r2" || got.tracing.Enabled() {
		t.Errorf("launched %+v", got.config)
	}
	var messages []string
	for line := range strings.Lines(log) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("not JSON: %s", line)
		}
		messages = append(messages, fmt.Sprintf("%v %v %v", entry["msg"], entry["replica"], entry["epoch"]))
	}
	if want := "starting r2 0, scheduling r2 3, stopped r2 3"; strings.Join(messages, ", ") != want {
		t.Errorf("log: %q, want %q", messages, want)
	}
}

func TestRunFails(t *testing.T) {
	path := file(t, "config.yaml", minimal)
	lost := errors.New("the term was lost")
	status, _, err := invokeWith(t, func(context.Context, replica) error { return lost }, "run", "--config", path)
	if status != exitFailed || strings.Count(err, lost.Error()) != 1 {
		t.Errorf("exit %d, stderr %s", status, err)
	}
	for line := range strings.Lines(err) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	bad := file(t, "bad.yaml", minimal+"x: 1\n")
	if status, _, err := invoke(t, "run", "--config", bad); status != exitFailed || !strings.Contains(err, bad) || !strings.Contains(err, "line 5: x: unknown field") {
		t.Errorf("bad configuration: exit %d, stderr %s", status, err)
	}
	for _, flags := range [][]string{{"--identity", "a_b"}, {"--log-level", "loud"}} {
		args := append([]string{"run", "--config", path}, flags...)
		if status, _, err := invoke(t, args...); status != exitUsage {
			t.Errorf("%q: exit %d, stderr %s", flags, status, err)
		}
	}
}

func TestRunIsToldToStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var stderr bytes.Buffer
	status := execute(ctx, []string{"run", "--config", file(t, "config.yaml", minimal)},
		command{out: &stderr, err: &stderr, launch: func(ctx context.Context, _ replica) error {
			cancel()
			<-ctx.Done()
			return nil
		}})
	if status != exitOK {
		t.Errorf("exit %d: %s", status, &stderr)
	}
}

func TestVersion(t *testing.T) {
	status, out, err := invoke(t, "version")
	if status != exitOK || err != "" || !strings.HasPrefix(out, "understudy ") {
		t.Errorf("exit %d, %q, %q", status, out, err)
	}
	_, out, _ = invoke(t, "version", "-o", "json")
	var v versionInfo
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Go == "" || v.Platform == "" || v.Version == "" {
		t.Errorf("%v: %s", err, out)
	}
	got := versionFrom(&debug.BuildInfo{
		Main:     debug.Module{Version: "v1.2.3"},
		Deps:     []*debug.Module{{Path: "github.com/apache/yunikorn-core", Version: "v1.9.0"}},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}, {Key: "vcs.time", Value: "now"}},
	})
	if got.Version != "v1.2.3" || got.Engine != "v1.9.0" || got.Revision != "abc" || !got.Modified || got.Built != "now" {
		t.Errorf("%+v", got)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		status, out, err := invoke(t, "completion", shell)
		if status != exitOK || err != "" || !strings.Contains(out, "understudy") {
			t.Errorf("%s: exit %d, %q", shell, status, err)
		}
	}
	if _, out, _ := invoke(t, "__complete", "status", "-o", ""); !strings.Contains(out, "table\njson\n") {
		t.Errorf("formats are not completed: %q", out)
	}
}

// server answers /statusz with s until the test ends.
func server(t *testing.T, s serve.Status) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/statusz" {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(s)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

var (
	began = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	lead  = serve.Status{
		Replica: "r1", Role: serve.Lead, Epoch: 2, Leader: serve.Leader{Identity: "r1_x", Epoch: 2, LeaseSeconds: 4},
		Mirror: serve.Mirror{Revision: 900, Pending: 7}, Fence: serve.FenceEnforced, UptimeSeconds: 90,
		Counts: serve.Counts{Apps: map[string]int{"Running": 2, "Accepted": 1, "Failed": 0}, Tasks: map[string]int{"Bound": 40}},
		Terms: []serve.Term{
			{Epoch: 2, Incarnation: "r1_x", Started: began.Add(time.Minute), Reason: "lease expired",
				Timings: []serve.Timing{{Step: "claim", Millis: 3}, {Step: "first bind", Millis: 41.4}}},
			{Epoch: 1, Incarnation: "r3_z", Started: began},
		},
	}
	follower = serve.Status{
		Replica: "r2", Role: serve.Understudy, Leader: serve.Leader{Identity: "r1_x", Epoch: 2}, UptimeSeconds: 200,
		View: serve.View{Synced: true, Connected: true, Revision: 899, Lag: 1},
		Terms: []serve.Term{
			{Epoch: 2, Incarnation: "r1_x", Started: began.Add(time.Minute), Reason: "lease expired"},
			{Epoch: 1, Incarnation: "r3_z", Started: began, Ended: began.Add(50 * time.Second), Reason: "first", EndReason: "killed"},
		},
	}
)

func TestStatusTable(t *testing.T) {
	ended := lead
	ended.Terms = append([]serve.Term{}, lead.Terms...)
	ended.Terms[0].Ended = began.Add(2 * time.Minute)
	again := follower
	again.Leader.LeaseSeconds, again.Leader.LeaseStretched = 9, true
	again.Restarts, again.LastEnd = 3, &serve.End{
		Incarnation: "r2_w", At: time.Now().Add(-50*time.Hour - time.Minute), Reason: serve.Hung,
		How: "the lead has not shown life for 1.0s (stopped): killed", Epoch: 1,
	}
	status, out, err := invoke(t, "status", "--server", server(t, ended), "--server", server(t, again))
	if status != exitOK || err != "" {
		t.Fatalf("exit %d, %q", status, err)
	}
	started := func(at time.Time) string { return at.Local().Format(time.DateTime) }
	want := [][]string{
		{"REPLICA", "ROLE", "EPOCH", "LEASE", "FENCE", "REVISION", "LAG", "PENDING", "APPS", "TASKS", "UPTIME", "RESTARTS"},
		{"r1", "lead", "2", "4s", "enforced", "900", "-", "7", "Accepted=1 Running=2", "Bound=40", "1m30s", "0"},
		{"r2", "understudy", "2", "9s (stretched)", "-", "899", "1", "-", "-", "-", "3m20s", "3 (hung 2d2h0m0s ago: the lead has not shown life for 1.0s (stopped): killed)"},
		{},
		{"TERM", "LEAD", "STARTED", "LASTED", "BEGAN", "ENDED", "RECOVERY"},
		{"2", "r1_x", started(began.Add(time.Minute)), "1m0s", "lease expired", "-", "41ms to first bind"},
		{"1", "r3_z", started(began), "50s", "first", "killed", "-"},
	}
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("table:\n%s", out)
	}
	for i, line := range lines {
		var cells []string
		for cell := range strings.SplitSeq(line, "  ") {
			if cell = strings.TrimSpace(cell); cell != "" {
				cells = append(cells, cell)
			}
		}
		if strings.Join(cells, "|") != strings.Join(want[i], "|") {
			t.Errorf("line %d: %q, want %q", i, cells, want[i])
		}
	}
}

func TestStatusShowsWhatIsWrong(t *testing.T) {
	debt := lead
	debt.Suspended = []string{"durability: etcd is away for 12s"}
	debt.Mirror.LastError = "deadline exceeded"
	debt.Fence = serve.FenceAbsent
	debt.Configuration = serve.Configuration{Source: "mirror", Error: "queues.yaml: no root"}
	stale := follower
	stale.View = serve.View{Connected: false, Synced: true, LastError: "connection refused",
		Refused: []serve.Refused{{Key: "/understudy/apps/a", Error: "newer schema"}}}
	fresh := follower
	fresh.Replica, fresh.View = "r4", serve.View{}
	fresh.Configuration = serve.Configuration{Error: "queues.yaml: no root"}
	rival := lead
	rival.Replica = "r3"
	_, out, _ := invoke(t, "status", "--server", server(t, debt), "--server", server(t, stale),
		"--server", server(t, rival), "--server", server(t, fresh))
	for _, want := range []string{
		"! r1: suspended: durability: etcd is away for 12s",
		"! r1: mirror: deadline exceeded",
		"! r1: the API server does not refuse bindings of an older epoch: deploy/base/fence.yaml is not in force",
		"! r1: the queue configuration is not valid, the last valid one is in force: queues.yaml: no root",
		"! r4: the queue configuration is not valid, there is no other to lead by: queues.yaml: no root",
		"! r2: view: connection refused",
		"! r2: record /understudy/apps/a is not read: newer schema",
		"! several leads in epoch 2: r1, r3",
		"understudy (no etcd)", "understudy (syncing)",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	lost := lead
	lost.Role, lost.Epoch = serve.Understudy, 0
	_, out, _ = invoke(t, "status", "--server", server(t, lost), "--server", server(t, follower))
	if !strings.Contains(out, "! no replica leads") {
		t.Errorf("a missing lead is not noticed:\n%s", out)
	}
	_, out, _ = invoke(t, "status", "--server", server(t, follower))
	if strings.Contains(out, "no replica leads") {
		t.Errorf("the lead was not asked, and is said to be missing:\n%s", out)
	}
}

// TestStatusShowsDifferentConfigurations, also those of replicas that were not asked.
func TestStatusShowsDifferentConfigurations(t *testing.T) {
	having := func(s serve.Status, hash string) serve.Status {
		s.Configuration = serve.Configuration{Source: "configmap", Hash: hash}
		return s
	}
	const said = "the replicas have different configurations in force"
	same := server(t, having(lead, "aaaa"))
	if _, out, _ := invoke(t, "status", "--server", same, "--server", server(t, having(follower, "aaaa"))); strings.Contains(out, said) {
		t.Errorf("they have the same:\n%s", out)
	}
	other := having(follower, "bbbb")
	other.Configuration.Waiting, other.Configuration.Restart = "cccc", []string{"service.clusterId"}
	_, out, _ := invoke(t, "status", "--server", same, "--server", server(t, other))
	for _, want := range []string{
		"! " + said + ": aaaa in r1; bbbb in r2", "! r2: configuration cccc waits until it is started again, bbbb is in force: hot refresh is off",
		"! r2: it is started again when its turn has come, to take on service.clusterId",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	knows := having(lead, "aaaa")
	knows.Members = []serve.Member{
		{Replica: "r1", Configuration: "old"}, {Replica: "r5", Configuration: "dddd"}, {Replica: "r6"}, {Replica: "r7", Configuration: "gone", Gone: true},
	}
	if _, out, _ = invoke(t, "status", "--server", server(t, knows)); !strings.Contains(out, "! "+said+": aaaa in r1; dddd in r5\n") {
		t.Errorf("by gossip:\n%s", out)
	}
}

func TestStatusJSON(t *testing.T) {
	one, two := server(t, lead), server(t, follower)
	status, out, err := invoke(t, "status", "-o", "json", "--server", one+"/", "--server", two)
	var got []struct {
		Server, Error string
		serve.Status
	}
	if e := json.Unmarshal([]byte(out), &got); e != nil || status != exitOK || err != "" || len(got) != 2 {
		t.Fatalf("%v, exit %d, %q\n%s", e, status, err, out)
	}
	if got[0].Server != one || got[0].Replica != "r1" || got[0].Mirror.Revision != 900 || got[1].Replica != "r2" || got[1].View.Lag != 1 {
		t.Errorf("%+v", got)
	}
}

func TestStatusOfThoseThatAnswer(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
	t.Cleanup(other.Close)
	missing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(missing.Close)

	status, out, err := invoke(t, "status", "--server", gone.URL, "--server", server(t, lead), "--server", other.URL, "--server", missing.URL)
	if status != exitFailed || err != "understudy: 3 of 4 replicas did not answer\n" {
		t.Errorf("exit %d, %q", status, err)
	}
	for _, want := range []string{"connection refused", "r1  ", other.URL + " does not answer like a replica", missing.URL + " answered 404"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	status, out, _ = invoke(t, "status", "-o", "json", "--server", gone.URL)
	var got []map[string]any
	if e := json.Unmarshal([]byte(out), &got); e != nil || status != exitFailed || got[0]["error"] == "" || got[0]["replica"] != nil {
		t.Errorf("exit %d, %v: %s", status, e, out)
	}
}

func TestStatusWaitsOnlySoLong(t *testing.T) {
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(release) })
	status, out, _ := invoke(t, "status", "--timeout", "50ms", "--server", silent.URL)
	if status != exitFailed || !strings.Contains(out, "no answer") {
		t.Errorf("exit %d\n%s", status, out)
	}
}

func TestStatusOfALab(t *testing.T) {
	dir := t.TempDir()
	state := fmt.Sprintf(`{"etcd": {"endpoints": []}, "processes": [
		{"name": "etcd-0", "kind": "etcd", "pid": 1, "log": "x"},
		{"name": "r1", "kind": "replica", "pid": 2, "http": %q, "log": "x"},
		{"name": "r2", "kind": "replica", "pid": 3, "http": %q, "log": "x"}]}`,
		server(t, lead), strings.TrimPrefix(server(t, follower), "http://"))
	if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, err := invoke(t, "status", "--lab", dir)
	if status != exitOK || !strings.Contains(out, "r1 ") || !strings.Contains(out, "r2 ") {
		t.Errorf("exit %d, %q\n%s", status, err, out)
	}
	if status, _, err := invoke(t, "status", "--lab", t.TempDir()); status != exitFailed || !strings.Contains(err, "no lab in") {
		t.Errorf("exit %d, %q", status, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte(`{"processes": []}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, err := invoke(t, "status", "--lab", dir); status != exitFailed || !strings.Contains(err, "lists no replica") {
		t.Errorf("exit %d, %q", status, err)
	}
}

func TestMembers(t *testing.T) {
	since := time.Now().Add(-90 * time.Second)
	url := server(t, serve.Status{Replica: "r1", Members: []serve.Member{
		{Replica: "r1", Incarnation: "r1_A", Address: "127.0.0.1:1", Role: serve.Lead, Epoch: 3, Revision: 12},
		{Replica: "r2", Incarnation: "r2_B", Address: "127.0.0.1:2", Role: serve.Understudy, Missing: "engine: being fed", Epoch: 3, Revision: 11, Lag: 1, Since: since},
		{Replica: "r4", Incarnation: "r4_D", Address: "127.0.0.1:4", Role: serve.Understudy, Ready: true, Epoch: 3, Revision: 12, Since: since, Configuration: "0f3a"},
		{Replica: "r3", Incarnation: "r3_C", Address: "127.0.0.1:3", Role: serve.Understudy, Gone: true, Since: since},
	}})
	status, out, stderr := invoke(t, "members", "--server", "127.0.0.1:1", "--server", url)
	if status != exitOK {
		t.Fatalf("exit %d: %s", status, stderr)
	}
	for _, want := range [][]string{
		{"r1", "r1_A", "127.0.0.1:1", "here", "lead", "no", "3", "12", "0", "-"},
		{"r2", "r2_B", "127.0.0.1:2", "here", "for", "1m30s", "understudy", "no", "3", "11", "1", "-", "engine:", "being", "fed"},
		{"r4", "r4_D", "127.0.0.1:4", "here", "for", "1m30s", "understudy", "yes", "3", "12", "0", "0f3a"},
		{"r3", "r3_C", "127.0.0.1:3", "gone", "for", "1m30s", "understudy", "no", "0", "0", "0", "-"},
	} {
		found := false
		for line := range strings.Lines(out) {
			found = found || slices.Equal(strings.Fields(line), want)
		}
		if !found {
			t.Errorf("no line %v in\n%s", want, out)
		}
	}
	if status, out, _ := invoke(t, "members", "--server", url, "-o", "json"); status != exitOK || !strings.Contains(out, `"incarnation": "r3_C"`) {
		t.Errorf("exit %d: %s", status, out)
	}
	alone := server(t, serve.Status{Replica: "r1"})
	if status, _, stderr := invoke(t, "members", "--server", alone); status != exitFailed || !strings.Contains(stderr, "gossip.address") {
		t.Errorf("without gossip: exit %d: %s", status, stderr)
	}
}

func TestStepDownIsPrinted(t *testing.T) {
	asked := time.Unix(100, 0)
	h := election.HandOver{From: "r1_A", To: "r2_B", Epoch: 4, Asked: asked, Released: asked.Add(30 * time.Millisecond), Taken: asked.Add(42500 * time.Microsecond)}
	for format, want := range map[string]string{
		"text": "r1_A handed over to r2_B, epoch 4\nnobody held the Lease for 12.5 ms; 42.5 ms in all\n",
		"json": "{\n  \"from\": \"r1_A\",\n  \"to\": \"r2_B\",\n  \"epoch\": 4,\n  \"tookMs\": 42.5,\n  \"vacantMs\": 12.5\n}\n",
	} {
		var out bytes.Buffer
		if err := (command{out: &out}).printHandOver(h, format); err != nil || out.String() != want {
			t.Errorf("%s: %v\n%s", format, err, out.String())
		}
	}
	if status, _, stderr := invoke(t, "step-down", "--lab", t.TempDir()); status != exitFailed || !strings.Contains(stderr, "no lab in") {
		t.Errorf("exit %d: %s", status, stderr)
	}
}
