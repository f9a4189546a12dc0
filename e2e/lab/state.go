package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Kinds of process.
const (
	KindReplica        = "replica"
	KindSupervisor     = "supervisor"      // of a replica: its parent
	KindKeeper         = "keeper"          // of a replica in a detached lab
	KindEtcd           = "etcd"            // a member of the mirror's etcd
	KindKubernetesEtcd = "kubernetes-etcd" // the API server's own
	KindAPIServer      = "kube-apiserver"
	KindKwok           = "kwok"
	KindScheduler      = "scheduler" // one that is not Understudy
)

// State is DIR/state.json: what runs, and where to reach it.
type State struct {
	// Etcd is where Understudy mirrors its state.
	Etcd Endpoints `json:"etcd"`
	// KubernetesEtcd belongs to the API server.
	KubernetesEtcd Endpoints `json:"kubernetesEtcd"`
	// APIServer is its URL.
	APIServer string `json:"apiserver"`
	// Kubeconfig is the path of an administrator's.
	Kubeconfig string `json:"kubeconfig"`
	// Namespace and Lease are where the replicas elect their lead.
	Namespace string `json:"namespace"`
	Lease     string `json:"lease"`
	// Prefix is that of the mirror's keys in etcd.
	Prefix string `json:"prefix"`
	// AuditLog is the path of the audit log; empty if there is none.
	AuditLog string `json:"auditLog,omitempty"`
	// Detached says whether the processes outlive the one that started them,
	// and Owner which one that is if not.
	Detached bool `json:"detached"`
	Owner    int  `json:"owner,omitempty"`
	// Boot identifies the running kernel, without which Started means nothing.
	Boot    string    `json:"boot"`
	Created time.Time `json:"created"`

	Processes []Process `json:"processes"`
}

// Endpoints of one etcd cluster.
type Endpoints struct {
	Endpoints []string `json:"endpoints"`
}

// Process is one process of the lab. PID is 0 while it does not run.
type Process struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	PID  int    `json:"pid"`
	// HTTP is the base URL of what it serves; empty if nothing.
	HTTP string `json:"http,omitempty"`
	// REST is the base URL of a replica's /ws/v1.
	REST string `json:"rest,omitempty"`
	Log  string `json:"log"`
	// Started tells this process from another one with the same id: the
	// kernel's clock ticks between its boot and the start of the process.
	Started uint64 `json:"started,omitempty"`
	// Restarts counts how often it ended without having been told to, and was
	// started again.
	Restarts int `json:"restarts,omitempty"`
	// Supervised says that a replica is run by a supervisor of its own, which is
	// another process of the lab.
	Supervised bool `json:"supervised,omitempty"`
	// Stopped says that it was told to stop, and stays so until started.
	Stopped bool `json:"stopped,omitempty"`
	// Args, Env (added to the starter's) and DataDir are what starts it again.
	Args    []string `json:"args"`
	Env     []string `json:"env,omitempty"`
	DataDir string   `json:"dataDir,omitempty"`
	// Dir is its working directory; empty means the starter's.
	Dir string `json:"dir,omitempty"`
}

// Process returns the process called name, or nil.
func (s *State) Process(name string) *Process {
	i := slices.IndexFunc(s.Processes, func(p Process) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Processes[i]
}

// Replicas returns the names of the replicas, in order.
func (s *State) Replicas() []string {
	var names []string
	for _, p := range s.Processes {
		if p.Kind == KindReplica {
			names = append(names, p.Name)
		}
	}
	return names
}

// put adds p, or replaces the process of that name.
func (s *State) put(p Process) {
	if old := s.Process(p.Name); old != nil {
		*old = p
		return
	}
	s.Processes = append(s.Processes, p)
}

const stateFile = "state.json"

// ReadState reads DIR/state.json. The error is fs.ErrNotExist if there is none.
func ReadState(dir string) (*State, error) {
	raw, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, err
	}
	s := new(State)
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, stateFile), err)
	}
	return s, nil
}

// updateState changes DIR/state.json under a lock that supervisors and commands
// share, and replaces the file in one step.
func updateState(dir string, change func(*State)) error {
	lock, err := os.OpenFile(filepath.Join(dir, stateFile+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // which unlocks
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	s, err := ReadState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		s, err = new(State), nil
	}
	if err != nil {
		return err
	}
	change(s)
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, stateFile+".new")
	if err := os.WriteFile(tmp, append(raw, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, stateFile))
}

// bootID names the running kernel.
func bootID() string {
	raw, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw))
}
