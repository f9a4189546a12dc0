package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/understudy-ha/understudy/coordinator"
	"github.com/understudy-ha/understudy/election/supervise"
)

// The exit status of the command.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Main runs the command line of the process, with these app managers to choose from, and
// returns the exit status. A program that has more managers calls it as well.
func Main(managers coordinator.ManagerRegistry) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for an orderly end. From then on signals have their
	// default effect, so that a second one ends a process that hangs.
	context.AfterFunc(ctx, stop)
	defer stop()
	return execute(ctx, os.Args[1:], command{
		out: os.Stdout, err: os.Stderr, managers: managers, launch: launch, supervise: supervise.Run,
	})
}

// command is what the commands need from their surroundings.
type command struct {
	out, err  io.Writer
	managers  coordinator.ManagerRegistry
	launch    func(context.Context, replica) error
	supervise func(supervise.Config) int
}

// execute runs one command line and reports an error of it, once.
func execute(ctx context.Context, args []string, c command) int {
	root := c.root()
	root.SetArgs(args)
	root.SetOut(c.out)
	root.SetErr(c.err)
	ran, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if status := statusError(0); errors.As(err, &status) {
		return int(status)
	}
	if reported := (reportedError{}); errors.As(err, &reported) {
		return exitFailed
	}
	fmt.Fprintf(c.err, "understudy: %s\n", err)
	if usage := (usageError{}); errors.As(err, &usage) {
		fmt.Fprintf(c.err, "Try '%s --help'.\n", ran.CommandPath())
		return exitUsage
	}
	return exitFailed
}

// usageError marks the error of a command that was called wrongly.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// reportedError marks an error that is in the log of the replica. Whoever reads
// that log expects a record on every line.
type reportedError struct{ error }

func (e reportedError) Unwrap() error { return e.error }

// statusError is the exit status of a child, which has said what there is to say.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }
