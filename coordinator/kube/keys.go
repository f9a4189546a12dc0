package kube

import (
	"strconv"

	"github.com/understudy-ha/understudy/replica/ledger"
)

const (
	// EpochAnnotation carries the epoch of the term in which an object was
	// created. An admission policy compares it with the Lease.
	EpochAnnotation = "understudy.dev/epoch"
	// RoleLabel says on the pod of a replica which role it has.
	RoleLabel = "understudy.dev/role"
	// RoleLead is the value of RoleLabel on the pod of the lead.
	RoleLead = "lead"
	// Component is the source of the Kubernetes Events.
	Component = "understudy"
)

func formatEpoch(epoch uint64) string { return strconv.FormatUint(epoch, 10) }

// Sink takes the events that tell what became of an effect. It is called from
// several goroutines and must return at once.
type Sink = func(ledger.Event)
