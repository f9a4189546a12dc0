package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/election"
)

// A lead that is frozen is killed by its supervisor long before its Lease expires, and
// that is to be seen: on its Pod, and in its status. Whoever leads is the only one with
// the mark of a lead.
func TestAFrozenLeadIsReplacedAndLeavesATrace(t *testing.T) {
	s := onStage(t, 8*time.Second, 5*time.Second)
	frozen, incarnation := s.lead()
	s.marked(frozen)
	epoch := s.status(frozen).Epoch
	at := time.Now()
	s.do(s.Kill(frozen, syscall.SIGSTOP))
	took, why := s.followed(incarnation, at)
	if why != election.Dead || took > 3*time.Second {
		t.Errorf("the lease was taken after %v because %s", took, why)
	}
	next, _ := s.lead()
	s.marked(next)
	event := s.event(frozen, kube.ReasonHung)
	if led := fmt.Sprintf("it led in epoch %d", epoch); event.Type != v1.EventTypeWarning || !strings.Contains(event.Message, incarnation) || !strings.Contains(event.Message, led) {
		t.Errorf("the event says %s %q", event.Type, event.Message)
	}
	if now := s.status(frozen); now.Restarts != 1 || now.LastEnd == nil || now.LastEnd.Reason != serve.Hung || now.LastEnd.Epoch != epoch {
		t.Errorf("status: %d restarts, %+v", now.Restarts, now.LastEnd)
	}
	for _, term := range s.status(next).Terms {
		if term.Epoch == epoch && (term.EndReason != "crashed" || term.Ended.Before(at)) {
			t.Errorf("the term of the lead that was frozen at %v: %+v", at, term)
		}
	}

	s.do(s.Kill(next, syscall.SIGTERM)) // it hands over
	s.do(until(t.Context(), func() bool {
		name, err := s.Leader(t.Context())
		return err == nil && name != next
	}))
	last, incarnation := s.lead()
	s.marked(last)

	s.do(s.Kill(last, syscall.SIGKILL))
	s.event(last, kube.ReasonCrashed)
	s.lead()
	if now := s.status(last); now.LastEnd == nil || now.LastEnd.How != "signal: killed" || now.LastEnd.Incarnation != incarnation {
		t.Errorf("status: %+v", now.LastEnd)
	}
}

// marked waits until the pod of that replica, and no other, is marked as the lead's.
func (s *stage) marked(replica string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	var names []string
	err := until(ctx, func() bool {
		list, err := s.Client().CoreV1().Pods(s.state.Namespace).List(ctx, metav1.ListOptions{LabelSelector: kube.RoleLabel + "=" + kube.RoleLead})
		names = nil
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
		return err == nil && slices.Equal(names, []string{replica})
	})
	if err != nil {
		s.t.Errorf("%v are marked, want %s: %v", names, replica, err)
	}
}

// event waits for one on the pod of a replica.
func (s *stage) event(replica, reason string) (found v1.Event) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	err := until(ctx, func() bool {
		list, err := s.Client().CoreV1().Events(s.state.Namespace).List(ctx, metav1.ListOptions{
			FieldSelector: "involvedObject.name=" + replica + ",reason=" + reason,
		})
		if err != nil || len(list.Items) == 0 {
			return false
		}
		found = list.Items[0]
		return true
	})
	s.do(err)
	pod, err := s.Client().CoreV1().Pods(s.state.Namespace).Get(ctx, replica, metav1.GetOptions{})
	if s.do(err); found.InvolvedObject.UID != pod.UID {
		s.t.Errorf("the event is on %+v", found.InvolvedObject)
	}
	return found
}

// status asks a replica until it answers.
func (s *stage) status(replica string) (now serve.Status) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	var last error
	err := until(ctx, func() bool {
		now, last = s.Replica(replica).Status(ctx)
		return last == nil
	})
	s.do(errors.Join(err, last))
	return now
}
