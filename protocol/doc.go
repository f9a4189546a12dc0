// Package protocol is the contract between Understudy's coordinator and the
// app managers that tell it about applications: the front door of the house.
//
// An AppManager watches whatever describes applications in the cluster (plain
// pods, a custom resource) and reports it through the
// ApplicationManagementProtocol, which the coordinator implements. A manager
// that also implements Recoverable is asked, when a replica becomes lead, what
// already runs.
//
// The names and signatures are those of YuniKorn's application management
// interfaces, so that an app manager written for YuniKorn compiles here once
// its import path is changed. The package holds nothing else.
//
// Guarantees to an app manager:
//
//   - ServiceInit, Start and Stop are called in this order, at most once each, in
//     every replica. On an understudy reports are noted, for the replica to act on
//     should it lead, and calls that read are answered from what the lead knows.
//   - Every method of the protocol may be called from any goroutine, and may be
//     called again with the same content: repetition changes nothing.
//   - A call returns once the coordinator has taken the report over. It may
//     wait while the coordinator is busy; it never drops a report.
//   - After the term of the lead has ended, calls return without effect.
package protocol
