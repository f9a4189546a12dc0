package command

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/understudy-ha/understudy/coordinator/serve"
)

// printTable shows the replicas, what is wrong with them, and the terms.
func printTable(w io.Writer, answers []answer, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "REPLICA", "ROLE", "EPOCH", "LEASE", "FENCE", "REVISION", "LAG", "PENDING", "APPS", "TASKS", "UPTIME", "RESTARTS")
	for _, a := range answers {
		if a.Status == nil {
			row(t, cmp.Or(a.name, a.Server), "no answer", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-")
			continue
		}
		replicaRow(t, a.Status, now)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, remark := range remarks(answers) {
		if _, err := fmt.Fprintln(w, "! "+remark); err != nil {
			return err
		}
	}
	terms := newestTerms(answers)
	if len(terms) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	row(t, "TERM", "LEAD", "STARTED", "LASTED", "BEGAN", "ENDED", "RECOVERY")
	for _, term := range terms {
		termRow(t, term, now)
	}
	return t.Flush()
}

// row writes the cells of a line. Errors of w come back from Flush.
func row(w io.Writer, cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")) }

func replicaRow(w io.Writer, s *serve.Status, now time.Time) {
	role, revision, lag, pending := string(s.Role), s.View.Revision, strconv.FormatInt(s.View.Lag, 10), "-"
	switch {
	case s.Role == serve.Lead:
		// A lead writes the mirror, it does not follow it.
		revision, lag, pending = s.Mirror.Revision, "-", fmt.Sprint(s.Mirror.Pending)
	case !s.View.Synced:
		role, lag = role+" (syncing)", "-"
	case !s.View.Connected:
		role += " (no etcd)"
	}
	row(w, s.Replica, role, fmt.Sprint(max(s.Epoch, s.Leader.Epoch)), lease(s.Leader), cmp.Or(string(s.Fence), "-"), fmt.Sprint(revision), lag, pending,
		counts(s.Counts.Apps), counts(s.Counts.Tasks), span(time.Duration(s.UptimeSeconds*float64(time.Second))), restarts(s, now))
}

// lease says for how long the Lease is held from a renewal on.
func lease(l serve.Leader) string {
	switch duration := span(time.Duration(l.LeaseSeconds * float64(time.Second))); {
	case l.LeaseSeconds == 0:
		return "-"
	case l.LeaseStretched:
		return duration + " (stretched)"
	default:
		return duration
	}
}

// restarts says how often a replica was started again, and how it came to be last.
func restarts(s *serve.Status, now time.Time) string {
	if s.LastEnd == nil {
		return strconv.Itoa(s.Restarts)
	}
	return fmt.Sprintf("%d (%s %s ago: %s)", s.Restarts, s.LastEnd.Reason, span(now.Sub(s.LastEnd.At)), s.LastEnd.How)
}

// counts lists states by name, so that two replicas can be compared by eye.
func counts(states map[string]int) string {
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(states)) {
		if n := states[state]; n != 0 {
			parts = append(parts, fmt.Sprintf("%s=%d", state, n))
		}
	}
	return cmp.Or(strings.Join(parts, " "), "-")
}

// remarks are the things an operator should not have to look for.
func remarks(answers []answer) []string {
	var list []string
	leads := map[uint64][]string{}
	for _, a := range answers {
		if a.Status == nil {
			list = append(list, fmt.Sprintf("%s: %s", cmp.Or(a.name, a.Server), a.Error))
			continue
		}
		if a.Role == serve.Lead {
			leads[a.Epoch] = append(leads[a.Epoch], a.Replica)
		}
		if a.Fence == serve.FenceAbsent {
			list = append(list, a.Replica+": the API server does not refuse bindings of an older epoch: deploy/base/fence.yaml is not in force")
		}
		for _, m := range a.Managers {
			if m.Problem != "" {
				first, _, _ := strings.Cut(m.Problem, "\n")
				list = append(list, fmt.Sprintf("%s: app manager %s fails in %s", a.Replica, m.Name, first))
			}
		}
		if e := a.Configuration.Error; e != "" {
			consequence := "the last valid one is in force"
			if a.Configuration.Source == "" {
				consequence = "there is no other to lead by"
			}
			list = append(list, fmt.Sprintf("%s: the queue configuration is not valid, %s: %s", a.Replica, consequence, e))
		}
		if c := a.Configuration; c.Waiting != "" {
			list = append(list, fmt.Sprintf("%s: configuration %s waits until it is started again, %s is in force: hot refresh is off", a.Replica, c.Waiting, c.Hash))
		}
		if keys := a.Configuration.Restart; len(keys) > 0 {
			list = append(list, fmt.Sprintf("%s: it is started again when its turn has come, to take on %s", a.Replica, strings.Join(keys, ", ")))
		}
		for _, s := range a.Suspended {
			list = append(list, fmt.Sprintf("%s: suspended: %s", a.Replica, s))
		}
		if e := a.Mirror.LastError; e != "" && a.Role == serve.Lead {
			list = append(list, fmt.Sprintf("%s: mirror: %s", a.Replica, e))
		}
		if e := a.View.LastError; e != "" {
			list = append(list, fmt.Sprintf("%s: view: %s", a.Replica, e))
		}
		for _, r := range a.View.Refused {
			list = append(list, fmt.Sprintf("%s: record %s is not read: %s", a.Replica, r.Key, r.Error))
		}
	}
	if different := differing(answers); different != "" {
		list = append(list, different)
	}
	if len(leads) == 0 && allAsked(answers) {
		list = append(list, "no replica leads")
	}
	for epoch, names := range leads {
		if len(names) > 1 {
			list = append(list, fmt.Sprintf("several leads in epoch %d: %s", epoch, strings.Join(names, ", ")))
		}
	}
	return list
}

// differing says which replicas have which configuration in force, empty if all have the
// same. Of those that were not asked, gossip tells.
func differing(answers []answer) string {
	by := make(map[string]string)
	for _, a := range answers {
		if a.Status == nil {
			continue
		}
		for _, m := range a.Members {
			if !m.Gone {
				by[m.Replica] = m.Configuration
			}
		}
	}
	for _, a := range answers {
		if a.Status != nil {
			by[a.Replica] = a.Configuration.Hash
		}
	}
	having := make(map[string][]string)
	for _, name := range slices.Sorted(maps.Keys(by)) {
		if hash := by[name]; hash != "" {
			having[hash] = append(having[hash], name)
		}
	}
	if len(having) < 2 {
		return ""
	}
	var parts []string
	for _, hash := range slices.Sorted(maps.Keys(having)) {
		parts = append(parts, hash+" in "+strings.Join(having[hash], ", "))
	}
	return "the replicas have different configurations in force: " + strings.Join(parts, "; ")
}

// allAsked reports whether a lead, if there were one, would be among the
// answers: everyone answered, and nobody follows somebody else.
func allAsked(answers []answer) bool {
	asked := map[string]bool{"": true}
	for _, a := range answers {
		if a.Status == nil {
			return false
		}
		asked[a.Replica] = true
	}
	return !slices.ContainsFunc(answers, func(a answer) bool {
		name, _, _ := strings.Cut(a.Leader.Identity, "_")
		return !asked[name]
	})
}

// newestTerms merges what the replicas know of the history. Of a term that
// several know, the account that has an end wins, then the one with more steps.
func newestTerms(answers []answer) []serve.Term {
	known := map[uint64]serve.Term{}
	for _, a := range answers {
		if a.Status == nil {
			continue
		}
		for _, term := range a.Terms {
			old, ok := known[term.Epoch]
			ended := !term.Ended.IsZero() && old.Ended.IsZero()
			same := term.Ended.IsZero() == old.Ended.IsZero()
			if !ok || ended || (same && len(term.Timings) > len(old.Timings)) {
				known[term.Epoch] = term
			}
		}
	}
	return slices.SortedFunc(maps.Values(known), func(a, b serve.Term) int { return cmp.Compare(b.Epoch, a.Epoch) })
}

func termRow(w io.Writer, t serve.Term, now time.Time) {
	end, lasted := now, ""
	switch {
	case !t.Ended.IsZero():
		end = t.Ended
	case t.EndReason == "":
		lasted = "+" // It still lasts, as far as is known.
	}
	recovery := "-"
	if n := len(t.Timings); n > 0 {
		recovery = fmt.Sprintf("%s to %s", millis(t.Timings[n-1].Millis), t.Timings[n-1].Step)
	}
	row(w, fmt.Sprint(t.Epoch), t.Incarnation, t.Started.Local().Format(time.DateTime),
		span(end.Sub(t.Started))+lasted, cmp.Or(t.Reason, "-"), cmp.Or(t.EndReason, "-"), recovery)
}

func millis(ms float64) string {
	switch {
	case ms == 0:
		return "0"
	case ms < 10:
		return fmt.Sprintf("%.1fms", ms)
	case ms < 10_000:
		return fmt.Sprintf("%.0fms", ms)
	}
	return fmt.Sprintf("%.1fs", ms/1000)
}

// span rounds a duration to what is worth reading.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < 24*time.Hour:
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%dd%s", d/(24*time.Hour), (d % (24 * time.Hour)).Round(time.Hour))
}
