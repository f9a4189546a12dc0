package config

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"go.yaml.in/yaml/v3"
)

// APIVersion and Kind are what the head of a configuration file must say.
const (
	APIVersion = "understudy.dev/v1alpha1"
	Kind       = "Config"
)

// Config is the configuration of one replica. Durations are written in the
// file as strings such as "2.5s".
type Config struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`

	// Identity is the name of this replica, unique among the replicas. Empty
	// selects POD_NAME, then the host name. The holder identity in the Lease is
	// this name, an underscore, and a token that is new with every process.
	Identity string `yaml:"identity"`
	// Namespace is where the replicas run, with their Lease and their own pods. Empty selects POD_NAMESPACE, then DefaultNamespace.
	Namespace string `yaml:"namespace"`
	// SchedulerName is the spec.schedulerName of the pods to schedule.
	SchedulerName string `yaml:"schedulerName"`

	// Template is the version of the pod template that this replica was made from: the
	// value of its label pod-template-hash or controller-revision-hash. Empty selects
	// POD_TEMPLATE.
	Template string `yaml:"template"`

	Kubernetes  Kubernetes  `yaml:"kubernetes"`
	Election    Election    `yaml:"election"`
	Etcd        Etcd        `yaml:"etcd"`
	Mirror      Mirror      `yaml:"mirror"`
	Engine      Engine      `yaml:"engine"`
	Binder      Binder      `yaml:"binder"`
	Placeholder Placeholder `yaml:"placeholder"`
	Workload    Workload    `yaml:"workload"`
	Managers    []Manager   `yaml:"managers"`
	HTTP        HTTP        `yaml:"http"`
	REST        REST        `yaml:"rest"`
	Admission   Admission   `yaml:"admission"`
	Gossip      Gossip      `yaml:"gossip"`
	History     History     `yaml:"history"`
	Log         Log         `yaml:"log"`
}

// Kubernetes says how to reach the API server.
type Kubernetes struct {
	// Kubeconfig is the path of a kubeconfig file; empty means the service
	// account of the pod.
	Kubeconfig string `yaml:"kubeconfig"`
	// QPS and Burst bound the requests of this replica. A QPS of zero leaves
	// the bounding to the API server's own priority and fairness.
	QPS   float32 `yaml:"qps"`
	Burst int     `yaml:"burst"`
}

// Election tunes the Lease.
type Election struct {
	// LeaseName is the name of the Lease in Namespace.
	LeaseName string `yaml:"leaseName"`
	// LeaseDuration is how long the others wait for a lead that fell silent.
	LeaseDuration time.Duration `yaml:"leaseDuration"`
	// MaxLeaseDuration is how far a lead whose renewals are slow may stretch
	// LeaseDuration, and RenewDeadline with it; no more than LeaseDuration means never.
	MaxLeaseDuration time.Duration `yaml:"maxLeaseDuration"`
	// RenewDeadline is how long a lead goes on without a renewal.
	RenewDeadline time.Duration `yaml:"renewDeadline"`
	// RetryPeriod is the time between two renewals or attempts.
	RetryPeriod time.Duration `yaml:"retryPeriod"`
}

// Etcd says how to reach the etcd that holds the mirror.
type Etcd struct {
	Endpoints []string `yaml:"endpoints"`
	// Prefix is the key under which everything is kept; it begins with a slash.
	// Two clusters that share an etcd need two prefixes.
	Prefix string `yaml:"prefix"`
	TLS    TLS    `yaml:"tls"`
	// Username and PasswordFile go together.
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"passwordFile"`

	DialTimeout    time.Duration `yaml:"dialTimeout"`
	RequestTimeout time.Duration `yaml:"requestTimeout"`
}

// TLS names the files for a TLS connection: the certificate authority of the
// server, and a certificate and key of the client.
type TLS struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Enabled reports whether any file is named.
func (t TLS) Enabled() bool { return t != TLS{} }

// The mirror policies.
const (
	// Available keeps scheduling while etcd is away and flushes the debt later.
	Available = "available"
	// Strict holds every effect back until it is durable.
	Strict = "strict"
)

// Mirror tunes the lead's writes of application and task state.
type Mirror struct {
	Policy string `yaml:"policy"`
	// Patience is how long effects wait for a slow etcd before the policy
	// "available" lets them go ahead of durability.
	Patience time.Duration `yaml:"patience"`
	// MaxOps and MaxBytes bound one transaction.
	MaxOps   int `yaml:"maxOps"`
	MaxBytes int `yaml:"maxBytes"`
}

// Engine configures the scheduling engine.
type Engine struct {
	// DefaultsConfigMap, then ConfigMap, hold the queue configuration; the
	// second overrides the first, and both are reloaded when they change.
	DefaultsConfigMap string `yaml:"defaultsConfigMap"`
	ConfigMap         string `yaml:"configMap"`
	// ConfigMapNamespace is where they are; empty selects Namespace.
	ConfigMapNamespace string `yaml:"configMapNamespace"`
	LogLevel           string `yaml:"logLevel"`
}

// Binder tunes the binding of pods.
type Binder struct {
	// Workers is how many bindings are in flight at a time: the pods that come in a
	// second, times the seconds that the API server takes for an answer. The default
	// keeps up with 20 pods a second where an answer takes five.
	Workers int `yaml:"workers"`
}

// Placeholder configures the pods that hold the place of a gang.
type Placeholder struct {
	Image string `yaml:"image"`
	// RunAsUser, RunAsGroup and FSGroup are as whom they run; zero leaves it to the
	// image and the namespace.
	RunAsUser  int `yaml:"runAsUser"`
	RunAsGroup int `yaml:"runAsGroup"`
	FSGroup    int `yaml:"fsGroup"`
}

// Workload says how pods describe themselves.
type Workload struct {
	// UserLabel is the key of the label that names the user of a pod.
	UserLabel string `yaml:"userLabel"`
}

// Manager enables an app manager. A pod that several of them claim belongs to the first
// in the list.
type Manager struct {
	// Name is unique, and what the records of the manager's applications carry.
	Name string `yaml:"name"`
	// Type is what kind of manager it is; empty for the one that is called like Name.
	Type string `yaml:"type"`
	// Settings are the manager's own: see Decode.
	Settings yaml.Node `yaml:"settings"`
}

// HTTP configures the endpoints for probes, metrics and status.
type HTTP struct {
	// Address is where to listen. The default is a free port of the loopback
	// interface: whoever wants to be reached says where.
	Address string `yaml:"address"`
	// Profiling serves /debug/pprof. It shows the memory of the process to
	// whoever can reach the address.
	Profiling bool `yaml:"profiling"`
}

// REST configures YuniKorn's REST interface, /ws/v1, which tells whoever can reach it of
// everybody's applications.
type REST struct {
	// Address is where to listen; empty means not at all. The default is YuniKorn's port on
	// the loopback interface: whoever wants to be reached says where. Replicas pass requests
	// on to the lead at the host at which gossip knows it, so this must be reachable there.
	Address string    `yaml:"address"`
	TLS     ServerTLS `yaml:"tls"`
	// TokenReview lets those read alone whose token the API server knows, and whom it lets get the
	// path: see package access. It needs TLS, but on the loopback interface.
	TokenReview bool `yaml:"tokenReview"`
}

// ServerTLS names the files for serving over TLS. All replicas have to be configured alike:
// they are each other's clients.
type ServerTLS struct {
	// Cert and Key are of the server, and of this replica as a client of others. Both are
	// read again when they are used.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// CA is the authority of the other replicas' certificates; empty selects the system's.
	CA string `yaml:"ca"`
	// ClientCA is the authority of clients' certificates, those of replicas included. Empty
	// means that everybody may read.
	ClientCA string `yaml:"clientCA"`
	// ServerName is the name in the certificates of the other replicas.
	ServerName string `yaml:"serverName"`
}

// Enabled reports whether any field is set.
func (t ServerTLS) Enabled() bool { return t != ServerTLS{} }

// The modes of admission.
const (
	// AdmissionWebhook has the API server ask a replica about pods and workloads.
	AdmissionWebhook = "webhook"
	// AdmissionPolicy has it decide by itself, by policies that the replicas write.
	AdmissionPolicy = "policy"
)

// Admission configures who has pods scheduled here that do not ask for it, and who they are
// accounted to. What becomes of which pods, YuniKorn's ConfigMaps say, under their keys
// admissionController.*
type Admission struct {
	// Mode is AdmissionWebhook or AdmissionPolicy; empty means that somebody else does it, or
	// nobody.
	Mode string `yaml:"mode"`
	// Address is where to listen for the API server, in the mode webhook.
	Address string `yaml:"address"`
	// Service is the name of the Service by which the API server reaches that address.
	Service string `yaml:"service"`
	// URLs are where it reaches each replica instead, such as https://host:9089. It asks them
	// in turn.
	URLs []string `yaml:"urls"`
	// FailurePolicy is what becomes of a pod about which no replica decides: Ignore lets it
	// pass as it is, Fail refuses it.
	FailurePolicy string `yaml:"failurePolicy"`
	// ServiceAccount is that of the replicas, whose own pods are not looked at.
	ServiceAccount string `yaml:"serviceAccount"`
	// Secret is the name of the one with the authorities that the replicas make.
	Secret string `yaml:"secret"`
	// TLS names files with a certificate for the server, instead of one that the replicas
	// make, and with the authority by which the API server knows it. Without an authority
	// somebody else writes the caBundle of the webhooks.
	TLS TLS `yaml:"tls"`
	// Annotations are those of the webhooks' configurations, for whoever does so.
	Annotations map[string]string `yaml:"annotations"`
	// Workloads are the custom resources whose pods are accounted to who creates the resource,
	// by the names of the presets of app managers. Their operators have to be named in
	// admissionController.accessControl.externalUsers: they create the pods.
	Workloads []string `yaml:"workloads"`
}

// Gossip configures how replicas tell each other how they are. Without it they
// elect and follow all the same; a hand-over then has no successor in mind.
type Gossip struct {
	// Address is host:port to listen on, TCP and UDP; empty means no gossip.
	Address string `yaml:"address"`
	// Advertise is host:port at which the others reach this replica; empty means
	// the environment variable POD_IP with the port of Address, or Address.
	Advertise string `yaml:"advertise"`
	// Peers are host:port of other replicas: addresses, or names in DNS of which
	// every address is tried.
	Peers []string `yaml:"peers"`
	// KeyringFile holds keys for encryption, one a line in base64, the one to
	// send with first; it is read again when it changes. Empty means none.
	KeyringFile string `yaml:"keyringFile"`
}

// History says how much is remembered of what is over, from one lead to the next.
type History struct {
	// Applications is how many applications that have ended are remembered at most,
	// ApplicationAge for how long; what is older is forgotten when anything changes.
	Applications   int           `yaml:"applications"`
	ApplicationAge time.Duration `yaml:"applicationAge"`
	// Events is how many events of the scheduling core are kept at most, EventAge for how long.
	Events   int           `yaml:"events"`
	EventAge time.Duration `yaml:"eventAge"`
}

// Log configures the log on standard error.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `yaml:"level"`
	// Format is json or text.
	Format string `yaml:"format"`
}

// DefaultNamespace is where the replicas run if nothing else is said.
const DefaultNamespace = "understudy-system"

// Default returns the configuration of an empty file. It is valid but for the
// etcd endpoints, which nobody can guess.
func Default() Config {
	return Config{
		APIVersion:    APIVersion,
		Kind:          Kind,
		SchedulerName: "yunikorn",
		Kubernetes:    Kubernetes{QPS: 2000, Burst: 4000},
		Election: Election{
			LeaseName:        "understudy",
			LeaseDuration:    4 * time.Second,
			MaxLeaseDuration: 15 * time.Second,
			RenewDeadline:    2400 * time.Millisecond,
			RetryPeriod:      500 * time.Millisecond,
		},
		Etcd: Etcd{
			Prefix:         "/understudy",
			DialTimeout:    5 * time.Second,
			RequestTimeout: 2 * time.Second,
		},
		Mirror: Mirror{
			Policy:   Available,
			Patience: time.Second,
			MaxOps:   maxTxnOps,
			MaxBytes: maxTxnBytes,
		},
		Engine: Engine{
			DefaultsConfigMap: "yunikorn-defaults",
			ConfigMap:         "yunikorn-configs",
			LogLevel:          "warn",
		},
		Binder:      Binder{Workers: 128},
		Placeholder: Placeholder{Image: "registry.k8s.io/pause:3.10"},
		Workload:    Workload{UserLabel: "yunikorn.apache.org/username"},
		Managers:    []Manager{{Name: "general"}},
		HTTP:        HTTP{Address: "127.0.0.1:0"},
		REST:        REST{Address: "127.0.0.1:9080"},
		History:     History{Applications: 1000, ApplicationAge: 72 * time.Hour, Events: 10_000, EventAge: 24 * time.Hour},
		Log:         Log{Level: "info", Format: "json"},
		Admission: Admission{
			Address: "127.0.0.1:9089", Service: "yunikorn-admission-controller-service", FailurePolicy: "Ignore",
			ServiceAccount: "understudy", Secret: "understudy-admission-certificates",
		},
	}
}

// Load reads the file at path and fills in what only the environment knows.
func Load(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	cfg, err := Parse(data)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return cfg.Resolve(os.Getenv, os.Hostname)
}

// Resolve returns c with an identity, a namespace and an address for gossip, taken
// where the file left them out from the environment variables POD_NAME,
// POD_NAMESPACE, POD_IP and POD_TEMPLATE, then from the host name and DefaultNamespace.
func (c Config) Resolve(getenv func(string) string, hostname func() (string, error)) (Config, error) {
	if c.Identity == "" {
		c.Identity = getenv("POD_NAME")
	}
	if c.Identity == "" {
		name, err := hostname()
		if err != nil {
			return c, fmt.Errorf("configuration: identity is not set and the host has no name: %w", err)
		}
		c.Identity = name
	}
	if c.Namespace == "" {
		c.Namespace = getenv("POD_NAMESPACE")
	}
	if c.Namespace == "" {
		c.Namespace = DefaultNamespace
	}
	if c.Engine.ConfigMapNamespace == "" {
		c.Engine.ConfigMapNamespace = c.Namespace
	}
	if c.Template == "" {
		c.Template = getenv("POD_TEMPLATE")
	}
	if ip := getenv("POD_IP"); c.Gossip.Address != "" && c.Gossip.Advertise == "" && ip != "" {
		_, port, err := net.SplitHostPort(c.Gossip.Address)
		if err != nil {
			return c, c.Validate() // which says it better
		}
		c.Gossip.Advertise = net.JoinHostPort(ip, port)
	}
	return c, c.Validate()
}

// Reachable returns the address at which others reach the endpoints of HTTP: where
// these listen on all interfaces, that of gossip with their port.
func (c Config) Reachable() string {
	host, port, err := net.SplitHostPort(c.HTTP.Address)
	if err != nil || !everywhere(host) {
		return c.HTTP.Address
	}
	for _, address := range []string{c.Gossip.Advertise, c.Gossip.Address} {
		if host, _, err := net.SplitHostPort(address); err == nil && !everywhere(host) {
			return net.JoinHostPort(host, port)
		}
	}
	return c.HTTP.Address
}

// everywhere reports whether to listen on host is to listen on all interfaces.
func everywhere(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}
