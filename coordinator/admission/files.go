package admission

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

const (
	// settling is how long a certificate that has come is not shown at least. By then no replica
	// is still writing what it had read of the API server before.
	settling = keepTimeout
	// settled is how long it is after that before it is tried again to show it.
	settled = 2 * time.Second
)

// Files are certificates that somebody else keeps, such as cert-manager. All may be replaced
// at once, key and authority too, and the replicas do not see that at the same time. So a
// certificate is shown once the API server knows its authority, and the one before until then.
// Renew is called by one goroutine.
type Files struct {
	cert, key, ca string // ca is empty where somebody else tells the API server

	shown atomic.Pointer[tls.Certificate]
	// next has been read, first at since and last at tried, and is not shown yet.
	next         *tls.Certificate
	since, tried time.Time
	// authority is that of shown.
	authority []byte
}

// NewFiles returns certificates in files; ca is empty if somebody else tells the API server of
// the authority.
func NewFiles(cert, key, ca string) *Files { return &Files{cert: cert, key: key, ca: ca} }

// Get returns the certificate. It reads no file: it may be half replaced.
func (f *Files) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if shown := f.shown.Load(); shown != nil {
		return shown, nil
	}
	return nil, errors.New("admission.tls: nothing has been read yet")
}

// Expires is when the certificate ends.
func (f *Files) Expires() time.Time {
	if shown := f.shown.Load(); shown != nil {
		return shown.Leaf.NotAfter
	}
	return time.Time{}
}

// Due reports whether Renew has something to do: the files have been replaced, or what is in them
// has waited for long enough to be shown.
func (f *Files) Due(now time.Time) bool {
	pair, _, err := f.read()
	shown := f.shown.Load()
	switch {
	case err != nil: // They may be half replaced.
		return false
	case shown != nil && same(shown, pair):
		return f.next != nil
	case f.next == nil || !same(f.next, pair):
		return true
	}
	return now.Sub(f.since) >= settling && now.Sub(f.tried) >= settled
}

// Renew reads the files, and returns the authorities of what is shown and of what will be.
func (f *Files) Renew(_ context.Context, told []byte, now time.Time) ([]byte, error) {
	pair, authority, err := f.read()
	if err != nil {
		return nil, err
	}
	shown := f.shown.Load()
	if shown != nil && same(shown, pair) {
		f.next, f.authority = nil, authority
		return authority, nil
	}
	if f.next == nil || !same(f.next, pair) {
		f.next, f.since = pair, now
	}
	f.tried = now
	known := now.Sub(f.since) >= settling && knows(told, pair, now) == nil
	if shown == nil || now.After(shown.Leaf.NotAfter) || known {
		f.shown.Store(pair)
		f.next, f.authority = nil, authority
		return authority, nil
	}
	if f.ca == "" {
		return nil, nil
	}
	return bytes.Join([][]byte{authority, f.authority}, []byte("\n")), nil
}

// read returns what is in the files, if that fits together: they are replaced one after
// another, or while they are read.
func (f *Files) read() (*tls.Certificate, []byte, error) {
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, nil, fmt.Errorf("admission.tls: %w", err)
	}
	if f.ca == "" {
		return &pair, nil, nil
	}
	authority, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, nil, fmt.Errorf("admission.tls.ca: %w", err)
	}
	// One that has ended is no reason to show none.
	if err := knows(authority, &pair, pair.Leaf.NotBefore); err != nil {
		return nil, nil, fmt.Errorf("admission.tls.ca is not the authority of admission.tls.cert: %w", err)
	}
	return &pair, authority, nil
}

func same(a, b *tls.Certificate) bool { return bytes.Equal(a.Leaf.Raw, b.Leaf.Raw) }

// knows returns why a client that trusts a bundle does not trust a certificate.
func knows(bundle []byte, pair *tls.Certificate, at time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	for _, raw := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(raw); err == nil {
			between.AddCert(c)
		}
	}
	_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at})
	return err
}
