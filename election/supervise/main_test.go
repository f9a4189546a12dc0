package supervise

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	coordinationv1 "k8s.io/api/coordination/v1"
)

// grandchildEnv says what a child that is a supervisor supervises.
const grandchildEnv = "SUPERVISE_TEST_GRANDCHILD"

// childEnv makes the test binary a child, and says which.
const childEnv = "SUPERVISE_TEST_CHILD"

func TestMain(m *testing.M) {
	if kind := os.Getenv(childEnv); kind != "" {
		os.Exit(child(kind))
	}
	goleak.VerifyTestMain(m)
}

// child says who it is and then lives by its kind.
func child(kind string) int {
	if kind == "supervisor" {
		signals := make(chan os.Signal, 16)
		signal.Notify(signals, Signals()...)
		return Run(Config{
			Path: os.Args[0], Env: []string{childEnv + "=" + cmp.Or(os.Getenv(grandchildEnv), "obedient")}, Out: os.Stdout, Err: os.Stderr,
			Lease: noLease, Signals: signals, Log: slog.New(slog.DiscardHandler),
		})
	}
	switch kind {
	case "untied":
		return 0
	case "fading":
		return fade()
	}
	tie, err := Hold()
	if err != nil {
		panic(err)
	}
	signals := make(chan os.Signal, 16)
	if kind != "broken" {
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR1)
	}
	tellPast()
	switch kind {
	case "lead":
		tie.Lead(true)
		go func() {
			for {
				tie.Beat()
				time.Sleep(5 * time.Millisecond)
			}
		}()
		kind = "obedient"
	case "retired":
		tie.Lead(true)
		tie.Beat()
		tie.Lead(false)
		kind = "obedient"
	case "mute":
		tie.Lead(true)
		kind = "obedient"
	}
	fmt.Printf("up %d %s\n", os.Getpid(), Incarnation("r1"))
	switch kind {
	case "obedient": // ends when told to
		for sig := range signals {
			if path := os.Getenv(willEnv); path != "" && sig == syscall.SIGUSR1 {
				leave(tie, path)
			}
			fmt.Printf("heard %s\n", sig)
			if sig == syscall.SIGTERM {
				return 0
			}
		}
	case "stubborn": // wants to be told twice
		for range 2 {
			fmt.Printf("heard %s\n", <-signals)
		}
		return 7
	case "deaf":
		for {
			fmt.Printf("heard %s\n", <-signals)
		}
	}
	return 1
}

func tellPast() {
	past, err := Before()
	if err != nil {
		panic(err)
	}
	fmt.Printf("past %d ", past.Restarts)
	if end := past.Last; end != nil {
		fmt.Println(end.Incarnation, end.How, end.Status, end.Silent, end.Epoch)
	} else {
		fmt.Println(nil)
	}
}

// willEnv names a file with the Lease that a child is to leave.
const willEnv = "SUPERVISE_TEST_WILL"

func leave(tie *Tie, path string) {
	raw, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	lease := new(coordinationv1.Lease)
	if err := lease.Unmarshal(raw); err != nil {
		panic(err)
	}
	tie.Leave(lease)
}

func noLease() (Lease, error) { return Lease{}, os.ErrNotExist }
