package lab

import (
	"errors"
	"fmt"
	"os"

	"sigs.k8s.io/yaml"
)

// Scheduler is one that is not Understudy and schedules in a lab.
type Scheduler struct{ child *child }

// Ended is closed when it has ended.
func (s *Scheduler) Ended() <-chan struct{} { return s.child.ended }

// Err says how it ended, and what its log said last, once it has.
func (s *Scheduler) Err() error { return s.child.exit() }

// StartScheduler starts a process that schedules. It is an administrator by $KUBECONFIG;
// $NAMESPACE is where the queue configuration is. It is killed with the lab, and it alone:
// what it has started itself is its own business.
func (l *Lab) StartScheduler(name string, args []string) (*Scheduler, error) {
	state, err := l.State()
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		return nil, errors.New("the scheduler has no command")
	}
	c, err := l.run(Process{
		Name: name, Kind: KindScheduler, Log: l.plan.logPath(name), Args: args,
		Env: []string{"KUBECONFIG=" + state.Kubeconfig, "NAMESPACE=" + state.Namespace},
	})
	return &Scheduler{c}, err
}

// KubeScheduler is the name of Kubernetes' own scheduler, as a process and in bin/.
const KubeScheduler = "kube-scheduler"

// StartKubeScheduler starts kube-scheduler for the pods that ask for scheduler, with the
// default profile under that name and a client that never waits for its own rate limit.
// Nothing else differs from its defaults, except that it elects nobody and serves nothing.
func (l *Lab) StartKubeScheduler(scheduler string) (*Scheduler, error) {
	tool := l.plan.opts.tool(KubeScheduler)
	if _, err := os.Stat(tool); err != nil {
		return nil, fmt.Errorf("%s is missing: run `make tools`", tool)
	}
	state, err := l.State()
	if err != nil {
		return nil, err
	}
	raw, err := yaml.Marshal(map[string]any{
		"apiVersion": "kubescheduler.config.k8s.io/v1",
		"kind":       "KubeSchedulerConfiguration",
		"clientConnection": map[string]any{
			"kubeconfig": state.Kubeconfig, "qps": 10_000, "burst": 10_000, "contentType": "application/vnd.kubernetes.protobuf",
		},
		"leaderElection": map[string]any{"leaderElect": false},
		"profiles":       []any{map[string]any{"schedulerName": scheduler}},
	})
	if err != nil {
		return nil, err
	}
	file := l.path("data", KubeScheduler+".yaml")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return nil, err
	}
	return l.StartScheduler(KubeScheduler, []string{tool, "--config=" + file, "--secure-port=0"})
}
