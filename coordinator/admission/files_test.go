package admission

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/understudy-ha/understudy/coordinator/config"
)

// keeper plays who keeps certificates: it has an authority, and makes certificates of it.
type keeper struct {
	t         *testing.T
	key       *ecdsa.PrivateKey
	authority *x509.Certificate
}

func newKeeper(t *testing.T, at time.Time) *keeper {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{t: t, key: key}
	k.authority = k.sign(&x509.Certificate{
		SerialNumber: big.NewInt(at.UnixNano()), NotBefore: at, NotAfter: at.Add(365 * day), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: at.String()},
	}, nil, key)
	return k
}

func (k *keeper) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	k.t.Helper()
	if parent == nil {
		parent = template
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), k.key)
	if err != nil {
		k.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		k.t.Fatal(err)
	}
	return c
}

func (k *keeper) bundle() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.authority.Raw})
}

// write has a directory hold a certificate of 90 days with a new key, as the Secret of a
// certificate does.
func (k *keeper) write(dir string, at time.Time) {
	k.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		k.t.Fatal(err)
	}
	leaf := k.sign(&x509.Certificate{
		SerialNumber: big.NewInt(at.UnixNano()), NotBefore: at, NotAfter: at.Add(90 * day), DNSNames: []string{"admission.own.svc"},
	}, k.authority, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		k.t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"ca.crt":  k.bundle(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			k.t.Fatal(err)
		}
	}
}

func filesIn(dir string) *Files {
	return NewFiles(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt"))
}

// accepted reports whether a client that trusts a bundle takes what a replica shows.
func accepted(t *testing.T, f *Files, bundle []byte, at time.Time) error {
	t.Helper()
	shown, err := f.Get(nil)
	if err != nil {
		t.Fatal(err)
	}
	return knows(bundle, shown, at)
}

// Certificate, key and authority are replaced at once, again and again. The replicas see that
// at different times, and each looks at its own: the API server, which knows what the last of
// them has written, trusts all of them all the time, and in the end the last authority alone.
func TestNoReplacedFileIsNoticed(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const late = 70 * time.Second // of one kubelet after the other
	var dirs []string
	var replicas []*Files
	var trusts [3]trust
	k := newKeeper(t, now)
	for range trusts {
		dirs = append(dirs, t.TempDir())
		k.write(dirs[len(dirs)-1], now)
		replicas = append(replicas, filesIn(dirs[len(dirs)-1]))
	}
	var told []byte
	look := func(i int) {
		own, err := replicas[i].Renew(t.Context(), told, now)
		if err != nil {
			t.Fatal(err)
		}
		told = trusts[i].join(own, told, now)
	}
	for i := range replicas {
		look(i)
	}
	for round := range 4 {
		now = now.Add(60 * day)
		if round != 2 { // the third has the authority of before
			k = newKeeper(t, now)
		}
		began := now
		before, _ := replicas[0].Get(nil)
		have := 0 // as many replicas have the new files
		for step := range 3 * 60 {
			now = now.Add(keepPeriod / 3)
			if have < len(dirs) && !now.Before(began.Add(time.Duration(have)*late)) {
				k.write(dirs[have], now)
				have++
			}
			look(step % 3)
			for i, f := range replicas {
				if err := accepted(t, f, told, now); err != nil {
					t.Fatalf("round %d, after %v replica %d is refused: %v", round, now.Sub(began), i, err)
				}
			}
		}
		for i, f := range replicas {
			if shown, _ := f.Get(nil); same(shown, before) || accepted(t, f, k.bundle(), now) != nil {
				t.Errorf("round %d: replica %d shows what was before", round, i)
			}
		}
		if !bytes.Equal(told, k.bundle()) {
			t.Errorf("round %d: %d authorities are left", round, len(authoritiesIn(told)))
		}
	}
}

// Somebody else tells the API server. A certificate is shown once it is known there.
func TestWhereSomebodyElseTellsTheAPIServer(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	first, second := newKeeper(t, now), newKeeper(t, now.Add(-time.Hour))
	f := NewFiles(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), "")
	look := func(told []byte) {
		t.Helper()
		own, err := f.Renew(t.Context(), told, now)
		if err != nil || own != nil {
			t.Fatalf("tells of %q, %v", own, err)
		}
		var none trust
		if joined := none.join(own, told, now); joined != nil {
			t.Fatalf("tells of %q", joined)
		}
	}
	first.write(dir, now)
	look(nil) // nobody has told of anything: what is there is shown
	second.write(dir, now)
	for range 10 {
		now = now.Add(keepPeriod)
		look(first.bundle())
	}
	if err := accepted(t, f, first.bundle(), now); err != nil {
		t.Errorf("before the API server knows: %v", err)
	}
	look(second.bundle())
	if err := accepted(t, f, second.bundle(), now); err != nil {
		t.Errorf("when it knows: %v", err)
	}
}

// What does not fit together is being replaced: what was shown is shown on.
func TestFilesThatAreHalfReplaced(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	dir, other := t.TempDir(), t.TempDir()
	k := newKeeper(t, now)
	k.write(dir, now)
	newKeeper(t, now).write(other, now)
	f := filesIn(dir)
	if _, err := f.Get(nil); err == nil {
		t.Error("a certificate that nobody has read")
	}
	told, err := f.Renew(t.Context(), nil, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ca.crt", "tls.key", "tls.crt"} {
		data, err := os.ReadFile(filepath.Join(other, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		now = now.Add(keepPeriod)
		if _, err := f.Renew(t.Context(), told, now); (err == nil) != (name == "tls.crt") {
			t.Errorf("with the new %s: %v", name, err)
		}
		if err := accepted(t, f, told, now); err != nil {
			t.Errorf("with the new %s: %v", name, err)
		}
	}
	if end := f.Expires(); !end.Equal(now.Add(90*day - 3*keepPeriod)) {
		t.Errorf("expires %v", end)
	}
}

// A certificate that has ended is worse than one that nobody may know.
func TestAnEndedCertificateIsReplacedAtOnce(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	k := newKeeper(t, now)
	k.write(dir, now)
	f := filesIn(dir)
	if _, err := f.Renew(t.Context(), nil, now); err != nil {
		t.Fatal(err)
	}
	now = now.Add(91 * day)
	next := newKeeper(t, now)
	next.write(dir, now)
	own, err := f.Renew(t.Context(), k.bundle(), now)
	if err != nil || accepted(t, f, own, now) != nil {
		t.Errorf("%v, %v", err, accepted(t, f, own, now))
	}
}

// TestFilesAreDue: there is something to do when files have been replaced, when the certificate in them
// has waited for long enough, and again while the API server does not know its authority.
func TestFilesAreDue(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	f := filesIn(dir)
	due := func(want bool, when string) {
		t.Helper()
		if got := f.Due(now); got != want {
			t.Errorf("%s: due %v", when, got)
		}
	}
	renew := func(told []byte) {
		t.Helper()
		if _, err := f.Renew(t.Context(), told, now); err != nil {
			t.Fatal(err)
		}
	}
	due(false, "there are no files")
	k := newKeeper(t, now)
	k.write(dir, now)
	due(true, "the first files")
	renew(nil)
	due(false, "they are shown")
	if err := os.WriteFile(filepath.Join(dir, "tls.key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	due(false, "half replaced")
	now = now.Add(time.Hour)
	k = newKeeper(t, now)
	k.write(dir, now)
	due(true, "replaced")
	renew(nil)
	due(false, "announced")
	now = now.Add(settling)
	due(true, "waited for long enough")
	renew(nil)
	due(false, "just tried")
	now = now.Add(settled)
	due(true, "tried some time ago")
	renew(k.bundle())
	if err := accepted(t, f, k.bundle(), now); err != nil {
		t.Error(err)
	}
	due(false, "shown")
}

// trusting is an API server that knows every authority.
type trusting struct {
	around
	bundle atomic.Pointer[[]byte]
}

func (a *trusting) Told(context.Context) ([]byte, error) { return *a.bundle.Load(), nil }

// TestAServiceShowsWhatIsReplaced: as soon as it may, and not when it next looks at everything.
func TestAServiceShowsWhatIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		dir, k := t.TempDir(), newKeeper(t, time.Now())
		k.write(dir, time.Now())
		f, w, bundle := filesIn(dir), &trusting{}, k.bundle()
		w.bundle.Store(&bundle)
		w.says(set{})
		cfg := Config{
			Mode: config.AdmissionWebhook, Namespace: own, ServiceAccount: "understudy", SchedulerName: "yunikorn", FailurePolicy: "Ignore",
			ConfigMaps: []string{"yunikorn-defaults", "yunikorn-configs"}, Workloads: BuiltIn(), Where: Where{Namespace: own, Service: "admission"},
		}
		s := New(cfg, known{}, w.read, w, f, time.Now, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		time.Sleep(2 * readPeriod)
		first := f.Expires()
		if first.IsZero() {
			t.Fatal("nothing is shown")
		}
		k.write(dir, time.Now().Add(readPeriod))
		time.Sleep(settling - readPeriod)
		if !f.Expires().Equal(first) {
			t.Error("it is shown before others may know of it")
		}
		time.Sleep(settled + 3*readPeriod)
		if f.Expires().Equal(first) {
			t.Error("it is not shown when it may be")
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}
