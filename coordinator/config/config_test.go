package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const head = "apiVersion: understudy.dev/v1alpha1\nkind: Config\n"

const minimal = head + "etcd: {endpoints: [http://127.0.0.1:2379]}\n"

// mistakes returns the single errors in err.
func mistakes(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%v is not a joined error", err)
	}
	var all []string
	for _, e := range joined.Unwrap() {
		if !errors.As(e, new(*Error)) {
			t.Errorf("%v is not an *Error", e)
		}
		all = append(all, e.Error())
	}
	return all
}

func TestMinimalFileHasTheDefaults(t *testing.T) {
	got, err := Parse([]byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Etcd.Endpoints = []string{"http://127.0.0.1:2379"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got.Election.LeaseDuration != 4*time.Second || got.Election.RenewDeadline != 2400*time.Millisecond ||
		got.Election.RetryPeriod != 500*time.Millisecond || got.HTTP.Address != "127.0.0.1:0" {
		t.Errorf("documented defaults have changed: %+v", got)
	}
}

const full = `
apiVersion: understudy.dev/v1alpha1
kind: Config
identity: replica-1
namespace: batch
template: 7d4b9c
schedulerName: gang
kubernetes: {kubeconfig: /etc/kubeconfig, qps: 12.5, burst: 100}
election: {leaseName: lead, leaseDuration: 16s, maxLeaseDuration: 30s, renewDeadline: 10s, retryPeriod: 2s}
etcd:
  endpoints: [https://a:2379, "https://[::1]:2379"]
  prefix: /teams/batch
  tls: {ca: /ca.pem, cert: /cert.pem, key: /key.pem}
  username: understudy
  passwordFile: /password
  dialTimeout: 1s
  requestTimeout: 1m
mirror: {policy: strict, patience: 100ms, maxOps: 64, maxBytes: 524288}
engine: {defaultsConfigMap: d, configMap: c, configMapNamespace: yunikorn, logLevel: debug}
binder: {workers: 8}
placeholder: {image: "registry.example/pause:1", runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000}
workload: {userLabel: example.com/user}
managers: [{name: mine, type: general, settings: {a: 1}}]
http: {address: "0.0.0.0:8080", profiling: true}
rest: {address: "0.0.0.0:9081", tls: {cert: /cert.pem, key: /key.pem, ca: /ca.pem, clientCA: /clients.pem, serverName: understudy}, tokenReview: true}
admission:
  mode: webhook
  address: "0.0.0.0:9090"
  service: admission
  urls: ["https://a:1"]
  failurePolicy: Fail
  serviceAccount: another
  secret: authorities
  tls: {ca: /ca.pem, cert: /cert.pem, key: /key.pem}
  annotations: {example.com/inject: here}
  workloads: [rayjob]
gossip: {address: "0.0.0.0:7946", advertise: "10.0.0.1:7946", peers: ["understudy-gossip:7946"], keyringFile: /keyring}
history: {applications: 50, applicationAge: 1h, events: 500, eventAge: 30m}
log: {level: warn, format: text}
`

// TestEveryFieldIsRead sets every field to something that is not its default,
// and checks with reflection that none was forgotten, here or in the decoder.
func TestEveryFieldIsRead(t *testing.T) {
	got, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	var differ func(path string, a, b reflect.Value)
	differ = func(path string, a, b reflect.Value) {
		if a.Kind() == reflect.Struct {
			for i := range a.NumField() {
				differ(path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
			}
			return
		}
		if reflect.DeepEqual(a.Interface(), b.Interface()) && path != ".APIVersion" && path != ".Kind" {
			t.Errorf("Config%s is %v, its default", path, a)
		}
	}
	differ("", reflect.ValueOf(got), reflect.ValueOf(Default()))
	if got.Etcd.Endpoints[1] != "https://[::1]:2379" || got.Kubernetes.QPS != 12.5 || got.Mirror.Patience != 100*time.Millisecond {
		t.Errorf("got %+v", got)
	}
}

func TestMistakesNameTheFieldAndTheLine(t *testing.T) {
	with := func(more string) string { return minimal + more }
	for name, c := range map[string]struct {
		file string
		want []string
	}{
		"empty file": {"", []string{
			"apiVersion: is missing, want understudy.dev/v1alpha1",
			"kind: is missing, want Config",
			"etcd.endpoints: is empty, want at least one endpoint",
		}},
		"another version": {"apiVersion: understudy.dev/v2\nkind: Config\netcd: {endpoints: [http://a:1]}", []string{
			`line 1: apiVersion: is "understudy.dev/v2", want understudy.dev/v1alpha1`,
		}},
		"no YAML":     {"a: [", []string{"line 1: did not find expected node content"}},
		"a list":      {"- a", []string{"line 1: is a list, want a mapping of fields"}},
		"two of them": {minimal + "---\n" + minimal, []string{"line 4: more than one document in the file"}},
		"unknown field": {with("election:\n  leaseSeconds: 4"), []string{
			"line 5: election.leaseSeconds: unknown field",
		}},
		"wrong case": {with("election:\n  LeaseDuration: 4s"), []string{
			`line 5: election.LeaseDuration: unknown field, did you mean "leaseDuration"?`,
		}},
		"twice": {with("log: {level: info}\nlog: {level: warn}"), []string{
			"line 5: log: is set twice, first in line 4",
		}},
		"wrong types": {head + `
etcd:
  endpoints: http://a:2379
kubernetes: {qps: fast, burst: 1.5}
http:
  profiling: "yes"
identity: 7
mirror: [a]
election: {leaseDuration: 4, retryPeriod: soon}
`, []string{
			"line 5: etcd.endpoints: is \"http://a:2379\", want a list",
			`line 6: kubernetes.qps: is "fast", want a number`,
			`line 6: kubernetes.burst: is "1.5", want a whole number`,
			`line 8: http.profiling: is "yes", want true or false`,
			`line 9: identity: is "7", want a string`,
			"line 10: mirror: is a list, want a mapping of fields",
			`line 11: election.leaseDuration: is "4", want a duration with its unit, such as "2.5s"`,
			`line 11: election.retryPeriod: is "soon", want a duration with its unit, such as "2.5s"`,
		}},
		"an item of a list": {head + "etcd:\n  endpoints:\n  - http://a:2379\n  - {b: c}", []string{
			"line 6: etcd.endpoints[1]: is a mapping, want a string",
		}},
		"nothing where something belongs": {with("identity:"), []string{"line 4: identity: is empty, want a string"}},
		"read and checked in one go": {with("engine: {configMap: A_B}\nunknown: 1\nbinder:\n  workers: 0"), []string{
			"line 5: unknown: unknown field",
			"line 4: engine.configMap: a lowercase RFC 1123 subdomain must consist of",
			"line 7: binder.workers: is 0, want 1 to 1024",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.file))
			got := mistakes(t, err)
			if len(got) != len(c.want) {
				t.Fatalf("mistakes:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			for i := range got {
				if !strings.HasPrefix(got[i], c.want[i]) {
					t.Errorf("got  %s\nwant %s", got[i], c.want[i])
				}
			}
		})
	}
}

func TestASectionMayBeLeftEmpty(t *testing.T) {
	if _, err := Parse([]byte(minimal + "http:\n  # profiling: true\n")); err != nil {
		t.Error(err)
	}
}

func TestValuesAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   []string // fields
	}{
		"renewing later than the lease lasts": {func(c *Config) { c.Election.RenewDeadline = 4 * time.Second }, []string{"election.renewDeadline"}},
		"no time left between deadline and lease": {
			func(c *Config) { c.Election.RenewDeadline = 3600 * time.Millisecond }, []string{"election.renewDeadline"}},
		"one lost renewal would end the term": {func(c *Config) { c.Election.RetryPeriod = 1300 * time.Millisecond }, []string{"election.renewDeadline"}},
		"fractions of a second in the Lease":  {func(c *Config) { c.Election.LeaseDuration = 4500 * time.Millisecond }, []string{"election.leaseDuration"}},
		"fractions of a longer Lease":         {func(c *Config) { c.Election.MaxLeaseDuration = 14500 * time.Millisecond }, []string{"election.maxLeaseDuration"}},
		"a longer Lease without bound":        {func(c *Config) { c.Election.MaxLeaseDuration = time.Hour }, []string{"election.maxLeaseDuration"}},
		"retrying without end":                {func(c *Config) { c.Election.RetryPeriod = 0 }, []string{"election.retryPeriod"}},
		"policy":                              {func(c *Config) { c.Mirror.Policy = "lax" }, []string{"mirror.policy"}},
		"more operations than etcd takes":     {func(c *Config) { c.Mirror.MaxOps = 129 }, []string{"mirror.maxOps"}},
		"no history":                          {func(c *Config) { c.History = History{} }, []string{"history.applications", "history.applicationAge", "history.events", "history.eventAge"}},
		"more bytes than etcd takes":          {func(c *Config) { c.Mirror.MaxBytes = 2 << 20 }, []string{"mirror.maxBytes"}},
		"no patience":                         {func(c *Config) { c.Mirror.Patience = 0 }, []string{"mirror.patience"}},
		"endpoint without a scheme":           {func(c *Config) { c.Etcd.Endpoints = []string{"a:2379"} }, []string{"etcd.endpoints[0]"}},
		"endpoint without a port":             {func(c *Config) { c.Etcd.Endpoints = []string{"http://a"} }, []string{"etcd.endpoints[0]"}},
		"endpoint with a path":                {func(c *Config) { c.Etcd.Endpoints = []string{"http://a:1/b"} }, []string{"etcd.endpoints[0]"}},
		"endpoint twice":                      {func(c *Config) { c.Etcd.Endpoints = []string{"http://a:1", "http://a:1"} }, []string{"etcd.endpoints[1]"}},
		"schemes mixed":                       {func(c *Config) { c.Etcd.Endpoints = []string{"http://a:1", "https://b:1"} }, []string{"etcd.endpoints"}},
		"files for TLS without TLS":           {func(c *Config) { c.Etcd.TLS.CA = "/ca" }, []string{"etcd.tls"}},
		"certificate without key": {func(c *Config) {
			c.Etcd.Endpoints, c.Etcd.TLS.Cert = []string{"https://a:1"}, "/cert"
		}, []string{"etcd.tls.cert"}},
		"user without password":          {func(c *Config) { c.Etcd.Username = "u" }, []string{"etcd.username"}},
		"prefix of everything":           {func(c *Config) { c.Etcd.Prefix = "/" }, []string{"etcd.prefix"}},
		"prefix without a slash":         {func(c *Config) { c.Etcd.Prefix = "understudy" }, []string{"etcd.prefix"}},
		"prefix with a slash at the end": {func(c *Config) { c.Etcd.Prefix = "/understudy/" }, []string{"etcd.prefix"}},
		"both ConfigMaps the same":       {func(c *Config) { c.Engine.ConfigMap = c.Engine.DefaultsConfigMap }, []string{"engine.configMap"}},
		"burst below the rate":           {func(c *Config) { c.Kubernetes.Burst = 10 }, []string{"kubernetes.burst"}},
		"negative rate":                  {func(c *Config) { c.Kubernetes.QPS = -1 }, []string{"kubernetes.qps"}},
		"address without a port":         {func(c *Config) { c.HTTP.Address = "127.0.0.1" }, []string{"http.address"}},
		"REST without a port":            {func(c *Config) { c.REST.Address = "127.0.0.1" }, []string{"rest.address"}},
		"TLS for nobody":                 {func(c *Config) { c.REST = REST{TLS: ServerTLS{Cert: "c"}} }, []string{"rest.address"}},
		"tokens over the network":        {func(c *Config) { c.REST = REST{Address: "0.0.0.0:9080", TokenReview: true} }, []string{"rest.tls"}},
		"another mode of admission":      {func(c *Config) { c.Admission.Mode = "hook" }, []string{"admission.mode"}},
		"admission nowhere":              {func(c *Config) { c.Admission.Mode, c.Admission.Address, c.Admission.Service = "webhook", "x", "" }, []string{"admission.address", "admission.service"}},
		"admission over HTTP": {func(c *Config) {
			c.Admission.Mode, c.Admission.URLs = "webhook", []string{"https://a:1", "http://a:1", "https://a/b"}
		}, []string{"admission.urls[1]", "admission.urls[2]"}},
		"half of admission's TLS": {func(c *Config) { c.Admission.Mode, c.Admission.TLS.Cert = "webhook", "c" }, []string{"admission.tls"}},
		"admission's authority":   {func(c *Config) { c.Admission.Mode, c.Admission.TLS.CA = "webhook", "c" }, []string{"admission.tls"}},
		"failure of admission":    {func(c *Config) { c.Admission.Mode, c.Admission.FailurePolicy = "webhook", "Deny" }, []string{"admission.failurePolicy"}},
		"half of REST's TLS":      {func(c *Config) { c.REST.TLS.CA = "c" }, []string{"rest.tls.cert", "rest.tls.key", "rest.tls.serverName"}},
		"port out of range":       {func(c *Config) { c.HTTP.Address = ":70000" }, []string{"http.address"}},
		"identity with a slash":   {func(c *Config) { c.Identity = "a/b" }, []string{"identity"}},
		// The holder identity is NAME_TOKEN; the name must not hold the separator.
		"identity with an underscore": {func(c *Config) { c.Identity = "a_b" }, []string{"identity"}},
		"label":                       {func(c *Config) { c.Workload.UserLabel = "no label" }, []string{"workload.userLabel"}},
		"user":                        {func(c *Config) { c.Placeholder.RunAsUser = -1 }, []string{"placeholder.runAsUser"}},
		"image":                       {func(c *Config) { c.Placeholder.Image = "" }, []string{"placeholder.image"}},
		"several": {func(c *Config) { c.Log.Level, c.Log.Format, c.Engine.LogLevel = "loud", "xml", "" },
			[]string{"engine.logLevel", "log.level", "log.format"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Default()
			cfg.Etcd.Endpoints = []string{"http://127.0.0.1:2379"}
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			c.change(&cfg)
			got := mistakes(t, cfg.Validate())
			if len(got) != len(c.want) {
				t.Fatalf("mistakes %q, want in %q", got, c.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], c.want[i]+": ") {
					t.Errorf("mistake %q, want in %s", got[i], c.want[i])
				}
			}
		})
	}
}

func TestCredentialsInAnEndpointAreRefusedAndNotShown(t *testing.T) {
	for _, endpoint := range []string{"http://user:hunter2@a:2379", "http://user:hunter2@a", "user:hunter2@a:2379"} {
		cfg := Default()
		cfg.Etcd.Endpoints = []string{endpoint}
		err := cfg.Validate()
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

func TestIdentityAndNamespaceComeFromTheEnvironment(t *testing.T) {
	host := func() (string, error) { return "host-1", nil }
	nameless := func() (string, error) { return "", errors.New("no name") }
	env := func(vars map[string]string) func(string) string { return func(k string) string { return vars[k] } }
	base, err := Parse([]byte(minimal))
	if err != nil {
		t.Fatal(err)
	}

	got, err := base.Resolve(env(map[string]string{"POD_NAME": "pod-1", "POD_NAMESPACE": "ns", "POD_TEMPLATE": "7d4b9c"}), host)
	if err != nil || got.Identity != "pod-1" || got.Namespace != "ns" || got.Template != "7d4b9c" {
		t.Errorf("in a pod: %q in %q, %v", got.Identity, got.Namespace, err)
	}
	got, err = base.Resolve(env(nil), host)
	if err != nil || got.Identity != "host-1" || got.Namespace != DefaultNamespace || got.Engine.ConfigMapNamespace != DefaultNamespace {
		t.Errorf("outside: %q in %q, %v", got.Identity, got.Namespace, err)
	}
	if _, err = base.Resolve(env(nil), nameless); err == nil {
		t.Error("a replica without a name was accepted")
	}
	if _, err = base.Resolve(env(map[string]string{"POD_NAMESPACE": "Not/A/Name"}), host); err == nil {
		t.Error("a namespace from the environment was not checked")
	}
	base.Identity, base.Namespace, base.Engine.ConfigMapNamespace = "mine", "here", "yunikorn"
	got, err = base.Resolve(env(map[string]string{"POD_NAME": "pod-1", "POD_NAMESPACE": "ns"}), nameless)
	if err != nil || got.Identity != "mine" || got.Namespace != "here" || got.Engine.ConfigMapNamespace != "yunikorn" {
		t.Errorf("the file does not win: %q in %q, %v", got.Identity, got.Namespace, err)
	}
}

// What the others are told is an address that they can reach.
func TestReachable(t *testing.T) {
	for _, tt := range []struct{ http, advertise, gossip, want string }{
		{"0.0.0.0:8080", "10.0.0.7:7946", "0.0.0.0:7946", "10.0.0.7:8080"},
		{":8080", "10.0.0.7:7946", ":7946", "10.0.0.7:8080"},
		{"[::]:8080", "[fd00::7]:7946", "[::]:7946", "[fd00::7]:8080"},
		{"0.0.0.0:8080", "", "10.0.0.7:7946", "10.0.0.7:8080"},
		{"0.0.0.0:8080", "10.0.0.7:7946", "192.168.0.7:7946", "10.0.0.7:8080"}, // where others reach it, not where it listens
		{"0.0.0.0:8080", "0.0.0.0:7946", "10.0.0.7:7946", "10.0.0.7:8080"},
		{"[fd00::1]:8080", "[fd00::7]:7946", "[::]:7946", "[fd00::1]:8080"},
		{"10.0.0.1:8080", "10.0.0.7:7946", "0.0.0.0:7946", "10.0.0.1:8080"},
		{"127.0.0.1:8080", "10.0.0.7:7946", "0.0.0.0:7946", "127.0.0.1:8080"},
		{"replica-1.ns:8080", "10.0.0.7:7946", "0.0.0.0:7946", "replica-1.ns:8080"},
		{"0.0.0.0:8080", "", "0.0.0.0:7946", "0.0.0.0:8080"}, // nothing better is known
		{"0.0.0.0:8080", "", "", "0.0.0.0:8080"},
		{":8080", "", "[::]:7946", ":8080"},
	} {
		cfg := Config{HTTP: HTTP{Address: tt.http}, Gossip: Gossip{Address: tt.gossip, Advertise: tt.advertise}}
		if got := cfg.Reachable(); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Setenv("POD_NAME", "pod-7")
	file := filepath.Join(t.TempDir(), "config.yaml")
	if _, err := Load(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	write(t, file, minimal)
	cfg, err := Load(file)
	if err != nil || cfg.Identity != "pod-7" {
		t.Errorf("got %q, %v", cfg.Identity, err)
	}
	write(t, file, head)
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error does not name the file: %v", err)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// FuzzParse looks for input that makes the parser panic, accept what does not
// validate, or refuse without a reason.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", head, minimal, full, "a: [", "- a", "etcd: &a {endpoints: *a}", "? [a]\n: b",
		head + "x: &x {y: *x}\n", "kubernetes: {qps: .nan}", "kubernetes: {burst: 0x10}", "\x00", "--- !!binary\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := Parse(data)
		if err != nil {
			for _, m := range mistakes(t, err) {
				if strings.TrimSpace(m) == "" {
					t.Errorf("a mistake without a message: %q", data)
				}
			}
			return
		}
		if err := cfg.Validate(); err != nil {
			t.Errorf("accepted, but does not validate: %v", err)
		}
		if _, err := Parse(data); err != nil {
			t.Errorf("refused the second time: %v", err)
		}
	})
}
