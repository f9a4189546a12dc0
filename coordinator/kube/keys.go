package kube

import (
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/replica/ledger"
)

const (
	// EpochAnnotation carries the epoch of the term in which an object was
	// created. An admission policy compares it with the Lease.
	EpochAnnotation = "understudy.dev/epoch"
	// HolderAnnotation carries who holds the Lease in that term.
	HolderAnnotation = "understudy.dev/holder"
	// LeaseLabel carries the UID of that Lease. It is a label because the policy
	// selects by it what it judges.
	LeaseLabel = "understudy.dev/lease"
	// RoleLabel says on the pod of a replica which role it has.
	RoleLabel = "understudy.dev/role"
	// RoleLead is the value of RoleLabel on the pod of the lead.
	RoleLead = "lead"
	// Component is the source of the Kubernetes Events.
	Component = "understudy"
)

func formatEpoch(epoch uint64) string { return strconv.FormatUint(epoch, 10) }

// Tenure says in which term something was decided. All that is bound or created
// carries it, for the API server to judge.
type Tenure struct {
	Epoch uint64
	// Holder is the identity in the Lease.
	Holder string
	// Lease is the UID of the Lease: one that is created anew may count anew.
	Lease types.UID
	// OnRefusal is told of answers for which TermRefused holds; nil for nobody. It
	// is called from several goroutines and must return at once.
	OnRefusal func(err error)
}

// refused reports whether the API server says that the term is over, and passes
// that on. To try again is right all the same: if it is over, work is about to be
// stopped, and if it is not, the API server does not know this Lease yet.
func (t Tenure) refused(err error) bool {
	if !TermRefused(err) {
		return false
	}
	if t.OnRefusal != nil {
		t.OnRefusal(err)
	}
	return true
}

// sign puts the tenure on an object, whatever it says already.
func (t Tenure) sign(meta *metav1.ObjectMeta) {
	metav1.SetMetaDataLabel(meta, LeaseLabel, string(t.Lease))
	metav1.SetMetaDataAnnotation(meta, EpochAnnotation, formatEpoch(t.Epoch))
	metav1.SetMetaDataAnnotation(meta, HolderAnnotation, t.Holder)
}

// Sink takes the events that tell what became of an effect. It is called from
// several goroutines and must return at once.
type Sink = func(ledger.Event)
