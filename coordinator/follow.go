package coordinator

import (
	"github.com/understudy-ha/understudy/coordinator/standby"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
)

// noteApplied keeps in mind what the view has applied.
func (r *replica) noteApplied(applied []ledger.Change, revision int64, anew bool) {
	if anew {
		r.changes.Begin(revision)
		return
	}
	r.changes.Note(applied, revision, true)
}

// noteDurable keeps in mind what a mirror says is durable; that calls it with its status now.
func (r *replica) noteDurable(durable []ledger.Change, status mirror.Status) {
	revision := status.Revision
	if status.Suspended {
		revision++ // at least: these have yet to be written
	}
	// A transaction has the changes of several calls.
	r.changes.Note(durable, revision, false)
}

// noting is the standby of a term that keeps in mind what the lead has made durable.
type noting struct {
	*standby.Standby
	of *replica
}

// Durable does not wait.
func (n noting) Durable(durable []ledger.Change) {
	n.Standby.Durable(durable)
	if lead := n.of.lead.Load(); lead != nil {
		if status, ok := lead.MirrorStatus(); ok {
			n.of.noteDurable(durable, status)
		}
	}
}
