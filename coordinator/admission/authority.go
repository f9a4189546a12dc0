package admission

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// The lives of certificates. A new authority is made known long before the first server
// has a certificate of it, and an old one stays known while servers may have one, so that
// servers and clients need not change over together.
const (
	authorityLife  = 365 * 24 * time.Hour
	announceBefore = 120 * 24 * time.Hour // the end of the one in force
	replaceBefore  = 90 * 24 * time.Hour
	servingLife    = 30 * 24 * time.Hour
	// skew is by how far clocks may differ.
	skew = time.Hour
)

// authority is a certificate that signs others, and its key.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// authorities are those that a Secret holds.
type authorities struct {
	// previous has signed certificates that may still be served; nil if there was none.
	previous *x509.Certificate
	current  authority
	// next is known to clients and signs nothing yet; nil until it is time.
	next *authority
}

// The keys of the Secret.
const (
	secretPrevious = "previous.crt"
	secretCurrent  = "current"
	secretNext     = "next"
	suffixCert     = ".crt"
	suffixKey      = ".key"
)

var errNoAuthority = errors.New("the Secret holds no authority")

// due returns the authorities as they have to be at a time, and whether that is a change.
// Nil is the lack of any.
func (a *authorities) due(now time.Time) (*authorities, bool, error) {
	if a == nil || !a.current.cert.NotAfter.After(now) {
		current, err := newAuthority(now)
		if err != nil {
			return nil, false, err
		}
		return &authorities{current: current}, true, nil
	}
	left := a.current.cert.NotAfter.Sub(now)
	after := *a
	switch {
	case a.next == nil && left < announceBefore:
		next, err := newAuthority(now)
		if err != nil {
			return nil, false, err
		}
		after.next = &next
	case a.next != nil && left < replaceBefore && now.Sub(a.next.cert.NotBefore) > announceBefore-replaceBefore:
		after = authorities{previous: a.current.cert, current: *a.next}
	case a.previous != nil && a.previous.NotAfter.Before(now):
		after.previous = nil
	default:
		return a, false, nil
	}
	return &after, true, nil
}

// bundle is what clients have to trust.
func (a *authorities) bundle() ([]byte, error) {
	certs := []*x509.Certificate{a.current.cert}
	if a.next != nil {
		certs = append(certs, a.next.cert)
	}
	if a.previous != nil {
		certs = append(certs, a.previous)
	}
	return cert.EncodeCertificates(certs...)
}

func newAuthority(now time.Time) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	serial, err := newSerial()
	if err != nil {
		return authority{}, err
	}
	name := pkix.Name{CommonName: "understudy-admission-" + serial.Text(16)[:8]}
	made := &x509.Certificate{
		SerialNumber: serial, Subject: name, NotBefore: now.Add(-skew), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, made, made, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	parsed, err := x509.ParseCertificate(der)
	return authority{parsed, key}, err
}

func newSerial() (*big.Int, error) {
	least := new(big.Int).Lsh(big.NewInt(1), 100)
	serial, err := rand.Int(rand.Reader, least)
	if err != nil {
		return nil, err
	}
	return serial.Add(serial, least), nil
}

// issue makes a certificate for a server of those names and addresses.
func (a authority) issue(now time.Time, names []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	made := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "understudy-admission"}, NotBefore: now.Add(-skew), NotAfter: now.Add(servingLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if made.NotAfter.After(a.cert.NotAfter) {
		made.NotAfter = a.cert.NotAfter
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			made.IPAddresses = append(made.IPAddresses, ip)
		} else {
			made.DNSNames = append(made.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, made, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// stale reports whether a server should have another certificate.
func stale(served *tls.Certificate, by authority, now time.Time) bool {
	return served == nil || !bytes.Equal(served.Leaf.AuthorityKeyId, by.cert.SubjectKeyId) || served.Leaf.NotAfter.Sub(now) < servingLife/2 && served.Leaf.NotAfter.Before(by.cert.NotAfter)
}

// encode is the data of the Secret.
func (a *authorities) encode() (map[string][]byte, error) {
	data := make(map[string][]byte)
	put := func(name string, of authority) error {
		var errs [2]error
		data[name+suffixCert], errs[0] = cert.EncodeCertificates(of.cert)
		data[name+suffixKey], errs[1] = keyutil.MarshalPrivateKeyToPEM(of.key)
		return errors.Join(errs[:]...)
	}
	if err := put(secretCurrent, a.current); err != nil {
		return nil, err
	}
	if a.next != nil {
		if err := put(secretNext, *a.next); err != nil {
			return nil, err
		}
	}
	if a.previous != nil {
		var err error
		if data[secretPrevious], err = cert.EncodeCertificates(a.previous); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// decode reads the data of the Secret; errNoAuthority if it has none.
func decode(data map[string][]byte) (*authorities, error) {
	var a authorities
	current, err := readAuthority(data, secretCurrent)
	switch {
	case err != nil:
		return nil, err
	case current == nil:
		return nil, errNoAuthority
	}
	a.current = *current
	if a.next, err = readAuthority(data, secretNext); err != nil {
		return nil, err
	}
	if raw := data[secretPrevious]; len(raw) > 0 {
		certs, err := cert.ParseCertsPEM(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", secretPrevious, err)
		}
		a.previous = certs[0]
	}
	return &a, nil
}

func readAuthority(data map[string][]byte, name string) (*authority, error) {
	if len(data[name+suffixCert]) == 0 {
		return nil, nil
	}
	certs, err := cert.ParseCertsPEM(data[name+suffixCert])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name+suffixCert, err)
	}
	key, err := keyutil.ParsePrivateKeyPEM(data[name+suffixKey])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name+suffixKey, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: cannot sign", name+suffixKey)
	}
	if public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(certs[0].PublicKey) {
		return nil, fmt.Errorf("%s: is not the key of %s", name+suffixKey, name+suffixCert)
	}
	return &authority{certs[0], signer}, nil
}
