package lab

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"slices"
)

// supervisorProcess is `understudy supervise` with replica p below it. They have
// the log in common.
func supervisorProcess(p Process) Process {
	return Process{
		Name: SupervisorOf(p.Name), Kind: KindSupervisor, Log: p.Log, Dir: p.Dir, Env: p.Env,
		Args: slices.Concat([]string{p.Args[0], "supervise", "--"}, p.Args[1:]),
	}
}

// SupervisorOf is the name of the process above a replica.
func SupervisorOf(replica string) string { return replica + "-supervisor" }

// follower reads what a supervisor says, and keeps in the state what runs the
// replica: the supervisor starts it again without asking.
type follower struct{ dir, replica string }

// follow copies the output of a supervisor and its replica to their log, until
// nobody is left to write, and closes both.
func (f follower) follow(supervisor int, said io.ReadCloser, log io.WriteCloser) {
	defer said.Close()
	defer log.Close()
	for lines := bufio.NewReader(said); ; {
		line, err := lines.ReadBytes('\n')
		// Nobody is there to be told that either fails; the log would not be whole,
		// and the state corrects itself with the next line.
		_, _ = log.Write(line)
		_ = f.heed(line, supervisor)
		if err != nil {
			return
		}
	}
}

// heed takes in one line, which may be the replica's own.
func (f follower) heed(line []byte, supervisor int) error {
	if !bytes.Contains(line, []byte(`"role":"supervisor"`)) {
		return nil
	}
	var said struct {
		Msg string
		PID int
	}
	if err := json.Unmarshal(line, &said); err != nil {
		return err
	}
	switch said.Msg {
	case "replica started":
		return edit(f.dir, f.replica, func(p *Process) {
			// If it has ended meanwhile, the id is nobody's or somebody else's.
			if parentOf(said.PID) == supervisor {
				p.PID, p.Stopped = said.PID, false
				p.Started, _ = startedAt(said.PID)
			}
		})
	case "replica ended":
		return gone(f.dir, f.replica)
	}
	return nil
}
