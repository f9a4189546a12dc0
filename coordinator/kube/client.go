package kube

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/understudy-ha/understudy/internal/gather"
)

// ClientConfig says how to reach the API server.
type ClientConfig struct {
	// Kubeconfig is the path of a kubeconfig file; empty means the service
	// account of the pod.
	Kubeconfig string
	// QPS and Burst bound reads and writes, each for itself; a QPS of zero
	// leaves that to the priority and fairness of the API server. The Lease is
	// never held up.
	QPS       float32
	Burst     int
	UserAgent string
	// Wrap is put around the transport of reads and writes, for traces; it may
	// be nil.
	Wrap func(http.RoundTripper) http.RoundTripper
	// Guard says whether writes are allowed. Without it none are.
	Guard Guard
	// ReadsFrom is put around the dialer of the connections for reads; it may be nil.
	ReadsFrom func(gather.Dialer) gather.Dialer
	// Namespace and PodName are the replica's own; the name is empty outside a cluster.
	Namespace, PodName string
	// Yields says whether reads are to leave the API server to others for now; nil means never.
	Yields func() bool
	// Margin is how much of the lease must be left for a write to be sent; zero
	// selects DefaultMargin.
	Margin time.Duration
}

// DefaultMargin is the default of ClientConfig.Margin.
const DefaultMargin = 50 * time.Millisecond

// Clients are the clients of one replica. Each has a connection of its own, so
// that a long listing holds up no bind, and neither holds up the Lease.
type Clients struct {
	Reads    kubernetes.Interface
	Metadata metadata.Interface
	// Dynamic reads resources of any kind, and Discovery tells which there are.
	Dynamic   dynamic.Interface
	Discovery discovery.DiscoveryInterface
	// Writes is fenced: outside a term every change fails with ErrFenced.
	Writes        kubernetes.Interface
	DynamicWrites dynamic.Interface
	// Lease is for the election alone.
	Lease kubernetes.Interface
	// DryRuns is not fenced, and sends nothing but dry runs.
	DryRuns kubernetes.Interface
	// Own is not fenced, and sends nothing but patches of the own pod and Events in its
	// namespace.
	Own kubernetes.Interface

	contact *contact // nil where the clients were not made by NewClients
	paces   []*pace
}

// NewClients makes the clients. It does not connect.
func NewClients(cfg ClientConfig) (*Clients, error) {
	base, err := restConfig(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Margin == 0 {
		cfg.Margin = DefaultMargin
	}
	clients := &Clients{contact: newContact(base.Host)}

	reads := clients.paced(base)
	if cfg.ReadsFrom != nil {
		reads.Dial = cfg.ReadsFrom(reads.Dial)
	}
	reads.Wrap(clients.contact.wrap)
	reads.Wrap(func(next http.RoundTripper) http.RoundTripper { return spread{next} })
	if cfg.Yields != nil {
		reads.Wrap(func(next http.RoundTripper) http.RoundTripper { return yielding{next, cfg.Yields} })
	}
	reads.Wrap(wrapper(cfg.Wrap))
	if clients.Reads, err = kubernetes.NewForConfig(reads); err != nil {
		return nil, fmt.Errorf("client for reads: %w", err)
	}
	if clients.Metadata, err = metadata.NewForConfig(reads); err != nil {
		return nil, fmt.Errorf("client for metadata: %w", err)
	}

	if clients.Dynamic, err = dynamic.NewForConfig(reads); err != nil {
		return nil, fmt.Errorf("client for resources of any kind: %w", err)
	}
	if clients.Discovery, err = discovery.NewDiscoveryClientForConfig(reads); err != nil {
		return nil, fmt.Errorf("client for discovery: %w", err)
	}

	// The fence is wrapped first and so stands closest to the wire: whatever
	// takes time outside it cannot carry a request past the deadline.
	writes := clients.paced(base)
	writes.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return FencedTransport(next, cfg.Guard, cfg.Margin)
	})
	writes.Wrap(wrapper(cfg.Wrap))
	if clients.Writes, err = kubernetes.NewForConfig(writes); err != nil {
		return nil, fmt.Errorf("client for writes: %w", err)
	}
	if clients.DynamicWrites, err = dynamic.NewForConfig(writes); err != nil {
		return nil, fmt.Errorf("client for writes of any kind: %w", err)
	}

	if clients.Lease, err = kubernetes.NewForConfig(leaseConnection(base)); err != nil {
		return nil, fmt.Errorf("client for the lease: %w", err)
	}

	dry := connection(base)
	dry.Wrap(func(next http.RoundTripper) http.RoundTripper { return dryRuns{next} })
	if clients.DryRuns, err = kubernetes.NewForConfig(dry); err != nil {
		return nil, fmt.Errorf("client for dry runs: %w", err)
	}

	own := connection(base)
	own.Wrap(func(next http.RoundTripper) http.RoundTripper { return ownOnly{next, cfg.Namespace, cfg.PodName} })
	if clients.Own, err = kubernetes.NewForConfig(own); err != nil {
		return nil, fmt.Errorf("client for the own pod: %w", err)
	}
	return clients, nil
}

// NewLeaseClient makes a client for Leases alone, for a process that needs no
// other. It does not connect.
func NewLeaseClient(cfg ClientConfig) (coordinationv1client.LeasesGetter, error) {
	base, err := restConfig(cfg)
	if err != nil {
		return nil, err
	}
	client, err := coordinationv1client.NewForConfig(leaseConnection(base))
	if err != nil {
		return nil, fmt.Errorf("client for the lease: %w", err)
	}
	return client, nil
}

// leaseConnection speaks HTTP/1.1: a request that is given up closes its
// connection, and the next attempt dials. Over HTTP/2 attempts would be sent into
// the same dead connection until its health check notices, long after the lease.
func leaseConnection(base *rest.Config) *rest.Config {
	lease := connection(base)
	lease.QPS = -1
	lease.NextProtos = []string{"http/1.1"}
	return lease
}

func restConfig(cfg ClientConfig) (*rest.Config, error) {
	var base *rest.Config
	var err error
	if cfg.Kubeconfig == "" {
		base, err = rest.InClusterConfig()
	} else {
		base, err = clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("how to reach the API server: %w", err)
	}
	base.ContentType = runtime.ContentTypeProtobuf
	base.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	base.QPS, base.Burst = cfg.QPS, cfg.Burst
	if base.QPS <= 0 {
		base.QPS = -1
	}
	if cfg.UserAgent != "" {
		base.UserAgent = cfg.UserAgent
	}
	return base, nil
}

// connection copies base for a client that dials for itself: client-go shares
// connections among configurations whose dialers are the same.
func connection(base *rest.Config) *rest.Config {
	cfg := rest.CopyConfig(base)
	cfg.Dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	return cfg
}

func wrapper(wrap func(http.RoundTripper) http.RoundTripper) func(http.RoundTripper) http.RoundTripper {
	if wrap == nil {
		return func(next http.RoundTripper) http.RoundTripper { return next }
	}
	return wrap
}
