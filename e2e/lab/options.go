package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Options says what to start; begin with what Default returns. An empty string
// and zero EtcdMembers mean the default.
type Options struct {
	// Dir holds everything the lab writes. It must be absent, empty, or what
	// is left of an earlier lab.
	Dir string
	// Root is the repository, where bin/ and deploy/ are looked for. Empty means
	// the one around the working directory, or around this executable.
	Root string
	// Detached leaves the processes running when this one ends.
	Detached bool
	// Replicas of Understudy. Without any, the lab is only a cluster.
	Replicas int
	// Nodes that kwok plays.
	Nodes int
	// Node is the capacity of each of them.
	Node NodeSize
	// Queues is the queue configuration, a queues.yaml. Empty means a quota on
	// root.default that lets its pods have all that the nodes offer.
	Queues string
	// Managers are the app managers of the replicas, as in the field `managers` of a
	// configuration file. The replicas are allowed what these need. Empty means those of
	// the shipped configuration.
	Managers []any
	// CRDs are files, or directories of files, with kinds that exist before a replica is
	// started.
	CRDs []string
	// EtcdMembers of the mirror's etcd: 1, 3 or 5.
	EtcdMembers int
	// Audit writes DIR/audit.log, the API server's own account of every pod,
	// binding and lease that was written, by whom and with what result.
	Audit bool
	// PodGroups has the API server serve the PodGroups of scheduling.k8s.io, and take pods
	// that name one: neither is so by default.
	PodGroups bool
	// Admission is the mode in which the replicas do what YuniKorn's admission controller
	// does: webhook or policy. Empty means that they do not.
	Admission string
	// NoFence leaves the API server without the admission policies that refuse
	// what was decided in a term that is over.
	NoFence bool
	// Binary is the replica's executable; empty means ROOT/bin/understudy, but see
	// Armable.
	Binary string
	// Supervise runs every replica below `understudy supervise`, as it is deployed:
	// one that dies gives up the Lease at once. Without it the Lease has to expire.
	Supervise bool
	// Keeper is the executable whose command `keep` stands behind each replica of
	// a detached lab; empty means ROOT/bin/lab.
	Keeper string
	// Env is added to the environment of every replica, after the OTEL_*
	// variables of this process.
	Env []string
	// Armable replicas have failpoints, which are told what to do while they run. They
	// are ROOT/bin/understudy-failpoints unless Binary says otherwise.
	Armable bool
	// Failpoints says, by replica, at which failpoint it dies, once. It takes a
	// Binary that was built with them.
	Failpoints map[string]string
	// Proxies stand between each replica and all that it talks to, so that Fault
	// can break its connections. They live in this process: not for a detached lab.
	Proxies bool
	// LeaseProxies stand behind those of Proxies that lead to the API server, and tell
	// one request from another: see LeaseWrites.
	LeaseProxies bool
	// Configure may change a replica's configuration before it is written.
	Configure func(replica string, config map[string]any)
	// SkipWait returns before the replicas are ready and one of them leads.
	SkipWait bool
	// Out is told what is being done and how long it took. Nil means silence.
	Out io.Writer
}

// NodeSize is what a node offers to pods.
type NodeSize struct {
	CPU    string
	Memory string
	Pods   string
}

// Default returns the lab that `lab up` starts without flags.
func Default() Options {
	return Options{
		Dir:         ".lab",
		Replicas:    3,
		Nodes:       100,
		Node:        NodeSize{CPU: "32", Memory: "256Gi", Pods: "1000"},
		EtcdMembers: 1,
		Supervise:   true,
	}
}

// complete fills in what is derived and refuses what cannot work.
func (o Options) complete() (Options, error) {
	def := Default()
	if o.Dir == "" {
		o.Dir = def.Dir
	}
	if o.EtcdMembers == 0 {
		o.EtcdMembers = def.EtcdMembers
	}
	if o.Node == (NodeSize{}) {
		o.Node = def.Node
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Replicas < 0 || o.Nodes < 0 {
		return o, fmt.Errorf("replicas (%d) and nodes (%d) cannot be negative", o.Replicas, o.Nodes)
	}
	if o.EtcdMembers < 1 || o.EtcdMembers > 5 || o.EtcdMembers%2 == 0 {
		return o, fmt.Errorf("etcd members: %d is not 1, 3 or 5", o.EtcdMembers)
	}
	if o.Proxies && o.Detached {
		return o, errors.New("proxies end with this process: a detached lab cannot have any")
	}
	if o.LeaseProxies && !o.Proxies {
		return o, errors.New("proxies for Leases stand behind others: they cannot be without")
	}
	for field, q := range map[string]string{"cpu": o.Node.CPU, "memory": o.Node.Memory, "pods": o.Node.Pods} {
		if _, err := resource.ParseQuantity(q); err != nil {
			return o, fmt.Errorf("node %s %q: %w", field, q, err)
		}
	}
	if o.Queues == "" {
		o.Queues = o.allQueues()
	}
	o.Env = slices.Concat(telemetryOf(os.Environ()), o.Env)
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return o, err
	}
	if o.Root == "" {
		if o.Root, err = findRoot(); err != nil {
			return o, err
		}
	}
	if o.Root, err = filepath.Abs(o.Root); err != nil {
		return o, err
	}
	if o.Binary == "" {
		o.Binary = o.tool("understudy")
		if o.Armable {
			o.Binary = o.tool("understudy-failpoints")
		}
	}
	if o.Keeper == "" {
		o.Keeper = o.tool("lab")
	}
	return o, o.checkBinaries()
}

// telemetryOf returns what an environment says about traces. It is written down
// with the lab: a replica that is started again later, from another shell, sends
// them to the same place.
func telemetryOf(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool { return !strings.HasPrefix(kv, "OTEL_") })
}

func (o Options) checkBinaries() error {
	need := map[string]string{
		o.tool("etcd"):           "make tools",
		o.tool("kube-apiserver"): "make tools",
		o.tool("kwok"):           "make tools",
	}
	if o.Replicas > 0 {
		need[o.Binary] = "make build"
		if o.Armable {
			need[o.Binary] = "make failpoints"
		}
		if o.Detached {
			need[o.Keeper] = "make lab"
		}
	}
	var errs []error
	for path, how := range need {
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			errs = append(errs, fmt.Errorf("%s is missing: run `%s`", path, how))
		}
	}
	return errors.Join(errs...)
}

func (o Options) tool(name string) string { return filepath.Join(o.Root, "bin", name) }

// findRoot walks up from the working directory, then from the executable.
func findRoot() (string, error) {
	var starts []string
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, dir := range starts {
		for {
			if _, err := os.Stat(filepath.Join(dir, "e2e", "go.mod")); err == nil {
				return dir, nil
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return "", errors.New("the repository was found neither around the working directory nor around this executable: name it with --root")
}
