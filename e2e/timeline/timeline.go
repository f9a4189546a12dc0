package timeline

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// Source says who tells of a step.
type Source string

// The sources.
const (
	FromDrill  Source = "drill"
	FromLease  Source = "lease watch"
	FromEtcd   Source = "etcd watch"
	FromRecord Source = "term record"
	FromPods   Source = "pod watch"
)

// Names of the steps that are seen from outside.
const (
	Killed        = "lead killed"
	LeaseReleased = "lease released"
	LeaseTaken    = "lease taken"
	Claimed       = "epoch claimed"
	FirstBind     = "first bind"
)

// Step is one line of a timeline.
type Step struct {
	Name   string
	At     time.Time
	Offset time.Duration // since the kill
	Source Source
	// Epoch is whose step it is; zero where it is not known.
	Epoch  uint64
	Detail string
}

// Timeline is a failover.
type Timeline struct {
	Killed   time.Time
	OldEpoch uint64
	// NewEpoch is the one that bound first, else the newest that claimed; zero
	// if there was none.
	NewEpoch uint64
	Steps    []Step
	// NoBind is the time from the last bind of the old epoch to the first of
	// the new one; zero if either is missing.
	NoBind time.Duration
}

// Complete reports whether the new epoch has bound a pod.
func (t Timeline) Complete() bool { return t.Step(FirstBind) != nil }

// Step returns the last step of that name, or nil: when a successor died too,
// its steps come first.
func (t Timeline) Step(name string) *Step {
	for i := range slices.Backward(t.Steps) {
		if t.Steps[i].Name == name {
			return &t.Steps[i]
		}
	}
	return nil
}

// Assemble builds the timeline of the failover that began when the lead of
// oldEpoch was killed.
func Assemble(
	killed time.Time, oldEpoch uint64,
	lease []history.LeaseEvent, etcd []history.EtcdEvent, pods []history.PodEvent,
) Timeline {
	t := Timeline{Killed: killed, OldEpoch: oldEpoch}
	t.add(Step{Name: Killed, At: killed, Source: FromDrill, Epoch: oldEpoch})
	t.lease(lease)
	t.etcd(etcd)
	t.pods(pods)
	slices.SortStableFunc(t.Steps, func(a, b Step) int { return a.At.Compare(b.At) })
	return t
}

func (t *Timeline) add(s Step) {
	s.Offset = s.At.Sub(t.Killed)
	t.Steps = append(t.Steps, s)
}

// lease adds every change of holder after the kill.
func (t *Timeline) lease(events []history.LeaseEvent) {
	holder := ""
	for _, ev := range events {
		was := holder
		holder = ev.Holder
		if ev.At.Before(t.Killed) || ev.Kind == history.Base || holder == was {
			continue
		}
		if holder == "" {
			t.add(Step{Name: LeaseReleased, At: ev.At, Source: FromLease, Detail: "by " + was})
			continue
		}
		t.add(Step{
			Name: LeaseTaken, At: ev.At, Source: FromLease, Epoch: uint64(max(ev.Transitions, 0)),
			Detail: fmt.Sprintf("%s, transition %d", holder, ev.Transitions),
		})
	}
}

// etcd adds every claim of a newer epoch, and what the leads of newer epochs
// wrote into the records of their terms.
func (t *Timeline) etcd(events []history.EtcdEvent) {
	terms := map[uint64][]verify.Timing{}
	for _, ev := range events {
		if ev.Deleted || ev.Base {
			continue
		}
		if ev.Key == "leader" {
			epoch, incarnation, err := verify.LeaderOf(ev.Value)
			if err != nil || epoch <= t.OldEpoch {
				continue
			}
			t.NewEpoch = max(t.NewEpoch, epoch)
			t.add(Step{
				Name: Claimed, At: ev.At, Source: FromEtcd, Epoch: epoch,
				Detail: fmt.Sprintf("%s, revision %d", incarnation, ev.Revision),
			})
		} else if strings.HasPrefix(ev.Key, "terms/") {
			epoch, _, timings, err := verify.TermOf(ev.Value)
			if err == nil && epoch > t.OldEpoch && len(timings) > 0 {
				terms[epoch] = timings // the newest version holds them all
			}
		}
	}
	for epoch, timings := range terms {
		for _, s := range timings {
			t.add(Step{Name: s.Step, At: s.At, Source: FromRecord, Epoch: epoch})
		}
	}
}

// pods adds the first bind of a newer epoch.
func (t *Timeline) pods(events []history.PodEvent) {
	var last time.Time
	node := map[string]bool{}
	for _, ev := range events {
		p := ev.Pod
		if p.Node == "" || node[p.UID] {
			continue
		}
		node[p.UID] = true
		if ev.Kind == history.Base || p.Epoch == 0 {
			continue
		}
		if p.Epoch <= t.OldEpoch {
			last = ev.At
			continue
		}
		t.NewEpoch = p.Epoch
		t.add(Step{
			Name: FirstBind, At: ev.At, Source: FromPods, Epoch: p.Epoch,
			Detail: fmt.Sprintf("%s/%s to %s", p.Namespace, p.Name, p.Node),
		})
		if !last.IsZero() {
			t.NoBind = ev.At.Sub(last)
		}
		return
	}
}

// MarshalJSON gives offsets in milliseconds.
func (t Timeline) MarshalJSON() ([]byte, error) {
	type step struct {
		Name   string  `json:"step"`
		Offset float64 `json:"t_ms"`
		Source Source  `json:"source"`
		Epoch  uint64  `json:"epoch,omitempty"`
		Detail string  `json:"detail,omitempty"`
	}
	out := struct {
		Killed   time.Time `json:"killed"`
		OldEpoch uint64    `json:"old_epoch"`
		NewEpoch uint64    `json:"new_epoch"`
		NoBind   float64   `json:"no_bind_ms"`
		Steps    []step    `json:"steps"`
	}{t.Killed, t.OldEpoch, t.NewEpoch, ms(t.NoBind), nil}
	for _, s := range t.Steps {
		out.Steps = append(out.Steps, step{s.Name, ms(s.Offset), s.Source, s.Epoch, s.Detail})
	}
	return json.Marshal(out)
}

// Print writes the timeline as a table.
func (t Timeline) Print(w io.Writer) error {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "WHEN\tSTEP\tEPOCH\tSOURCE\tDETAIL")
	for _, s := range t.Steps {
		epoch := "-"
		if s.Epoch != 0 {
			epoch = fmt.Sprint(s.Epoch)
		}
		fmt.Fprintf(tw, "T%+.0f ms\t%s\t%s\t%s\t%s\n", ms(s.Offset), s.Name, epoch, s.Source, s.Detail)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if t.NoBind > 0 {
		fmt.Fprintf(&b, "no bind for %.0f ms\n", ms(t.NoBind))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
