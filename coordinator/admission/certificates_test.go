package admission

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionregv1 "k8s.io/api/admissionregistration/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/understudy-ha/understudy/coordinator/config"
)

const day = 24 * time.Hour

// trusts reports whether a client that trusts a bundle takes what a server shows.
func trusts(t *testing.T, bundle []byte, m *Made, at time.Time) error {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		t.Fatal("no bundle")
	}
	shown, err := m.Get(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = shown.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "admission.own.svc", CurrentTime: at})
	return err
}

// Three replicas look after certificates for three years, each at its own time, and the API
// server trusts what the last of them to look has told it. No server is ever refused.
func TestNoRotationIsNoticed(t *testing.T) {
	client := fake.NewClientset()
	var replicas []*Made
	for range 3 {
		replicas = append(replicas, NewMade(client.CoreV1().Secrets(own), "certificates", []string{"admission.own.svc", "127.0.0.1"}))
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	// told is what the API server has been told last, and before: a replica shows its certificate
	// before it tells.
	var told [2][]byte
	seen := map[string]bool{}
	for step := range 3 * 365 {
		for i, m := range replicas {
			if step > 0 && step%3 != i {
				continue // it looks later
			}
			bundle, err := m.Renew(t.Context(), nil, now)
			if err != nil {
				t.Fatal(err)
			}
			if step == 0 {
				told[0] = bundle // there is nothing to be refused before
			}
			told = [2][]byte{bundle, told[0]}
		}
		for i, m := range replicas {
			for _, bundle := range told {
				if err := trusts(t, bundle, m, now); err != nil {
					t.Fatalf("after %d days replica %d: %v", step, i, err)
				}
			}
			shown, _ := m.Get(nil)
			seen[string(shown.Leaf.AuthorityKeyId)] = true
		}
		now = now.Add(day)
	}
	if len(seen) < 4 {
		t.Errorf("%d authorities in three years", len(seen))
	}
}

func TestASecretThatIsDeletedComesBack(t *testing.T) {
	client := fake.NewClientset()
	secrets := client.CoreV1().Secrets(own)
	now := time.Now()
	a, b := NewMade(secrets, "certificates", []string{"admission.own.svc"}), NewMade(secrets, "certificates", []string{"admission.own.svc"})
	for _, m := range []*Made{a, b} {
		if _, err := m.Renew(t.Context(), nil, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := secrets.Delete(t.Context(), "certificates", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	bundle, err := a.Renew(t.Context(), nil, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := trusts(t, bundle, b, now); err != nil {
		t.Errorf("the other replica is refused: %v", err)
	}
}

// Replicas begin at the same time: who is overtaken by another has a certificate all the same, at
// once, by the authority that the other has made.
func TestWhoIsOvertakenServesAtOnce(t *testing.T) {
	now, names := time.Now(), []string{"admission.own.svc"}
	elsewhere := fake.NewClientset().CoreV1().Secrets(own)
	bundle, err := NewMade(elsewhere, "certificates", names).Renew(t.Context(), nil, now)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := elsewhere.Get(t.Context(), "certificates", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	resource := v1.SchemeGroupVersion.WithResource("secrets")
	for verb, held := range map[string][]runtime.Object{
		"create": nil, "update": {&v1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: own, Name: "certificates"}}},
	} {
		client, overtaken := fake.NewClientset(held...), false
		client.PrependReactor(verb, "secrets", func(k8stesting.Action) (bool, runtime.Object, error) {
			if overtaken {
				return false, nil, nil
			}
			overtaken = true
			if verb == "create" {
				return false, nil, client.Tracker().Create(resource, theirs, own)
			}
			return true, nil, errors.Join(client.Tracker().Update(resource, theirs, own), apierrors.NewConflict(v1.Resource("secrets"), "certificates", nil))
		})
		m := NewMade(client.CoreV1().Secrets(own), "certificates", names)
		if _, err := m.Renew(t.Context(), nil, now); err != nil {
			t.Errorf("%s: %v", verb, err)
			continue
		}
		if err := trusts(t, bundle, m, now); err != nil || !overtaken {
			t.Errorf("%s: overtaken %v, %v", verb, overtaken, err)
		}
	}
}

func TestASecretThatCannotBeReadIsLeft(t *testing.T) {
	client := fake.NewClientset(&v1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: own, Name: "certificates"}, Data: map[string][]byte{"current.crt": []byte("x")}})
	m := NewMade(client.CoreV1().Secrets(own), "certificates", nil)
	if _, err := m.Renew(t.Context(), nil, time.Now()); err == nil {
		t.Error("no error")
	}
	if _, err := m.Get(nil); err == nil {
		t.Error("a certificate out of nothing")
	}
}

// What a server shows changes while a connection is used.
func TestCertificatesAreReplacedWhileServing(t *testing.T) {
	m := NewMade(fake.NewClientset().CoreV1().Secrets(own), "certificates", []string{"127.0.0.1"})
	now := time.Now()
	bundle, err := m.Renew(t.Context(), nil, now.Add(-servingLife*2/3))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(answering(known{}).Handler())
	server.TLS = &tls.Config{GetCertificate: m.Get}
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	// httptest serves a certificate of its own unless it is asked by name.
	server.TLS.Certificates = nil
	get := func(client *http.Client) (serial string) {
		resp, err := client.Get(server.URL + PathHealth)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "OK\r\n" || resp.ProtoMajor != 2 {
			t.Fatalf("%q over HTTP/%d, %v", body, resp.ProtoMajor, err)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.String()
	}
	dial := func() *http.Client {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(bundle)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	kept := dial()
	first := get(kept)
	if _, err := m.Renew(t.Context(), nil, now); err != nil {
		t.Fatal(err)
	}
	if get(kept) != first {
		t.Error("the connection was not kept")
	}
	if get(dial()) == first {
		t.Error("a new connection is shown the old certificate")
	}
}

// around is what a service lives in: ConfigMaps, and an API server that keeps objects.
type around struct {
	mu         sync.Mutex
	held       []*v1.ConfigMap
	unread     error
	unwritable error
	times      int
}

func (a *around) change(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do()
}

// kept is how often objects were written.
func (a *around) kept() int {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.times
}

func (a *around) read(context.Context) ([]*v1.ConfigMap, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held, a.unread
}

func (a *around) Told(context.Context) ([]byte, error) { return nil, nil }

func (a *around) Keep(context.Context, []runtime.Object, []Object) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times++
	return a.unwritable
}

// says has the ConfigMap that overrides the other hold that.
func (a *around) says(data set) {
	a.change(func() { a.held, a.unread = []*v1.ConfigMap{nil, configMap("yunikorn-configs", data)}, nil })
}

func TestServiceFollowsTheConfigMaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &around{unread: errors.New("not yet"), unwritable: errors.New("away")}
		cfg := Config{
			Mode: config.AdmissionWebhook, Namespace: own, ServiceAccount: "understudy", SchedulerName: "yunikorn", FailurePolicy: "Ignore",
			ConfigMaps: []string{"yunikorn-defaults", "yunikorn-configs"}, Workloads: BuiltIn(), Where: Where{Namespace: own, Service: "admission"},
		}
		made := NewMade(fake.NewClientset().CoreV1().Secrets(own), "certificates", nil)
		s := New(cfg, known{}, w.read, w, made, time.Now, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		time.Sleep(10 * time.Second)
		if n := w.kept(); n > 0 || s.current.Load() != nil {
			t.Error("something came of nothing")
		}
		w.says(set{keyBypass: "^x"})
		time.Sleep(2 * readPeriod)
		failing := w.kept()
		if failing < 1 || !s.current.Load().settings.Bypass.match("x1") {
			t.Errorf("%+v after %d times", s.current.Load(), failing)
		}
		time.Sleep(4 * readPeriod)
		if w.kept() == failing {
			t.Error("what failed was not tried again")
		}
		time.Sleep(keepPeriod)
		before := w.kept()
		time.Sleep(time.Minute)
		if n := w.kept() - before; n < 3 || n > 10 {
			t.Errorf("what cannot be was tried %d times in a minute", n)
		}
		w.change(func() { w.unwritable = nil })
		time.Sleep(2 * keepPeriod)
		settled := w.kept()
		time.Sleep(keepPeriod + 2*readPeriod)
		if n := w.kept() - settled; n < 1 || n > 2 {
			t.Errorf("kept %d times in %v", n, keepPeriod)
		}
		w.says(set{keyBypass: "^y", keyHotRefresh: "false"})
		time.Sleep(2 * readPeriod)
		w.says(set{keyBypass: "^z"})
		time.Sleep(2 * readPeriod)
		synctest.Wait()
		if !s.current.Load().settings.Bypass.match("y") {
			t.Error("a configuration that is not to be read again was")
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

func TestObjectsOfTheModes(t *testing.T) {
	cfg := Config{Namespace: own, ServiceAccount: "understudy", SchedulerName: "yunikorn", FailurePolicy: "Fail", Workloads: BuiltIn(), ConfigMaps: []string{"a", "b"}, Where: Where{Namespace: own, Service: "admission"}}
	known := map[Object]bool{}
	for _, o := range All() {
		known[o] = true
	}
	count := func(mode string, data set) map[string]int {
		cfg.Mode = mode
		kinds := map[string]int{}
		for _, o := range cfg.wanted(settingsOf(t, data), []byte("bundle")) {
			fields, err := plain(o)
			if err != nil {
				t.Fatal(err)
			}
			if !known[Object{resources[fields.GetKind()], fields.GetName()}] {
				t.Errorf("%s %s would stay behind", fields.GetKind(), fields.GetName())
			}
			kinds[fields.GetKind()]++
		}
		return kinds
	}
	guards := map[string]int{"ValidatingAdmissionPolicy": 7, "ValidatingAdmissionPolicyBinding": 7}
	with := func(more map[string]int) map[string]int { m := maps.Clone(guards); maps.Copy(m, more); return m }
	if got, want := count(config.AdmissionWebhook, nil), with(map[string]int{"MutatingWebhookConfiguration": 1, "ValidatingWebhookConfiguration": 1}); !maps.Equal(got, want) {
		t.Errorf("webhook: %v, want %v", got, want)
	}
	if got, want := count(config.AdmissionPolicy, nil), with(map[string]int{"MutatingAdmissionPolicy": 7, "MutatingAdmissionPolicyBinding": 7}); !maps.Equal(got, want) {
		t.Errorf("policy: %v, want %v", got, want)
	}
	if got, want := count(config.AdmissionPolicy, set{keyBypassAuth: "true"}), (map[string]int{"MutatingAdmissionPolicy": 1, "MutatingAdmissionPolicyBinding": 1}); !maps.Equal(got, want) {
		t.Errorf("policy without users: %v, want %v", got, want)
	}
}

// Nothing that the cluster or the replicas need to work passes through the webhook, and only the
// last attempt decides what becomes of a pod that nobody answers for.
func TestWebhookConfiguration(t *testing.T) {
	cfg := Config{
		Namespace: own, ServiceAccount: "understudy", SchedulerName: "yunikorn", FailurePolicy: "Fail", Workloads: BuiltIn(),
		ConfigMaps: []string{"a", "b"}, Where: Where{URLs: []string{"https://one:1", "https://two:2"}},
	}
	hooks := cfg.mutations(settingsOf(t, nil), []byte("bundle")).Webhooks
	if len(hooks) != 2 || *hooks[0].ClientConfig.URL != "https://one:1/mutate" || *hooks[1].ClientConfig.URL != "https://two:2/mutate" {
		t.Fatalf("%+v", hooks)
	}
	if hooks[0].Name != "admission-webhook.yunikorn.mutate-pods" || *hooks[0].FailurePolicy != admissionregv1.Ignore || *hooks[1].FailurePolicy != admissionregv1.Fail {
		t.Errorf("%s: %s, then %s", hooks[0].Name, *hooks[0].FailurePolicy, *hooks[1].FailurePolicy)
	}
	for _, h := range hooks {
		exempt := h.NamespaceSelector.MatchExpressions[0]
		if exempt.Key != "kubernetes.io/metadata.name" || exempt.Operator != metav1.LabelSelectorOpNotIn || !slices.Equal(exempt.Values, []string{"kube-system", own}) {
			t.Errorf("%s: %+v", h.Name, exempt)
		}
		for _, r := range h.Rules {
			if *r.Scope != admissionregv1.NamespacedScope || slices.Contains(r.Resources, "*") || slices.Contains(r.APIGroups, "*") {
				t.Errorf("%s: %+v", h.Name, r)
			}
		}
	}
	// A pod that the first has decided about is not asked about again.
	undecided := hooks[1].MatchConditions[len(hooks[1].MatchConditions)-1].Expression
	for _, c := range []struct {
		object map[string]any
		want   bool
	}{
		{podOf(nil, nil, nil), true},
		{podOf(nil, set{userKey: annInfo}, nil), true},
		{podOf(nil, nil, map[string]any{"schedulerName": "yunikorn"}), true},
		{podOf(nil, set{userKey: annInfo}, map[string]any{"schedulerName": "yunikorn"}), false},
	} {
		request := asker(people[0], "team")
		request["operation"], request["resource"] = "CREATE", map[string]any{"resource": "pods"}
		if got := evaluate(t, undecided, map[string]any{"object": c.object, "request": request}); got != c.want {
			t.Errorf("%v: asked again %v", c.object, got)
		}
	}
	// Where a Service chooses, more is asked about new pods, and the last attempt about all.
	cfg.Where = Where{Namespace: own, Service: "admission"}
	hooks = cfg.mutations(settingsOf(t, nil), []byte("bundle")).Webhooks
	asked := map[string]int{}
	for i, h := range hooks {
		for _, resource := range []string{"pods", "deployments"} {
			request := asker(people[0], "team")
			request["operation"], request["resource"] = "CREATE", map[string]any{"resource": resource}
			if i == 0 || evaluate(t, h.MatchConditions[len(h.MatchConditions)-1].Expression, map[string]any{"object": podOf(nil, nil, nil), "request": request}) == true {
				asked[resource]++
				if i == len(hooks)-1 && *h.FailurePolicy == admissionregv1.Fail {
					asked["last "+resource]++
				}
			}
		}
	}
	if want := (map[string]int{"pods": attemptsOfService, "last pods": 1, "deployments": attemptsUndecided, "last deployments": 1}); !maps.Equal(asked, want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
	only := cfg.validations([]byte("bundle")).Webhooks[0]
	if *only.FailurePolicy != admissionregv1.Fail || only.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"] != own ||
		evaluate(t, only.MatchConditions[0].Expression, map[string]any{"object": map[string]any{"metadata": map[string]any{"name": "c"}}}) != false {
		t.Errorf("%+v", only)
	}
}
