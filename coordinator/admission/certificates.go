package admission

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/retry"
)

// Certificates are what a server shows, and what its clients have to trust.
type Certificates interface {
	// Get is for tls.Config.GetCertificate.
	Get(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Renew replaces what has to be replaced, and returns the authorities in PEM form, none if
	// somebody else tells the API server of them. told is what the API server knows already.
	Renew(ctx context.Context, told []byte, now time.Time) (bundle []byte, err error)
	// Expires is when the certificate ends that is shown, zero if there is none.
	Expires() time.Time
}

// Made are certificates that the replicas make themselves, by authorities in a Secret that
// they share. Renew is called by one goroutine.
type Made struct {
	secrets corev1client.SecretInterface
	name    string
	// names are those by which servers are reached.
	names []string

	known  *authorities
	served atomic.Pointer[tls.Certificate]
}

// NewMade returns certificates for servers of those names and addresses, by authorities in
// the Secret of that name.
func NewMade(secrets corev1client.SecretInterface, name string, names []string) *Made {
	return &Made{secrets: secrets, name: name, names: names}
}

// Get returns the certificate.
func (m *Made) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if served := m.served.Load(); served != nil {
		return served, nil
	}
	return nil, errors.New("there is no certificate yet")
}

// Expires is when the certificate ends.
func (m *Made) Expires() time.Time {
	if served := m.served.Load(); served != nil {
		return served.Leaf.NotAfter
	}
	return time.Time{}
}

// Renew reads the Secret, brings it up to date, and has a certificate by what it holds.
// Replicas that do so at the same time agree on what the first of them wrote.
func (m *Made) Renew(ctx context.Context, _ []byte, now time.Time) ([]byte, error) {
	held, err := m.share(ctx, now)
	if err != nil {
		return nil, fmt.Errorf("the Secret %s: %w", m.name, err)
	}
	m.known = held
	if served := m.served.Load(); stale(served, held.current, now) {
		if served, err = held.current.issue(now, m.names); err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		m.served.Store(served)
	}
	return held.bundle()
}

// share returns what the Secret holds by now. Where another replica has been faster, what that
// one has written is read at once: until then this one could serve nobody.
func (m *Made) share(ctx context.Context, now time.Time) (held *authorities, err error) {
	overtaken := func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }
	err = retry.OnError(retry.DefaultRetry, overtaken, func() error {
		held, err = m.shareOnce(ctx, now)
		return err
	})
	return held, err
}

func (m *Made) shareOnce(ctx context.Context, now time.Time) (*authorities, error) {
	secret, err := m.secrets.Get(ctx, m.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		// Somebody has deleted it, or this is the beginning. What others know goes on.
		return m.write(ctx, nil, m.known, now)
	}
	if err != nil {
		return nil, err
	}
	held, err := decode(secret.Data)
	switch {
	case errors.Is(err, errNoAuthority):
		held = m.known
	case err != nil:
		return nil, err
	}
	return m.write(ctx, secret, held, now)
}

// write brings the Secret up to date if it is not. secret is nil if there is none.
func (m *Made) write(ctx context.Context, secret *v1.Secret, held *authorities, now time.Time) (*authorities, error) {
	due, changed, err := held.due(now)
	if err != nil {
		return nil, err
	}
	if !changed && secret != nil && len(secret.Data) > 0 {
		return due, nil
	}
	data, err := due.encode()
	if err != nil {
		return nil, err
	}
	if secret == nil {
		_, err = m.secrets.Create(ctx, &v1.Secret{ObjectMeta: metav1.ObjectMeta{Name: m.name}, Type: v1.SecretTypeOpaque, Data: data}, metav1.CreateOptions{})
	} else {
		secret = secret.DeepCopy()
		secret.Data = data
		_, err = m.secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	if err != nil {
		return nil, err
	}
	return due, nil
}
