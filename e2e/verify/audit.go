package verify

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// Binding is one request to assign a pod, as the API server's audit log tells.
type Binding struct {
	Namespace, Name string
	// UID is the precondition of the binding, empty if it had none.
	UID   string
	Node  string
	Epoch uint64
	User  string
	Code  int
	// Message is why it was refused.
	Message string
	// Received and Completed bound the moment at which it took effect.
	Received, Completed time.Time
}

// Accepted reports whether the API server says that it assigned the pod.
func (b Binding) Accepted() bool { return b.Code >= 200 && b.Code < 300 }

// Unknown reports whether the request may have taken effect although no
// success was answered.
func (b Binding) Unknown() bool { return b.Code == 0 || b.Code >= 500 }

// auditEvent is the part of audit.k8s.io/v1 Event that is read.
type auditEvent struct {
	Stage      string
	RequestURI string
	Verb       string
	User       struct{ Username string }
	ObjectRef  struct {
		Resource, Subresource, Namespace, Name, UID string
	}
	ResponseStatus struct {
		Code    int
		Message string
	}
	RequestReceivedTimestamp time.Time
	StageTimestamp           time.Time
	RequestObject            *struct {
		Metadata struct {
			Name        string
			UID         string
			Annotations map[string]string
		}
		Target struct{ Name string }
	}
}

// ReadAudit returns the bindings in an audit log of JSON lines, in its order.
// The log must hold requests (audit level Request) of pods/binding.
func ReadAudit(r io.Reader) ([]Binding, error) {
	out := []Binding{} // not nil: there is a log, be it empty
	in := bufio.NewReaderSize(r, 1<<16)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		if errors.Is(err, io.EOF) {
			// What lacks its newline is still being written.
			return out, nil
		}
		// Most lines are of other requests; do not decode those.
		if !bytes.Contains(line, []byte("binding")) {
			continue
		}
		b, ok, err := parseBinding(line)
		if err != nil {
			return nil, fmt.Errorf("audit log, line %d: %w", n, err)
		}
		if ok {
			out = append(out, b)
		}
	}
}

// ReadAuditFile reads the log at path.
func ReadAuditFile(path string) ([]Binding, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return ReadAudit(f)
}

func parseBinding(line []byte) (Binding, bool, error) {
	var ev auditEvent
	if err := json.Unmarshal(line, &ev); err != nil {
		return Binding{}, false, err
	}
	ref := ev.ObjectRef
	binds := ref.Resource == "pods" && ref.Subresource == "binding" || ref.Resource == "bindings"
	done := ev.Stage == "ResponseComplete" || ev.Stage == "Panic"
	if !binds || !done || ev.Verb != "create" || strings.Contains(ev.RequestURI, "dryRun=") {
		return Binding{}, false, nil
	}
	b := Binding{
		Namespace: ref.Namespace,
		Name:      ref.Name,
		UID:       ref.UID,
		User:      ev.User.Username,
		Code:      ev.ResponseStatus.Code,
		Message:   ev.ResponseStatus.Message,
		Received:  ev.RequestReceivedTimestamp,
		Completed: ev.StageTimestamp,
	}
	obj := ev.RequestObject
	if obj == nil {
		if b.Accepted() {
			return b, false, errors.New("a binding without its request: the audit policy must log level Request")
		}
		return b, true, nil
	}
	b.Node = obj.Target.Name
	if obj.Metadata.UID != "" {
		b.UID = obj.Metadata.UID
	}
	if b.Name == "" {
		b.Name = obj.Metadata.Name
	}
	b.Epoch, _ = strconv.ParseUint(obj.Metadata.Annotations[history.EpochAnnotation], 10, 64)
	return b, true, nil
}
