package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
)

// Password reads the password from its file, without the line end that editors
// leave there. It is empty if no file is named.
func (c Etcd) Password() (string, error) {
	if c.PasswordFile == "" {
		return "", nil
	}
	data, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("etcd.passwordFile: %w", err)
	}
	password := strings.TrimRight(string(data), "\r\n")
	if password == "" {
		return "", fmt.Errorf("etcd.passwordFile: %s is empty", c.PasswordFile)
	}
	return password, nil
}

// Secure reports whether the endpoints are reached over TLS.
func (c Etcd) Secure() bool {
	return len(c.Endpoints) > 0 && strings.HasPrefix(c.Endpoints[0], "https://")
}

// TLSConfig returns how to connect to etcd, nil for plain endpoints. The client
// certificate is read again for every handshake, so that a renewed one is used
// without a restart.
func (c Etcd) TLSConfig() (*tls.Config, error) {
	if !c.Secure() {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	var err error
	if conf.RootCAs, err = authority("etcd.tls.ca", c.TLS.CA); err != nil {
		return nil, err
	}
	if c.TLS.Cert != "" {
		load := pair("etcd.tls.cert", c.TLS.Cert, c.TLS.Key)
		if _, err := load(); err != nil {
			return nil, err
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return conf, nil
}

// Server returns how to serve, nil without TLS. The certificate is read again for every
// handshake, the authority of clients is not.
func (t ServerTLS) Server() (*tls.Config, error) {
	if !t.Enabled() {
		return nil, nil
	}
	load := pair("rest.tls.cert", t.Cert, t.Key)
	if _, err := load(); err != nil {
		return nil, err
	}
	conf := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load() },
	}
	var err error
	if conf.ClientCAs, err = authority("rest.tls.clientCA", t.ClientCA); err != nil {
		return nil, err
	}
	if conf.ClientCAs != nil {
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

// Client returns how to reach another replica, nil without TLS. It is known by ServerName,
// whatever its address.
func (t ServerTLS) Client() (*tls.Config, error) {
	if !t.Enabled() {
		return nil, nil
	}
	load := pair("rest.tls.cert", t.Cert, t.Key)
	conf := &tls.Config{
		MinVersion:           tls.VersionTLS12,
		ServerName:           t.ServerName,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() },
	}
	var err error
	conf.RootCAs, err = authority("rest.tls.ca", t.CA)
	return conf, err
}

// pair reads a certificate and its key whenever it is called.
func pair(field, cert, key string) func() (*tls.Certificate, error) {
	return func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
		return &pair, nil
	}
}

// authority reads certificates, nil if no file is named.
func authority(field, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s holds no certificate in PEM form", field, file)
	}
	return pool, nil
}
