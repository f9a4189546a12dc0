package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Machine is where something is measured, control plane and load included.
type Machine struct {
	CPUs int    `json:"cpus"`
	OS   string `json:"os"`
	Arch string `json:"arch"`
	Go   string `json:"go"`
	// Commit is the repository's, with -dirty if files had been changed; empty
	// where there is no repository.
	Commit string `json:"commit"`
	// LoadBefore is how many processes ran or wanted to, on average over the
	// minute before the lab was started: what else the machine was doing.
	LoadBefore float64 `json:"load_before"`
}

// Busy says that the machine had other things to do.
func (m Machine) Busy() bool { return m.LoadBefore > float64(m.CPUs)/2 }

// ThisMachine describes the machine as it is now.
func ThisMachine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version()}
	if raw, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(raw), &m.LoadBefore)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--exclude=*").Output(); err == nil {
		m.Commit = strings.TrimSpace(string(out))
	}
	return m
}
