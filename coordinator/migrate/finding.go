package migrate

import (
	"cmp"
	"fmt"
	"slices"
)

// Severity says what a finding means for a migration.
type Severity string

// The severities, the gravest first.
const (
	// Blocks is for what has to be otherwise before a replica of Understudy is started.
	Blocks Severity = "blocks"
	// Configure is for what somebody has to write into a configuration or a manifest.
	Configure Severity = "configure"
	// Differs is for what Understudy does in another way than YuniKorn.
	Differs Severity = "differs"
	// Note is for what is taken over as it is.
	Note Severity = "note"
)

var gravity = map[Severity]int{Blocks: 0, Configure: 1, Differs: 2, Note: 3}

// Kind is what a finding is about.
type Kind string

// The kinds of findings.
const (
	NotRead                Kind = "not-read"                // may not be looked at
	SchedulerRuns          Kind = "scheduler-runs"          // YuniKorn's scheduler
	SchedulerStopped       Kind = "scheduler-stopped"       // its Deployment has no pod
	SchedulerPlugin        Kind = "scheduler-plugin"        // it is a plug-in of kube-scheduler
	SchedulerName          Kind = "scheduler-name"          // pods name another one than replicas listen to
	DeploymentSettings     Kind = "deployment-settings"     // in its environment and arguments
	TwoSchedulers          Kind = "two-schedulers"          // it runs, and a replica of Understudy leads
	UnderstudyLeads        Kind = "understudy-leads"        // a replica leads already
	APIVersion             Kind = "api-version"             // an API server that is too old
	AdmissionStays         Kind = "admission-stays"         // YuniKorn's admission controller goes on
	AdmissionTwice         Kind = "admission-twice"         // it and replicas would both do it
	WebhookLeft            Kind = "webhook-left"            // a webhook of it that nobody answers
	NamespaceAdmission     Kind = "namespace-admission"     // annotations for an admission that nobody does
	RESTService            Kind = "rest-service"            // clients of REST have to find the replicas
	ConfigurationNamespace Kind = "configuration-namespace" // ConfigMaps are elsewhere than replicas look
	ConfigurationMissing   Kind = "configuration-missing"   // there are none
	ConfigurationRefused   Kind = "configuration-refused"   // a value that cannot be read
	ConfigurationDiffers   Kind = "configuration-differs"   // a value without effect, or with another one
	ConfigurationHandOver  Kind = "configuration-hand-over" // values that replicas read as they start
	Manager                Kind = "manager"                 // objects for which a manager is not enabled
	ManagerOffered         Kind = "manager-offered"         // kinds for which there is one that YuniKorn has not
	ApplicationGang        Kind = "application-gang"        // an Application with task groups, which count here
	Pods                   Kind = "pods"                    // how many there are, in which state
	GeneratedID            Kind = "generated-id"            // an application that gets another ID
	SeveralIDs             Kind = "several-ids"             // a pod that names several applications or queues
	AnnotationUnread       Kind = "annotation-unread"       // a label or annotation that cannot be read
	QueueUnknown           Kind = "queue-unknown"           // pods name a queue that does not exist
	QueueOver              Kind = "queue-over"              // pods in a queue have more than its max
	PermissionMissing      Kind = "permission-missing"      // the replicas may not do what they have to
	PermissionUnknown      Kind = "permission-unknown"      // nobody knows as whom they ask
	YuniKornRole           Kind = "yunikorn-role"           // what YuniKorn may do, which stays behind
	UserRole               Kind = "user-role"               // others may do something with YuniKorn's objects
	NodePartition          Kind = "node-partition"          // a label by which older versions set a node apart
	NodeMark               Kind = "node-mark"               // a node says what is read of pods and namespaces
	NodeType               Kind = "node-type"               // what is used is counted by the type of nodes
	GangPending            Kind = "gang-pending"            // a gang of which nothing has a place yet
	GangReserving          Kind = "gang-reserving"          // a gang whose placeholders wait
	GangRunning            Kind = "gang-running"            // a gang that has placeholders left
	GangOriginatorGone     Kind = "gang-originator-gone"    // placeholders whose owner is gone
	GangOrphans            Kind = "gang-orphans"            // placeholders of which no pod is left
	TaskGroupsDiffer       Kind = "task-groups-differ"      // pods of a gang that say different groups
)

// Finding is one thing that whoever migrates has to know.
type Finding struct {
	Severity Severity `json:"severity"`
	Kind     Kind     `json:"kind"`
	// Object is what it is about, such as "pod default/one".
	Object  string `json:"object"`
	Message string `json:"message"`
	// Do says what to do; empty if nothing has to be done.
	Do string `json:"do,omitempty"`
}

// Count returns how many of the findings have a severity.
func Count(findings []Finding, of Severity) (n int) {
	for _, f := range findings {
		if f.Severity == of {
			n++
		}
	}
	return n
}

// Bounded sorts findings, the gravest first. Of each kind and severity it keeps as many as limit says, and
// one more that counts the others; zero is for no limit.
func Bounded(findings []Finding, limit int) []Finding {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(gravity[a.Severity], gravity[b.Severity]), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Object, b.Object))
	})
	if limit <= 0 {
		return findings
	}
	var kept []Finding
	for len(findings) > 0 {
		first := findings[0]
		n := slices.IndexFunc(findings, func(f Finding) bool { return f.Kind != first.Kind || f.Severity != first.Severity })
		if n < 0 {
			n = len(findings)
		}
		kept = append(kept, findings[:min(n, limit)]...)
		if n > limit {
			kept = append(kept, Finding{Severity: first.Severity, Kind: first.Kind, Object: "others", Message: fmt.Sprintf("and %d more of this kind", n-limit)})
		}
		findings = findings[n:]
	}
	return kept
}
