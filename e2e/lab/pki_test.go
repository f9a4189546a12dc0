package lab

import (
	"crypto/x509"
	"os"
	"testing"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

func TestWhoTrustsTheAuthorityTrustsTheAPIServer(t *testing.T) {
	p, err := newPKI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	serving, err := cert.CertsFromFile(p.servingCert)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := cert.NewPoolFromBytes(p.caPEM)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "kubernetes.default.svc"} {
		if _, err := serving[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, key := range []string{p.servingKey, p.accountKey} {
		if _, err := keyutil.PrivateKeyFromFile(key); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", key, info, err)
		}
	}
}
