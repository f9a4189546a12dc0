package lab

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// plan is where everything of a lab will be, decided before anything starts.
type plan struct {
	opts Options

	adminToken, kwokToken string
	apiserver, kwok       int          // ports
	kubeEtcd              member       // the API server's
	etcd                  []member     // the mirror's
	replicas              []int        // ports
	gossip                []int        // ports of the replicas, TCP and UDP
	rest                  []int        // ports of the replicas' /ws/v1
	admission             []int        // ports of the replicas' webhooks
	proxies               []proxyPorts // by replica; none without Options.Proxies
}

// member of an etcd cluster.
type member struct {
	name, kind   string
	client, peer int // ports
}

func (m member) url() string     { return "http://" + address(m.client) }
func (m member) peerURL() string { return "http://" + address(m.peer) }

func newPlan(opts Options) (*plan, error) {
	count := 4 + 2*opts.EtcdMembers + 4*opts.Replicas
	if opts.Proxies {
		count += opts.Replicas * (3 + opts.EtcdMembers)
	}
	ports, err := freePorts(count)
	if err != nil {
		return nil, err
	}
	next := func() int { p := ports[0]; ports = ports[1:]; return p }
	p := &plan{
		opts: opts, adminToken: newToken(), kwokToken: newToken(), apiserver: next(), kwok: next(),
		kubeEtcd: member{name: "kubernetes-etcd", kind: KindKubernetesEtcd, client: next(), peer: next()},
	}
	for i := range opts.EtcdMembers {
		p.etcd = append(p.etcd, member{
			name: "etcd-" + strconv.Itoa(i), kind: KindEtcd, client: next(), peer: next(),
		})
	}
	for range opts.Replicas {
		p.replicas, p.gossip, p.rest = append(p.replicas, next()), append(p.gossip, next()), append(p.rest, next())
		p.admission = append(p.admission, next())
		if opts.Proxies {
			at := proxyPorts{apiserver: next(), lease: next(), gossip: next()}
			for range p.etcd {
				at.etcd = append(at.etcd, next())
			}
			p.proxies = append(p.proxies, at)
		}
	}
	return p, nil
}

func (p *plan) path(elem ...string) string {
	return filepath.Join(append([]string{p.opts.Dir}, elem...)...)
}

func (p *plan) logPath(name string) string { return p.path("logs", name+".log") }

func (p *plan) apiserverURL() string { return "https://" + address(p.apiserver) }

// etcdProcess describes a member of an etcd cluster.
func (p *plan) etcdProcess(m member, all []member) Process {
	var cluster []string
	for _, o := range all {
		cluster = append(cluster, o.name+"="+o.peerURL())
	}
	data := p.path("data", m.name)
	args := []string{
		p.opts.tool("etcd"),
		"--name=" + m.name,
		"--data-dir=" + data,
		"--listen-client-urls=" + m.url(), "--advertise-client-urls=" + m.url(),
		"--listen-peer-urls=" + m.peerURL(), "--initial-advertise-peer-urls=" + m.peerURL(),
		"--initial-cluster=" + strings.Join(cluster, ","),
		"--initial-cluster-token=" + filepath.Base(p.opts.Dir),
		// No compaction: a verdict reads the whole history.
		"--quota-backend-bytes=" + strconv.Itoa(8<<30),
		"--log-level=warn",
	}
	if m.kind == KindKubernetesEtcd {
		// The cluster under test is thrown away with the lab, and what is
		// killed here are processes, never the kernel. The mirror's etcd keeps
		// its fsync, for its durability is part of what is measured.
		args = append(args, "--unsafe-no-fsync")
	}
	return Process{
		Name: m.name, Kind: m.kind, HTTP: m.url(), Log: p.logPath(m.name), DataDir: data, Args: args,
	}
}

// auditPolicy keeps what a verdict needs: who asked to create, bind or delete
// pods, or to write the Lease, and what came of it.
//
//go:embed audit-policy.yaml
var auditPolicy []byte

// writeAPIServerFiles writes what the API server reads at start.
func (p *plan) writeAPIServerFiles() error {
	tokens := fmt.Sprintf("%s,lab-admin,lab-admin,system:masters\n%s,lab-kwok,lab-kwok,system:masters\n",
		p.adminToken, p.kwokToken)
	if err := os.WriteFile(p.path("pki", "tokens.csv"), []byte(tokens), 0o600); err != nil {
		return err
	}
	return os.WriteFile(p.path("audit-policy.yaml"), auditPolicy, 0o600)
}

// apiserverName is what the API server's process is called.
const apiserverName = "kube-apiserver"

func (p *plan) apiserverProcess(keys *pki) Process {
	args := []string{
		p.opts.tool("kube-apiserver"),
		"--etcd-servers=" + p.kubeEtcd.url(),
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(p.apiserver),
		"--tls-cert-file=" + keys.servingCert, "--tls-private-key-file=" + keys.servingKey,
		"--cert-dir=" + p.path("pki"),
		"--token-auth-file=" + p.path("pki", "tokens.csv"),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + keys.accountKey,
		"--service-account-signing-key-file=" + keys.accountKey,
		"--service-cluster-ip-range=10.255.0.0/16",
		// Nobody runs who would create a service account in each namespace, or
		// lift the taint from a node that has become ready.
		"--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
		// A loopback address is refused as an endpoint of the kubernetes service.
		// Another is needed where there is no route to anywhere; nobody uses it.
		"--endpoint-reconciler-type=none", "--external-hostname=127.0.0.1", "--advertise-address=192.0.2.1",
		// Nobody routes the address of a Service either: a webhook behind one is asked at its
		// endpoints.
		"--enable-aggregator-routing=true",
		"--max-requests-inflight=2000", "--max-mutating-requests-inflight=2000",
		"--delete-collection-workers=8",
		"--event-ttl=15m",
		// As for etcd: the history stays readable for as long as a lab is used.
		"--etcd-compaction-interval=2h",
		"--etcd-count-metric-poll-period=10m",
	}
	if p.opts.PodGroups {
		args = append(args, "--feature-gates=GenericWorkload=true", "--runtime-config=scheduling.k8s.io/v1beta1=true")
	}
	if p.opts.Audit {
		args = append(args,
			"--audit-policy-file="+p.path("audit-policy.yaml"),
			"--audit-log-path="+p.path("audit.log"),
			"--audit-log-maxsize=0", // one file, never rotated
			"--audit-log-mode=blocking")
	}
	return Process{
		Name: apiserverName, Kind: KindAPIServer, HTTP: p.apiserverURL(),
		Log: p.logPath(apiserverName), Args: args, Env: collectLess,
	}
}

// collectLess gives the control plane memory for CPU: it shares two cores with what
// is measured, and spends half of its part on collecting garbage otherwise.
var collectLess = []string{"GOGC=400"}

// kwokStages is how fake nodes and pods live.
//
//go:embed stages.yaml
var kwokStages []byte

func (p *plan) writeKwokFiles(keys *pki) error {
	if err := p.writeKubeconfig(p.path("pki", "kwok.kubeconfig"), keys, "lab-kwok", p.kwokToken); err != nil {
		return err
	}
	return os.WriteFile(p.path("kwok.yaml"), kwokStages, 0o600)
}

func (p *plan) kwokProcess() Process {
	return Process{
		Name: "kwok", Kind: KindKwok, HTTP: "http://" + address(p.kwok), Log: p.logPath("kwok"),
		Env: collectLess,
		Dir: p.opts.Dir,
		Args: []string{
			p.opts.tool("kwok"),
			"--kubeconfig=" + p.path("pki", "kwok.kubeconfig"),
			"--config=kwok.yaml", // relative to Dir: a comma in a path would make it two
			"--server-address=" + address(p.kwok),
			"--v=WARN", // a line for every pod otherwise
		},
	}
}

func (p *plan) writeKubeconfig(path string, keys *pki, user, token string) error {
	return writeKubeconfig(path, p.apiserverURL(), keys, user, token)
}

func writeKubeconfig(path, server string, keys *pki, user, token string) error {
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{
			"lab": {Server: server, CertificateAuthorityData: keys.caPEM},
		},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{user: {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{"lab": {Cluster: "lab", AuthInfo: user}},
		CurrentContext: "lab",
	}, path)
}

// adminConfig is a client configuration without a limit on its rate.
func adminConfig(kubeconfig string) (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	cfg.QPS = -1
	cfg.UserAgent = "understudy-lab"
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	return cfg, nil
}

// answers200 makes a check of a URL for until.
func answers200(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		body, err := get(ctx, client, url)
		if err != nil {
			return fmt.Errorf("%w %s", err, body)
		}
		return nil
	}
}

// get returns the body, and an error as well unless the status is 200.
func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return body, err
}
