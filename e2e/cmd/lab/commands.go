package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/e2e/lab"
)

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "lab",
		Short:         "A real Kubernetes control plane with replicas of Understudy, on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(up(), down(), status(), kill(),
		control("stop", "End a process in good order and leave it so", (*lab.Lab).Stop),
		control("start", "Start a process that was stopped or has died", (*lab.Lab).Start),
		control("freeze", "Stop a replica together with its supervisor, until thaw", (*lab.Lab).Freeze),
		control("thaw", "Have a replica that was frozen go on", (*lab.Lab).Thaw),
		control("restart", "Stop a process and start it again", (*lab.Lab).Restart),
		loadCommand(), demoCommand(), benchCommand(), drillCommand(), keep(), nullBinder())
	return cmd
}

// sizeFlags are those that say what a lab consists of.
func sizeFlags(cmd *cobra.Command, o *lab.Options) {
	f := cmd.Flags()
	f.StringVar(&o.Dir, "dir", o.Dir, "where everything of the lab is kept")
	f.IntVar(&o.Replicas, "replicas", o.Replicas, "replicas of Understudy")
	f.IntVar(&o.Nodes, "nodes", o.Nodes, "nodes that kwok plays")
	f.StringVar(&o.Node.CPU, "node-cpu", o.Node.CPU, "CPUs of each node")
	f.StringVar(&o.Node.Memory, "node-memory", o.Node.Memory, "memory of each node")
	f.StringVar(&o.Node.Pods, "node-pods", o.Node.Pods, "how many pods each node takes")
	f.Var(managersFile{&o.Managers}, "managers", "`FILE` with the app managers of the replicas: a list, or with the field managers")
	f.StringSliceVar(&o.CRDs, "crds", o.CRDs, "`FILE` or directory with the custom resources' kinds; may be repeated")
	f.IntVar(&o.EtcdMembers, "etcd", o.EtcdMembers, "members of the mirror's etcd: 1, 3 or 5")
	f.BoolVar(&o.Audit, "audit", o.Audit, "have the API server write DIR/audit.log")
	f.BoolVar(&o.PodGroups, "pod-groups", o.PodGroups, "have the API server serve PodGroups, Kubernetes' own gangs")
	f.StringVar(&o.Admission, "admission", o.Admission, "have the replicas do admission: webhook or policy")
	f.BoolVar(&o.Supervise, "supervise", o.Supervise, "run each replica below a supervisor that releases the Lease should it die")
	f.StringVar(&o.Binary, "understudy", o.Binary, "executable of the replicas (default ROOT/bin/understudy)")
	f.StringVar(&o.Root, "root", o.Root, "the repository, with bin/ and deploy/ (default: found)")
}

// managersFile is a flag that names a file with app managers.
type managersFile struct{ into *[]any }

func (f managersFile) Set(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	*f.into, err = lab.ParseManagers(data)
	return err
}

func (f managersFile) String() string { return "" }

func (f managersFile) Type() string { return "file" }

func up() *cobra.Command {
	o := lab.Default()
	o.Detached = true
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a lab in the background",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.ErrOrStderr()
			l, err := lab.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			l.Close()
			fmt.Fprintf(cmd.OutOrStdout(), "export KUBECONFIG=%s\n", filepath.Join(l.Dir(), "kubeconfig"))
			return nil
		},
	}
	sizeFlags(cmd, &o)
	cmd.Flags().BoolVar(&o.SkipWait, "no-wait", false, "return before the replicas are ready")
	return cmd
}

func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", lab.Default().Dir, "where the lab is")
}

func down() *cobra.Command {
	var dir string
	var keepLogs bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "End a lab and remove its files",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Open(dir)
			if errors.Is(err, fs.ErrNotExist) {
				fmt.Fprintln(cmd.ErrOrStderr(), err)
				return nil
			}
			if err != nil {
				return err
			}
			return l.Down(keepLogs)
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().BoolVar(&keepLogs, "keep-logs", false, "leave DIR/logs and DIR/audit.log")
	return cmd
}

func status() *cobra.Command {
	var dir, output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what runs, and who leads",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Open(dir)
			if err != nil {
				return err
			}
			defer l.Close()
			state, err := l.State()
			if err != nil {
				return err
			}
			if output == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(state)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
			defer w.Flush()
			leader, leaderErr := l.Leader(cmd.Context())
			fmt.Fprintln(w, "NAME\tKIND\tPID\tSTATE\tRESTARTS\tHTTP")
			for _, p := range state.Processes {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\t%s\n",
					p.Name, p.Kind, p.PID, describe(p, leader), p.Restarts, p.HTTP)
			}
			if leaderErr != nil && len(state.Replicas()) > 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "lead:", leaderErr)
			}
			return nil
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func describe(p lab.Process, leader string) string {
	switch {
	case p.Stopped:
		return "stopped"
	case !p.Running():
		return "dead"
	case p.Name == leader:
		return "runs, holds the lease"
	}
	return "runs"
}

func kill() *cobra.Command {
	var dir, signal string
	cmd := &cobra.Command{
		Use:   "kill NAME|lead",
		Short: "Send a signal to a process; a replica that dies is started again",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(signal), "SIG"))
			if sig == 0 {
				return fmt.Errorf("%q is no signal", signal)
			}
			return with(cmd, dir, args[0], func(l *lab.Lab, name string) error { return l.Kill(name, sig) })
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().StringVarP(&signal, "signal", "s", "KILL", "KILL, TERM, STOP, CONT, ...")
	return cmd
}

func control(use, short string, do func(*lab.Lab, string) error) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   use + " NAME|lead",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, dir, args[0], do)
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}

// with does something to a process of a lab; "lead" stands for whoever leads.
func with(cmd *cobra.Command, dir, name string, do func(*lab.Lab, string) error) error {
	l, err := lab.Open(dir)
	if err != nil {
		return err
	}
	defer l.Close()
	if name == "lead" {
		if name, err = l.Leader(cmd.Context()); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), name)
	}
	return do(l, name)
}

// keep is what `up` starts behind each replica.
func keep() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:    "keep REPLICA",
		Short:  "Run a replica, again and again",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
			return lab.Keep(cmd.Context(), dir, args[0], log)
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}
