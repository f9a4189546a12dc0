package lab

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// pki holds the paths of the lab's keys, and what goes into kubeconfigs.
type pki struct {
	servingCert, servingKey string
	accountKey              string // signs service account tokens
	caPEM                   []byte
}

// newPKI writes a certificate authority's certificate, a certificate for the API
// server, and a key for service account tokens. The authority's key is not kept.
func newPKI(dir string) (*pki, error) {
	chain, servingKey, err := cert.GenerateSelfSignedCertKey("127.0.0.1", nil,
		[]string{"localhost", "kubernetes", "kubernetes.default.svc"})
	if err != nil {
		return nil, err
	}
	certs, err := cert.ParseCertsPEM(chain)
	if err != nil {
		return nil, err
	}
	ca, err := cert.EncodeCertificates(certs[len(certs)-1])
	if err != nil {
		return nil, err
	}
	accountKey, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		return nil, err
	}
	p := &pki{
		servingCert: filepath.Join(dir, "apiserver.crt"),
		servingKey:  filepath.Join(dir, "apiserver.key"),
		accountKey:  filepath.Join(dir, "serviceaccount.key"),
		caPEM:       ca,
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return p, errors.Join(
		cert.WriteCert(filepath.Join(dir, "ca.crt"), ca),
		cert.WriteCert(p.servingCert, chain),
		keyutil.WriteKey(p.servingKey, servingKey),
		keyutil.WriteKey(p.accountKey, accountKey),
	)
}

// newKeyring returns a keyring of one key for gossip.
func newKeyring() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key) + "\n"
}

// newToken returns a bearer token that nobody guesses.
func newToken() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}
