package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// members returns the names of the mirror's etcd members.
func (l *Lab) members() ([]Process, error) {
	state, err := l.State()
	if err != nil {
		return nil, err
	}
	var all []Process
	for _, p := range state.Processes {
		if p.Kind == KindEtcd {
			all = append(all, p)
		}
	}
	return all, nil
}

// StopEtcd ends all members of the mirror's etcd. Their data stays.
func (l *Lab) StopEtcd() error {
	members, err := l.members()
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range members {
		errs = append(errs, l.Stop(p.Name))
	}
	return errors.Join(errs...)
}

// EtcdMembers returns the names of the mirror's etcd members.
func (l *Lab) EtcdMembers() ([]string, error) {
	members, err := l.members()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(members))
	for i, p := range members {
		names[i] = p.Name
	}
	return names, nil
}

// StartEtcd starts those that do not run and waits until they answer.
func (l *Lab) StartEtcd(ctx context.Context) error {
	members, err := l.members()
	if err != nil {
		return err
	}
	for _, p := range members {
		if p.Running() {
			continue
		}
		if err := l.Start(p.Name); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("30s have passed"))
	defer cancel()
	return until(ctx, nil, "the mirror's etcd", func(ctx context.Context) error {
		_, err := l.etcd.Get(ctx, "/")
		return err
	})
}

// WipeEtcd replaces the mirror's etcd by an empty one at the same address.
func (l *Lab) WipeEtcd(ctx context.Context) error {
	if err := l.StopEtcd(); err != nil {
		return err
	}
	members, err := l.members()
	if err != nil {
		return err
	}
	for _, p := range members {
		if err := os.RemoveAll(p.DataDir); err != nil {
			return fmt.Errorf("data of %s: %w", p.Name, err)
		}
	}
	return l.StartEtcd(ctx)
}

// CrashAPIServer kills the API server and starts it again at once. It returns when
// the new process exists, not when that answers.
func (l *Lab) CrashAPIServer() error {
	p, err := l.process(apiserverName)
	if err != nil {
		return err
	}
	if err := p.end(0); err != nil {
		return err
	}
	state, err := l.State()
	if err != nil {
		return err
	}
	if state.AuditLog != "" {
		if err := cutTornLine(state.AuditLog); err != nil {
			return err
		}
	}
	return l.Start(apiserverName)
}

// AwaitAPIServer waits until the API server answers what clients ask.
func (l *Lab) AwaitAPIServer(ctx context.Context) error {
	return until(ctx, nil, "the API server", func(ctx context.Context) error {
		_, err := l.client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{})
		return err
	})
}

// cutTornLine removes from the end of a log what its writer was killed in the
// middle of: the next one appends.
func cutTornLine(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, int64(bytes.LastIndexByte(raw, '\n')+1))
}

// DeleteLease deletes the Lease by which the replicas elect their lead.
func (l *Lab) DeleteLease(ctx context.Context) error {
	state, err := l.State()
	if err != nil {
		return err
	}
	err = l.client.CoordinationV1().Leases(state.Namespace).Delete(ctx, state.Lease, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
