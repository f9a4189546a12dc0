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
	AuditID    string
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

// ReadAudit returns the bindings in an audit log of JSON lines, in the order of
// their answers; those that were received and never answered come last, unknown.
// The log must hold requests (audit level Request) of pods/binding.
func ReadAudit(r io.Reader) ([]Binding, error) {
	out := []Binding{} // not nil: there is a log, be it empty
	var stages []request
	in := bufio.NewReaderSize(r, 1<<16)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		if errors.Is(err, io.EOF) {
			// What lacks its newline is still being written.
			return append(out, unanswered(stages)...), nil
		}
		// Most lines are of other requests; do not decode those.
		if !bytes.Contains(line, []byte("binding")) {
			continue
		}
		var ev auditEvent
		if err := json.Unmarshal(line, &ev); err != nil {
			return nil, fmt.Errorf("audit log, line %d: %w", n, err)
		}
		if !ev.binds() {
			continue
		}
		b, err := ev.binding()
		if err != nil {
			return nil, fmt.Errorf("audit log, line %d: %w", n, err)
		}
		done := ev.Stage == "ResponseComplete" || ev.Stage == "Panic"
		if done {
			out = append(out, b)
		}
		if done || ev.Stage == "RequestReceived" {
			stages = append(stages, request{ev.AuditID, done, b})
		}
	}
}

// request is one stage of a request in the log.
type request struct {
	id       string
	answered bool
	binding  Binding
}

// unanswered returns the bindings that were received and not answered.
func unanswered(stages []request) []Binding {
	answered := map[string]bool{}
	for _, s := range stages {
		if s.answered {
			answered[s.id] = true
		}
	}
	var out []Binding
	for _, s := range stages {
		if !answered[s.id] {
			out = append(out, s.binding)
		}
	}
	return out
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

// binds reports whether the request assigns a pod.
func (ev auditEvent) binds() bool {
	ref := ev.ObjectRef
	binds := ref.Resource == "pods" && ref.Subresource == "binding" || ref.Resource == "bindings"
	return binds && ev.Verb == "create" && !strings.Contains(ev.RequestURI, "dryRun=")
}

func (ev auditEvent) binding() (Binding, error) {
	b := Binding{
		Namespace: ev.ObjectRef.Namespace,
		Name:      ev.ObjectRef.Name,
		UID:       ev.ObjectRef.UID,
		User:      ev.User.Username,
		Code:      ev.ResponseStatus.Code,
		Message:   ev.ResponseStatus.Message,
		Received:  ev.RequestReceivedTimestamp,
		Completed: ev.StageTimestamp,
	}
	obj := ev.RequestObject
	if obj == nil {
		if b.Accepted() {
			return b, errors.New("a binding without its request: the audit policy must log level Request")
		}
		return b, nil
	}
	b.Node = obj.Target.Name
	if obj.Metadata.UID != "" {
		b.UID = obj.Metadata.UID
	}
	if b.Name == "" {
		b.Name = obj.Metadata.Name
	}
	b.Epoch, _ = strconv.ParseUint(obj.Metadata.Annotations[history.EpochAnnotation], 10, 64)
	return b, nil
}
