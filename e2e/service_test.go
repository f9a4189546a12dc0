package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/e2e/lab"
)

const (
	admissionService = "yunikorn-admission-controller-service"
	admissionPort    = 9089
)

// replicaAddresses are those of the replicas, one for each.
var replicaAddresses = []string{"198.18.0.1", "198.18.0.2", "198.18.0.3"}

func admissionAddress(replica string) string {
	i, _ := strconv.Atoi(strings.TrimPrefix(replica, "understudy-"))
	return fmt.Sprintf("%s:%d", replicaAddresses[i], admissionPort)
}

// behindAService is a lab whose API server finds the replicas by the Service of deploy/admission,
// and its endpoints, in a network of its own.
func behindAService(t *testing.T, change func(replica string, admission map[string]any)) *admitting {
	t.Helper()
	s := onStage(t, 8*time.Second, 5*time.Second, func(o *lab.Options) {
		o.Admission = config.AdmissionWebhook
		election := o.Configure
		o.Configure = func(replica string, file map[string]any) {
			election(replica, file)
			admission := file["admission"].(map[string]any)
			delete(admission, "urls")
			admission["address"] = admissionAddress(replica)
			change(replica, admission)
		}
	})
	objects, err := lab.ReadManifests(filepath.Join(s.Root(), "deploy", "admission", "service.yaml"))
	s.do(err)
	var service v1.Service
	s.do(runtime.DefaultUnstructuredConverter.FromUnstructured(objects[0].Object, &service))
	_, err = s.Client().CoreV1().Services(leaseNamespace).Create(t.Context(), &service, metav1.CreateOptions{})
	s.do(err)
	// No controller makes endpoints of pods in a lab.
	port, protocol := int32(admissionPort), v1.ProtocolTCP
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "admission", Labels: map[string]string{discoveryv1.LabelServiceName: service.Name}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &service.Spec.Ports[0].Name, Port: &port, Protocol: &protocol}},
	}
	for _, address := range replicaAddresses {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}})
	}
	_, err = s.Client().DiscoveryV1().EndpointSlices(leaseNamespace).Create(t.Context(), slice, metav1.CreateOptions{})
	s.do(err)
	grant(t, s.Client(), "everybody", []rbacv1.PolicyRule{
		{APIGroups: []string{"", "apps", "batch"}, Resources: []string{"pods", "deployments", "cronjobs"}, Verbs: []string{"create"}},
	}, rbacv1.Subject{Kind: rbacv1.GroupKind, Name: "system:authenticated"})
	return &admitting{stage: s, users: map[string]kubernetes.Interface{}}
}

// TestAdmissionThroughAService: replicas are killed and restarted, while the API server chooses
// among their endpoints, of which none is taken away.
func TestAdmissionThroughAService(t *testing.T) {
	if !ownNetwork(t, replicaAddresses...) {
		return
	}
	a := behindAService(t, func(string, map[string]any) {})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	a.do(a.AwaitAdmission(ctx))
	a.awaitAnn(ctx)
	held, err := a.Client().AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, mutations, metav1.GetOptions{})
	a.do(err)
	for _, w := range held.Webhooks {
		if w.ClientConfig.URL != nil || w.ClientConfig.Service == nil || w.ClientConfig.Service.Name != admissionService {
			t.Errorf("%s is asked at %+v", w.Name, w.ClientConfig)
		}
	}
	t.Run("config_maps", a.configMaps)
	a.chance = 1 // six attempts, each at one of three of which one is dead: one in some hundreds
	t.Run("while_replicas_go", a.whileReplicasGo)
}

// certManager plays cert-manager, and the kubelets, which have files hold what its Secret does.
type certManager struct {
	*admitting
	dirs      map[string]string // by replica
	key       *ecdsa.PrivateKey
	authority *x509.Certificate
	serial    int64
}

const tlsSecret = "understudy-admission-tls"

// certified is a lab whose replicas have certificates by cert-manager, in the files that
// deploy/certmanager names.
func certified(t *testing.T, change func(admission map[string]any)) *certManager {
	t.Helper()
	m := &certManager{dirs: map[string]string{}}
	m.renewAuthority(t)
	first := m.issue(t)
	for i := range replicaAddresses {
		replica := fmt.Sprintf("understudy-%d", i)
		m.dirs[replica] = t.TempDir()
		mount(t, m.dirs[replica], first)
	}
	m.admitting = behindAService(t, func(replica string, admission map[string]any) {
		files := shippedTLS(t)
		for field, path := range files {
			files[field] = filepath.Join(m.dirs[replica], filepath.Base(path.(string)))
		}
		admission["tls"] = files
		change(admission)
	})
	_, err := m.Client().CoreV1().Secrets(leaseNamespace).Create(t.Context(), &v1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: tlsSecret}, Type: v1.SecretTypeTLS, Data: first,
	}, metav1.CreateOptions{})
	m.do(err)
	return m
}

// shippedTLS is admission.tls in the configuration of deploy/certmanager.
func shippedTLS(t *testing.T) map[string]any {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "deploy", "certmanager", "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var held v1.ConfigMap
	var file struct {
		Admission struct {
			TLS map[string]any `json:"tls"`
		} `json:"admission"`
	}
	if err := errors.Join(yaml.Unmarshal(raw, &held), yaml.Unmarshal([]byte(held.Data["config.yaml"]), &file)); err != nil {
		t.Fatal(err)
	}
	return file.Admission.TLS
}

func (m *certManager) renewAuthority(t *testing.T) {
	t.Helper()
	m.serial++
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	// cert-manager dates nothing back. Seconds are all that a certificate has.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(m.serial), Subject: pkix.Name{CommonName: fmt.Sprintf("authority %d", m.serial)}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: at, NotAfter: at.Add(24 * time.Hour),
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	m.key, m.authority = key, authority
}

// issue is what the Secret of a certificate holds, with a new key.
func (m *certManager) issue(t *testing.T) map[string][]byte {
	t.Helper()
	m.serial++
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name, at := admissionService+"."+leaseNamespace+".svc", time.Now()
	raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(m.serial), DNSNames: []string{name, name + ".cluster.local"}, NotBefore: at, NotAfter: at.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, m.authority, key.Public(), m.key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		"ca.crt":  m.bundle(),
	}
}

func (m *certManager) bundle() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.authority.Raw})
}

// mount has a directory hold data as a kubelet does: all of it changes at once.
func mount(t *testing.T, dir string, data map[string][]byte) {
	t.Helper()
	version, err := os.MkdirTemp(dir, "..")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range data {
		if err := os.WriteFile(filepath.Join(version, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(dir, name)
		if err := os.Symlink(filepath.Join("..data", name), link); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	next := filepath.Join(dir, "..data_tmp")
	if err := errors.Join(os.Symlink(filepath.Base(version), next), os.Rename(next, filepath.Join(dir, "..data"))); err != nil {
		t.Fatal(err)
	}
}

// renew replaces the Secret, and the files of one replica after another: between is called when
// those of one have been.
func (m *certManager) renew(ctx context.Context, between func(replica string)) (serial int64) {
	m.t.Helper()
	data := m.issue(m.t)
	secrets := m.Client().CoreV1().Secrets(leaseNamespace)
	held, err := secrets.Get(ctx, tlsSecret, metav1.GetOptions{})
	m.do(err)
	held.Data = data
	_, err = secrets.Update(ctx, held, metav1.UpdateOptions{})
	m.do(err)
	replicas, err := m.Replicas()
	m.do(err)
	for _, r := range replicas {
		mount(m.t, m.dirs[r.Name], data)
		between(r.Name)
	}
	return m.serial
}

// shows returns the serial number of the certificate that a replica shows.
func (m *certManager) shows(replica string) int64 {
	conn, err := tls.Dial("tcp", admissionAddress(replica), &tls.Config{InsecureSkipVerify: true}) // what it shows is judged by the API server
	if err != nil {
		return 0
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func (m *certManager) awaitShown(ctx context.Context, serial int64, replicas ...string) {
	m.t.Helper()
	for _, r := range replicas {
		m.do(until(ctx, func() bool { time.Sleep(50 * time.Millisecond); return m.shows(r) == serial }))
	}
}

func (m *certManager) names() (names []string) {
	for i := range replicaAddresses {
		names = append(names, fmt.Sprintf("understudy-%d", i))
	}
	return names
}

// told is the caBundle of every webhook.
func (m *certManager) told(ctx context.Context) (bundles []string) {
	m.t.Helper()
	hooks := m.Client().AdmissionregistrationV1()
	mutating, err := hooks.MutatingWebhookConfigurations().Get(ctx, mutations, metav1.GetOptions{})
	m.do(err)
	validating, err := hooks.ValidatingWebhookConfigurations().Get(ctx, validations, metav1.GetOptions{})
	m.do(err)
	for _, w := range mutating.Webhooks {
		bundles = append(bundles, string(w.ClientConfig.CABundle))
	}
	for _, w := range validating.Webhooks {
		bundles = append(bundles, string(w.ClientConfig.CABundle))
	}
	return bundles
}

// asking creates pods, dry, and writes the configuration, dry, until it is told to stop. It returns
// how many pods were created, and what was refused or has escaped.
func (m *certManager) asking(ctx context.Context) func() (int64, []string) {
	m.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	var created atomic.Int64
	var mu sync.Mutex
	var wrong []string
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() == nil && len(wrong) < 20 {
			wrong = append(wrong, fmt.Sprintf(time.Now().Format("15:04:05.000 ")+format, args...))
		}
	}
	pods := m.ann().CoreV1().Pods("default")
	for range 3 {
		running.Go(func() {
			for ctx.Err() == nil {
				pod, err := pods.Create(ctx, unscheduled("asking"), dry)
				switch {
				case err != nil:
					note("refused: %v", err)
				case pod.Spec.SchedulerName != "yunikorn" || pod.Annotations[userInfo] != annInfo || pod.Labels[appID] == "":
					note("escaped: %s, %v, %v", pod.Spec.SchedulerName, pod.Labels, pod.Annotations)
				default:
					created.Add(1)
				}
				time.Sleep(30 * time.Millisecond) // the machine is for others as well
			}
		})
	}
	running.Go(func() {
		for ctx.Err() == nil {
			_, err := m.Client().CoreV1().ConfigMaps(leaseNamespace).Patch(ctx, "yunikorn-configs", types.MergePatchType,
				[]byte(`{"metadata":{"annotations":{"asked":"yes"}}}`), metav1.PatchOptions{DryRun: dry.DryRun})
			if err != nil {
				note("configuration: %v", err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	return func() (int64, []string) {
		cancel()
		running.Wait()
		return created.Load(), wrong
	}
}

// processes are the ids of the replicas.
func (m *certManager) processes() (ids []int) {
	m.t.Helper()
	for _, name := range m.names() {
		p, err := m.Replica(name).Process()
		m.do(err)
		ids = append(ids, p.PID, p.Restarts)
	}
	return ids
}

// TestCertificatesByCertManager: a certificate is renewed, with a new key, and then with a new
// authority too. The replicas come to know of that one after another. No request is refused, no pod
// escapes, and nobody restarts.
func TestCertificatesByCertManager(t *testing.T) {
	if !ownNetwork(t, replicaAddresses...) {
		return
	}
	m := certified(t, func(map[string]any) {})
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	m.do(m.AwaitAdmission(ctx))
	m.awaitAnn(ctx)
	before := fmt.Sprint(m.processes())
	m.awaitShown(ctx, m.serial, m.names()...)
	stop := m.asking(ctx)
	t.Log("all show the first certificate", time.Now().Format(time.TimeOnly))
	old := m.bundle()
	serial := m.renew(ctx, func(string) {})
	m.awaitShown(ctx, serial, m.names()...)
	for _, bundle := range m.told(ctx) {
		if bundle != string(old) {
			t.Errorf("the same authority is told of as\n%s", bundle)
		}
	}
	t.Log("all show the second one", time.Now().Format(time.TimeOnly))
	m.renewAuthority(t)
	serial = m.renew(ctx, func(replica string) {
		if replica == "understudy-0" {
			// The others still have the old files, and go on writing that authority.
			m.awaitShown(ctx, m.serial, replica)
		}
	})
	m.awaitShown(ctx, serial, m.names()...)
	for _, bundle := range m.told(ctx) {
		if !strings.Contains(bundle, string(m.bundle())) {
			t.Errorf("the new authority is not told of:\n%s", bundle)
		}
	}
	created, wrong := stop()
	if len(wrong) > 0 || created == 0 {
		t.Errorf("%d pods created, but\n%s", created, strings.Join(wrong, "\n"))
	}
	if after := fmt.Sprint(m.processes()); after != before {
		t.Errorf("processes were %s, are %s", before, after)
	}
	m.keptAway(ctx)
	t.Logf("%d pods created", created)
}

// keptAway wants the replicas to have made no authority of their own, and to have left the Secret
// alone.
func (m *certManager) keptAway(ctx context.Context) {
	m.t.Helper()
	list, err := m.Client().CoreV1().Secrets(leaseNamespace).List(ctx, metav1.ListOptions{})
	m.do(err)
	for _, secret := range list.Items {
		if secret.Name != tlsSecret {
			m.t.Errorf("somebody has made the Secret %s", secret.Name)
		}
		for _, by := range secret.ManagedFields {
			if strings.HasPrefix(by.Manager, "understudy/") || by.Manager == "understudy-admission" {
				m.t.Errorf("the replicas have written the Secret %s", secret.Name)
			}
		}
	}
}

// TestAnInjectorTellsOfTheAuthority: the replicas name no authority, and leave the caBundle to
// whoever has put it in, whom an annotation tells.
func TestAnInjectorTellsOfTheAuthority(t *testing.T) {
	if !ownNetwork(t, replicaAddresses...) {
		return
	}
	const inject = "cert-manager.io/inject-ca-from"
	m := certified(t, func(admission map[string]any) {
		delete(admission["tls"].(map[string]any), "ca")
		admission["annotations"] = map[string]any{inject: leaseNamespace + "/understudy-admission"}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	m.inject(ctx)
	m.do(m.AwaitAdmission(ctx))
	m.awaitAnn(ctx)
	first := string(m.bundle())
	stop := m.asking(ctx)
	serial := m.renew(ctx, func(string) {})
	m.awaitShown(ctx, serial, m.names()...)
	created, wrong := stop()
	if len(wrong) > 0 || created == 0 {
		t.Errorf("%d pods created, but\n%s", created, strings.Join(wrong, "\n"))
	}
	// By now each replica has written its objects again.
	for _, bundle := range m.told(ctx) {
		if bundle != first {
			t.Errorf("what was injected has become\n%s", bundle)
		}
	}
	held, err := m.Client().AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, mutations, metav1.GetOptions{})
	if err != nil || held.Annotations[inject] == "" {
		t.Errorf("the injector is not asked for: %v, %v", held.Annotations, err)
	}
	// A new authority is known to the API server when the injector tells of it, and no sooner.
	m.renewAuthority(t)
	serial = m.renew(ctx, func(string) {})
	m.inject(ctx)
	m.awaitShown(ctx, serial, m.names()...)
	m.do(m.AwaitAdmission(ctx))
	stop = m.asking(ctx)
	m.awaitAnn(ctx)
	if created, wrong = stop(); len(wrong) > 0 {
		t.Errorf("with a new authority %d pods created, but\n%s", created, strings.Join(wrong, "\n"))
	}
	m.keptAway(ctx)
}

// inject does what cert-manager's injector does, once there is something to do it to.
func (m *certManager) inject(ctx context.Context) {
	m.t.Helper()
	hooks := m.Client().AdmissionregistrationV1()
	m.do(until(ctx, func() bool {
		mutating, err := hooks.MutatingWebhookConfigurations().Get(ctx, mutations, metav1.GetOptions{})
		if err != nil {
			return false
		}
		for i := range mutating.Webhooks {
			mutating.Webhooks[i].ClientConfig.CABundle = m.bundle()
		}
		validating, err := hooks.ValidatingWebhookConfigurations().Get(ctx, validations, metav1.GetOptions{})
		if err != nil {
			return false
		}
		for i := range validating.Webhooks {
			validating.Webhooks[i].ClientConfig.CABundle = m.bundle()
		}
		_, err = hooks.MutatingWebhookConfigurations().Update(ctx, mutating, metav1.UpdateOptions{FieldManager: "cert-manager-cainjector"})
		if err == nil {
			_, err = hooks.ValidatingWebhookConfigurations().Update(ctx, validating, metav1.UpdateOptions{FieldManager: "cert-manager-cainjector"})
		}
		return err == nil
	}))
}
