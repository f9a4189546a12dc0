package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/serve"
)

// identity is whom the manifests let the replicas be.
type identity struct {
	namespace, serviceAccount string
	template                  v1.PodTemplateSpec // of the Deployment
}

// identityIn finds it in the Deployment of the replicas.
func identityIn(objects []*unstructured.Unstructured) (identity, error) {
	for _, o := range objects {
		if o.GetKind() != "Deployment" {
			continue
		}
		raw, err := o.MarshalJSON()
		if err != nil {
			return identity{}, err
		}
		var d appsv1.Deployment
		if err := json.Unmarshal(raw, &d); err != nil {
			return identity{}, err
		}
		if account := d.Spec.Template.Spec.ServiceAccountName; account != "" {
			return identity{namespace: d.Namespace, serviceAccount: account, template: d.Spec.Template}, nil
		}
	}
	return identity{}, errors.New("the manifests hold no Deployment with a service account")
}

// replicaName is the ith replica's, and the beginning of its holder identity.
func replicaName(i int) string { return "understudy-" + strconv.Itoa(i) }

// shippedConfig returns the configuration file in the manifests, so that the lab
// runs what is shipped but for the addresses.
func shippedConfig(objects []*unstructured.Unstructured) ([]byte, error) {
	for _, o := range objects {
		if o.GetKind() != "ConfigMap" {
			continue
		}
		if file, ok, _ := unstructured.NestedString(o.Object, "data", "config.yaml"); ok {
			return []byte(file), nil
		}
	}
	return nil, errors.New("the manifests hold no ConfigMap with a config.yaml")
}

// writeReplicaFiles writes a kubeconfig with a token of the service account, and
// each replica's configuration, made from the shipped one.
func (l *Lab) writeReplicaFiles(ctx context.Context, keys *pki, who identity, shipped []byte) error {
	week := int64((7 * 24 * time.Hour).Seconds())
	token, err := l.client.CoreV1().ServiceAccounts(who.namespace).CreateToken(ctx, who.serviceAccount,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &week}},
		metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("token of the service account %s: %w", who.serviceAccount, err)
	}
	for _, dir := range []string{l.path("config"), l.path("failpoints"), l.path("termination")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	// For whoever wants to be what the replicas are, past all proxies.
	err = writeKubeconfig(l.path("pki", "understudy.kubeconfig"), l.plan.apiserverURL(), keys, who.serviceAccount, token.Status.Token)
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.keyring(), []byte(newKeyring()), 0o600); err != nil {
		return err
	}
	for i := range l.plan.replicas {
		if err := l.createReplicaPod(ctx, i, who); err != nil {
			return fmt.Errorf("pod of %s: %w", replicaName(i), err)
		}
		kubeconfig := l.path("pki", replicaName(i)+".kubeconfig")
		err := writeKubeconfig(kubeconfig, l.plan.apiserverOf(i), keys, who.serviceAccount, token.Status.Token)
		if err != nil {
			return err
		}
		if err := l.writeReplicaConfig(i, who, kubeconfig, shipped); err != nil {
			return fmt.Errorf("configuration of %s: %w", replicaName(i), err)
		}
	}
	return nil
}

// createReplicaPod makes the Pod object that a replica has in a cluster, which it
// marks to know that it has caught up. No node runs it: the replica is a process
// of the lab.
func (l *Lab) createReplicaPod(ctx context.Context, i int, who identity) error {
	pod := &v1.Pod{ObjectMeta: who.template.ObjectMeta, Spec: *who.template.Spec.DeepCopy()}
	pod.Namespace, pod.Name, pod.Spec.SchedulerName = who.namespace, replicaName(i), "lab"
	_, err := l.client.CoreV1().Pods(who.namespace).Create(ctx, pod, metav1.CreateOptions{})
	return err
}

func (l *Lab) writeReplicaConfig(i int, who identity, kubeconfig string, shipped []byte) error {
	var endpoints []any
	for _, url := range l.plan.etcdOf(i) {
		endpoints = append(endpoints, url)
	}
	file := map[string]any{}
	if err := yaml.Unmarshal(shipped, &file); err != nil {
		return err
	}
	file["identity"], file["namespace"] = replicaName(i), who.namespace
	set(file, kubeconfig, "kubernetes", "kubeconfig")
	set(file, endpoints, "etcd", "endpoints")
	set(file, address(l.plan.replicas[i]), "http", "address")
	set(file, true, "http", "profiling")
	set(file, address(l.plan.rest[i]), "rest", "address")
	set(file, address(l.plan.gossip[i]), "gossip", "address")
	var peers []any
	for other := range l.plan.gossip {
		peers = append(peers, l.plan.gossipOf(other))
	}
	set(file, l.plan.gossipOf(i), "gossip", "advertise")
	set(file, peers, "gossip", "peers")
	set(file, l.keyring(), "gossip", "keyringFile")
	l.configureAdmission(i, file)
	if len(l.plan.opts.Managers) > 0 {
		file["managers"] = l.plan.opts.Managers
	}
	if l.plan.opts.Configure != nil {
		l.plan.opts.Configure(replicaName(i), file)
	}
	raw, err := yaml.Marshal(file)
	if err != nil {
		return err
	}
	cfg, err := config.Parse(raw)
	if err != nil {
		return err
	}
	err = updateState(l.dir, func(s *State) {
		s.Namespace, s.Lease, s.Prefix = cfg.Namespace, cfg.Election.LeaseName, cfg.Etcd.Prefix
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.replicaConfig(i), raw, 0o600); err != nil {
		return err
	}
	if point := l.plan.opts.Failpoints[replicaName(i)]; point != "" {
		return os.WriteFile(l.failpoint(replicaName(i)), []byte(point), 0o600)
	}
	return nil
}

// set puts a value into a nested map, whatever was there.
func set(m map[string]any, value any, section, field string) {
	inner, ok := m[section].(map[string]any)
	if !ok {
		inner = map[string]any{}
		m[section] = inner
	}
	inner[field] = value
}

// keyring is the file with the key of the replicas' gossip.
func (l *Lab) keyring() string { return l.path("pki", "gossip.keys") }

func (l *Lab) replicaConfig(i int) string {
	return l.path("config", replicaName(i)+".yaml")
}

func (l *Lab) replicaProcess(i int) Process {
	return Process{
		Name: replicaName(i), Kind: KindReplica,
		HTTP: "http://" + address(l.plan.replicas[i]), REST: "http://" + address(l.plan.rest[i]), Log: l.plan.logPath(replicaName(i)),
		Args: []string{l.plan.opts.Binary, "run", "--config", l.replicaConfig(i)},
		Env:  l.environment(replicaName(i), l.plan.opts.Env),

		Supervised: l.plan.opts.Supervise,
	}
}

// environment returns what a replica has in its environment, given what it was
// asked to have.
func (l *Lab) environment(replica string, asked []string) []string {
	return append([]string{
		"UNDERSTUDY_FAILPOINT_FILE=" + l.failpoint(replica), "POD_NAME=" + replica,
		"UNDERSTUDY_TERMINATION_LOG=" + l.terminationLog(replica),
	}, asked...)
}

// failpoint is the file that arms a replica that was built with failpoints.
func (l *Lab) failpoint(replica string) string { return l.path("failpoints", replica) }

// terminationLog is the file whose content a kubelet would report when the
// container of the replica has ended.
func (l *Lab) terminationLog(replica string) string { return l.path("termination", replica) }

// Replica is one replica of the lab.
type Replica struct {
	lab  *Lab
	Name string
}

// Replica returns the replica called name, which need not run.
func (l *Lab) Replica(name string) Replica { return Replica{lab: l, Name: name} }

// Replicas returns all of them, in order.
func (l *Lab) Replicas() ([]Replica, error) {
	state, err := l.State()
	if err != nil {
		return nil, err
	}
	var all []Replica
	for _, name := range state.Replicas() {
		all = append(all, l.Replica(name))
	}
	return all, nil
}

// Process says what runs it now.
func (r Replica) Process() (Process, error) { return r.lab.process(r.Name) }

// TerminationMessage is what a kubelet would read when the replica's container has
// ended.
func (r Replica) TerminationMessage() (string, error) {
	raw, err := os.ReadFile(r.lab.terminationLog(r.Name))
	return string(raw), err
}

// Get fetches a path such as /metrics. The body is returned even with an error
// if the answer is not 200.
func (r Replica) Get(ctx context.Context, path string) ([]byte, error) {
	p, err := r.Process()
	if err != nil {
		return nil, err
	}
	// A connection of its own: the one before may lead to a process that died.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return get(ctx, client, p.HTTP+path)
}

// REST asks YuniKorn's REST interface of the replica, with a path such as /ws/v1/partitions.
// The status is not looked at. The caller closes the body.
func (r Replica) REST(ctx context.Context, path string) (*http.Response, error) {
	p, err := r.Process()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.REST+path, nil)
	if err != nil {
		return nil, err
	}
	req.Close = true // the next one may be another process
	return http.DefaultClient.Do(req)
}

// Status is what the replica says about itself.
func (r Replica) Status(ctx context.Context) (serve.Status, error) {
	var s serve.Status
	raw, err := r.Get(ctx, "/statusz")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(raw, &s)
}

// Ready asks the replica whether it could take over.
func (r Replica) Ready(ctx context.Context) error {
	body, err := r.Get(ctx, "/readyz")
	if err != nil {
		return fmt.Errorf("%s: %w %s", r.Name, err, strings.TrimSpace(string(body)))
	}
	return nil
}

// ErrNoLeader says that nobody holds the Lease.
var ErrNoLeader = errors.New("no replica holds the lease")

// Leader returns the name of the replica that holds the Lease, which may be dead.
func (l *Lab) Leader(ctx context.Context) (string, error) {
	state, err := l.State()
	if err != nil {
		return "", err
	}
	lease, err := l.client.CoordinationV1().Leases(state.Namespace).Get(ctx, state.Lease, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	holder := ""
	if lease.Spec.HolderIdentity != nil {
		holder = *lease.Spec.HolderIdentity
	}
	for _, name := range state.Replicas() {
		if holder == name || strings.HasPrefix(holder, name+"_") {
			return name, nil
		}
	}
	if holder != "" {
		return "", fmt.Errorf("the lease is held by %q, which is no replica of this lab", holder)
	}
	return "", ErrNoLeader
}

// WaitLeader waits until a replica other than those named holds the Lease and
// says that it leads.
func (l *Lab) WaitLeader(ctx context.Context, except ...string) (string, error) {
	var leader string
	err := until(ctx, nil, "a lead", func(ctx context.Context) error {
		name, err := l.Leader(ctx)
		if err != nil {
			return err
		}
		for _, e := range except {
			if name == e {
				return fmt.Errorf("%s holds the lease", name)
			}
		}
		status, err := l.Replica(name).Status(ctx)
		if err != nil {
			return err
		}
		if status.Role != serve.Lead {
			return fmt.Errorf("%s holds the lease and is %s", name, status.Role)
		}
		leader = name
		return nil
	})
	return leader, err
}
