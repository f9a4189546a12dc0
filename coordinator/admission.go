package coordinator

import (
	"context"
	"crypto/tls"
	"net/url"
	"os"

	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/coordinator/admission"
	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/serve"
)

// serveAdmission does what a replica does for admission, if that is configured, from the start
// of the process to its end.
func (r *replica) serveAdmission(start func(name string, run func(context.Context) error)) error {
	cfg := r.cfg.Admission
	if cfg.Mode == "" {
		return nil
	}
	workloads, err := admission.Choose(cfg.Workloads)
	if err != nil {
		return err
	}
	clients, err := kube.NewAdmissionClients(r.clientConfig(), cfg.Secret)
	if err != nil {
		return err
	}
	conf := admission.Config{
		Mode: cfg.Mode, Namespace: r.cfg.Namespace, ServiceAccount: cfg.ServiceAccount, SchedulerName: r.cfg.SchedulerName,
		ConfigMaps: []string{r.cfg.Engine.DefaultsConfigMap, r.cfg.Engine.ConfigMap}, ConfigMapNamespace: r.cfg.Engine.ConfigMapNamespace, FailurePolicy: cfg.FailurePolicy,
		Where: admission.Where{Namespace: r.cfg.Namespace, Service: cfg.Service, URLs: cfg.URLs}, Workloads: workloads,
		Annotations: cfg.Annotations,
	}
	var certificates admission.Certificates
	if cfg.Mode == config.AdmissionWebhook {
		certificates = admission.NewMade(clients.Secrets.CoreV1().Secrets(r.cfg.Namespace), cfg.Secret, conf.Where.Names(hosts(cfg.URLs)))
		if cfg.TLS.Cert != "" {
			certificates = admission.NewFiles(cfg.TLS.Cert, cfg.TLS.Key, cfg.TLS.CA)
		}
	}
	service := admission.New(conf, admissionFacts{r}, r.configMaps, admission.NewCluster(clients.Objects), certificates, r.now, r.metrics, r.log)
	if certificates != nil {
		secure := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificates.Get}
		listening, err := serve.Listen("admission", cfg.Address, secure, service.Handler(), r.log)
		if err != nil {
			return err
		}
		start("admission", listening.Serve)
	}
	start("admission objects", service.Run)
	return nil
}

// clientConfig says how this replica reaches the API server.
func (r *replica) clientConfig() kube.ClientConfig {
	return kube.ClientConfig{
		Kubeconfig: r.cfg.Kubernetes.Kubeconfig,
		QPS:        r.cfg.Kubernetes.QPS,
		Burst:      r.cfg.Kubernetes.Burst,
		UserAgent:  "understudy/" + r.opts.Version,
		Namespace:  r.cfg.Namespace,
		PodName:    os.Getenv("POD_NAME"),
		Wrap:       r.opts.Tracing.WrapTransport,
		Guard:      r.guard,
		Yields:     r.warmup.rests,
		ReadsFrom:  r.gatherer.Dial,
	}
}

// hosts are those of URLs.
func hosts(urls []string) []string {
	var list []string
	for _, text := range urls {
		if u, err := url.Parse(text); err == nil {
			list = append(list, u.Hostname())
		}
	}
	return list
}

// configMaps reads the ConfigMaps from the informers, and before these know them, from the
// API server.
func (r *replica) configMaps(ctx context.Context) ([]*v1.ConfigMap, error) {
	if held, listed := r.cluster.ConfigMaps(); listed {
		return held, nil
	}
	var held []*v1.ConfigMap
	for _, name := range []string{r.cfg.Engine.DefaultsConfigMap, r.cfg.Engine.ConfigMap} {
		cm, err := r.kube.Reads.CoreV1().ConfigMaps(r.cfg.Engine.ConfigMapNamespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			cm, err = nil, nil
		}
		if err != nil {
			return nil, err
		}
		held = append(held, cm)
	}
	return held, nil
}

// admissionFacts asks the informers, and the API server for what they do not know: it may be
// newer than they are, and they may know nothing yet.
type admissionFacts struct{ *replica }

func (f admissionFacts) Namespace(ctx context.Context, name string) (*v1.Namespace, error) {
	if known := f.cluster.Namespace(name); known != nil {
		return known, nil
	}
	return found(f.kube.Reads.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}))
}

func (f admissionFacts) PriorityClass(ctx context.Context, name string) (*schedulingv1.PriorityClass, error) {
	if known := f.cluster.PriorityClass(name); known != nil {
		return known, nil
	}
	return found(f.kube.Reads.SchedulingV1().PriorityClasses().Get(ctx, name, metav1.GetOptions{}))
}

// found makes nil of what does not exist.
func found[T any](object *T, err error) (*T, error) {
	if err == nil {
		return object, nil
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return nil, err
}
