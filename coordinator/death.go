package coordinator

import (
	"errors"
	"io/fs"
	"os"

	"github.com/understudy-ha/understudy/coordinator/kube"
)

// TerminationLogEnv is the environment variable that names the termination log of
// the container, if that is not where Kubernetes puts it by default. An empty value
// says that there is none.
const TerminationLogEnv = "UNDERSTUDY_TERMINATION_LOG"

// defaultTerminationLog is the terminationMessagePath of a container that names no
// other. The kubelet makes the file; elsewhere there is none.
const defaultTerminationLog = "/dev/termination-log"

// leaveName writes into the termination log who this incarnation is, before it can
// lead: whatever ends the container, the kubelet reports with the end who has
// ended. Without it a successor has to wait for the Lease to expire.
func (r *replica) leaveName() {
	path, named := os.LookupEnv(TerminationLogEnv)
	mode := os.O_WRONLY | os.O_TRUNC
	if named {
		mode |= os.O_CREATE
	} else {
		path = defaultTerminationLog
	}
	if path == "" {
		return
	}
	err := writeFile(path, mode, kube.TerminationMessage(r.incarnation))
	if err != nil && (named || !errors.Is(err, fs.ErrNotExist)) {
		r.log.Warn("termination log not written: the kubelet cannot tell that this incarnation has ended", "error", err)
	}
}

func writeFile(path string, mode int, text string) error {
	f, err := os.OpenFile(path, mode, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
