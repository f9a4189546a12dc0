package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	write(t, file, "hunter2\n")
	if got, err := (Etcd{PasswordFile: file}).Password(); err != nil || got != "hunter2" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := (Etcd{}).Password(); err != nil || got != "" {
		t.Errorf("without a file: %q, %v", got, err)
	}
	write(t, file, "\n")
	if _, err := (Etcd{PasswordFile: file}).Password(); err == nil || !strings.Contains(err.Error(), "etcd.passwordFile") {
		t.Errorf("empty file: %v", err)
	}
}

func TestTLSConfig(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	first := writePair(t, cert, key)
	secure := Etcd{Endpoints: []string{"https://a:2379"}, TLS: TLS{CA: cert, Cert: cert, Key: key}}

	if c, err := (Etcd{Endpoints: []string{"http://a:2379"}}).TLSConfig(); c != nil || err != nil {
		t.Errorf("plain endpoints: %v, %v", c, err)
	}
	c, err := secure.TLSConfig()
	if err != nil || c.RootCAs == nil {
		t.Fatalf("%+v, %v", c, err)
	}
	pair, err := c.GetClientCertificate(nil)
	if err != nil || string(pair.Certificate[0]) != string(first) {
		t.Fatalf("client certificate: %v", err)
	}
	second := writePair(t, cert, key)
	if pair, err = c.GetClientCertificate(nil); err != nil || string(pair.Certificate[0]) != string(second) {
		t.Errorf("a renewed certificate is not used: %v", err)
	}

	write(t, key, "no key")
	if _, err := secure.TLSConfig(); err == nil || !strings.Contains(err.Error(), "etcd.tls.cert") {
		t.Errorf("broken key: %v", err)
	}
	write(t, cert, "no certificate")
	if _, err := secure.TLSConfig(); err == nil || !strings.Contains(err.Error(), "etcd.tls.ca") {
		t.Errorf("broken authority: %v", err)
	}
}

// TestServerTLS: replicas know each other by a name, whatever their addresses; with an
// authority for clients nobody else is served; a renewed certificate is used at once.
func TestServerTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key)
	files := ServerTLS{Cert: cert, Key: key, CA: cert, ClientCA: cert, ServerName: "understudy"}
	conf, err := files.Server()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	listener := tls.NewListener(server.Listener, conf)
	server.Listener = listener
	server.Start()
	defer server.Close()
	url := "https://" + listener.Addr().String()
	get := func(as ServerTLS, without bool) error {
		conf, err := as.Client()
		if err != nil {
			t.Fatal(err)
		}
		if without {
			conf.GetClientCertificate = nil
		}
		transport := &http.Transport{TLSClientConfig: conf}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get(url)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := get(files, false); err != nil {
		t.Error("a replica:", err)
	}
	if get(files, true) == nil {
		t.Error("a client without a certificate is served")
	}
	other := files
	if other.ServerName = "somebody"; get(other, false) == nil {
		t.Error("a server is taken for another one")
	}
	if other = (ServerTLS{Cert: cert, Key: key, ServerName: "understudy"}); get(other, false) == nil {
		t.Error("a certificate of nobody's is believed")
	}
	der := writePair(t, cert, key)
	if pair, err := conf.GetCertificate(nil); err != nil || string(pair.Certificate[0]) != string(der) {
		t.Errorf("a renewed certificate is not used: %v", err)
	}
	if c, err := (ServerTLS{}).Server(); c != nil || err != nil {
		t.Errorf("without TLS: %v, %v", c, err)
	}
	if c, err := (ServerTLS{}).Client(); c != nil || err != nil {
		t.Errorf("without TLS: %v, %v", c, err)
	}
	write(t, cert, "no certificate")
	if _, err := files.Server(); err == nil || !strings.Contains(err.Error(), "rest.tls.cert") {
		t.Errorf("broken certificate: %v", err)
	}
	if _, err := files.Client(); err == nil || !strings.Contains(err.Error(), "rest.tls.ca") {
		t.Errorf("broken authority: %v", err)
	}
}

// writePair writes a new self-signed certificate with its key, and returns the
// certificate in DER form.
func writePair(t *testing.T, cert, key string) []byte {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "understudy"}, DNSNames: []string{"understudy"}, NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})))
	return der
}
