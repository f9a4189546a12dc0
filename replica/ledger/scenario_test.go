package ledger

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what the scenarios do into testdata")

// TestScenarios plays the files of testdata. A line that begins with "> " is an
// event or a command, what follows up to the next is what the ledger makes of
// it: changed records, then effects, "engine" on the engine, "cluster" on the
// cluster, which waits for the records to be durable. Lines with # are remarks.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			was, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			is := play(t, string(was))
			if is == string(was) {
				return
			}
			if *update {
				if err := os.WriteFile(file, []byte(is), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s tells another story (-update writes this one):\n%s", file, firstDifference(string(was), is))
		})
	}
}

func firstDifference(was, is string) string {
	a, b := strings.Split(was, "\n"), strings.Split(is, "\n")
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	from := i
	for from > 0 && !strings.HasPrefix(b[min(from, len(b)-1)], "> ") {
		from--
	}
	return "written\n" + strings.Join(a[from:min(len(a), i+4)], "\n") +
		"\nplayed\n" + strings.Join(b[from:min(len(b), i+4)], "\n")
}

// scene is a scenario under way.
type scene struct {
	t       *testing.T
	ledger  *Ledger
	changes []Change // all so far, as etcd has them
	now     Time
	out     strings.Builder
}

const sceneStart = Time(1_800_000_000_000_000_000)

func play(t *testing.T, script string) string {
	s := &scene{t: t, ledger: New(), now: sceneStart}
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "> "):
			fmt.Fprintln(&s.out, line)
			s.command(line)
		case line == "", strings.HasPrefix(line, "#"):
			fmt.Fprintln(&s.out, line)
		}
	}
	return s.out.String()
}

// command plays one line.
func (s *scene) command(line string) {
	words := strings.Fields(line)[1:]
	a := arguments{t: s.t, line: line, words: words[1:]}
	switch words[0] {
	case "wait":
		d, err := time.ParseDuration(a.word(0))
		if err != nil {
			s.t.Fatalf("%s: %v", line, err)
		}
		s.now = s.now.Add(d)
	case "tick":
		if a.word(0) == "next" {
			next, ok := s.ledger.NextDeadline()
			if !ok {
				s.t.Fatalf("%s: no deadline", line)
			}
			s.now = next
			fmt.Fprintf(&s.out, "  at %s\n", since(s.now))
		}
		s.step(Tick{s.stamp()})
	case "successor":
		s.ledger = New()
		for _, c := range s.changes {
			s.ledger.Apply(c)
		}
		fmt.Fprintln(&s.out, "  feed")
		s.effects(s.ledger.Feed())
		fmt.Fprintln(&s.out, "  due")
		s.effects(s.ledger.Due(s.now))
	case "unreadable": // successor that cannot read an application's record
		s.ledger = New()
		for _, c := range s.changes {
			if c.Key != (Key{AppID: a.word(0)}) {
				s.ledger.Apply(c)
			}
		}
		fmt.Fprintln(&s.out, "  feed")
		s.effects(s.ledger.Feed())
		fmt.Fprintln(&s.out, "  due")
		s.effects(s.ledger.Due(s.now))
	case "deadline":
		next, ok := s.ledger.NextDeadline()
		fmt.Fprintf(&s.out, "  %s %v\n", since(next), ok)
	case "waiting":
		waiting := s.ledger.Waiting(s.now) // of applications in no order
		slices.SortFunc(waiting, func(a, b Waiting) int { return strings.Compare(a.Task.ID, b.Task.ID) })
		for _, w := range waiting {
			fmt.Fprintf(&s.out, "  %s: %s\n", w.Task.ID, w.Why)
		}
	case "counts":
		c := s.ledger.Counts()
		fmt.Fprintf(&s.out, "  apps %v tasks %v\n", c.Apps, c.Tasks)
	case "history":
		s.history(a.number(0))
	default:
		event := sceneEvent(words[0], a, s.stamp())
		if event == nil {
			s.t.Fatalf("unknown command: %s", line)
		}
		s.step(s.named(event, a))
	}
}

// named gives a placeholder of ours its name.
func (s *scene) named(event Event, a arguments) Event {
	add, ok := event.(AddTask)
	app := s.ledger.App(add.AppID)
	if group, index, hold := strings.Cut(a.named("hold"), ":"); ok && hold && app != nil {
		i, err := strconv.Atoi(index)
		if err != nil {
			s.t.Fatalf("%s: %v", a.line, err)
		}
		add.Name = placeholderOf(app, group, int32(i))
		return add
	}
	return event
}

func (s *scene) stamp() Stamp { return Stamp{At: s.now} }

func (s *scene) step(event Event) {
	d := s.ledger.Step(event)
	s.changes = append(s.changes, d.Changes...)
	for _, c := range d.Changes {
		s.change(c)
	}
	s.effects(d.Effects)
	if d.Refused != "" {
		fmt.Fprintf(&s.out, "  refused: %s\n", d.Refused)
	}
}

// history ends n applications one after the other.
func (s *scene) history(n int) {
	for i := range n {
		id := fmt.Sprintf("h%05d", i)
		for _, event := range []Event{
			AddApp{Stamp: s.stamp(), ID: id, Submitted: s.now},
			AppRejected{Stamp: s.stamp(), AppID: id, Message: "no such queue"},
		} {
			s.changes = append(s.changes, s.ledger.Step(event).Changes...)
		}
		s.now = s.now.Add(time.Second)
	}
}

func since(t Time) string {
	if t == 0 {
		return "0"
	}
	return "+" + time.Duration(t-sceneStart).String()
}

// change prints a record.
func (s *scene) change(c Change) {
	var b strings.Builder
	field := func(name string, value any, set bool) {
		if set {
			fmt.Fprintf(&b, " %s=%v", name, value)
		}
	}
	switch {
	case c.Deleted():
		fmt.Fprintf(&b, "  forget %s", strings.TrimSuffix(c.Key.AppID+"/"+c.Key.TaskID, "/"))
	case c.App != nil:
		a := c.App
		var states []string
		for _, entry := range a.StateLog {
			states = append(states, string(entry.State))
		}
		fmt.Fprintf(&b, "  app %s %s", a.ID, strings.Join(states, ">"))
		field("queue", a.PlacedQueue, a.PlacedQueue != "")
		field("deadline", since(a.PlaceholderDeadline), a.PlaceholderDeadline != 0)
		for _, g := range a.Gang {
			field("gang", fmt.Sprintf("%s:%d/%d,replaced:%d,timedout:%d", g.Name, g.Bound, g.Wanted, g.Replaced, g.TimedOut), true)
		}
		for _, c := range a.Crews {
			field("crew", crewLine(c), true)
		}
		field("replacements", a.Replacements, len(a.Replacements) > 0)
		field("originator", a.Originator, a.Originator != "")
		field("asked", fmt.Sprintf("%s,%q", a.Asked, a.AskedMessage), a.Asked != "")
		field("message", fmt.Sprintf("%q", a.Message), a.Message != "")
	default:
		t := c.Task
		fmt.Fprintf(&b, "  task %s/%s %s", t.AppID, t.ID, t.State)
		field("node", t.Node, t.Node != "")
		field("swapped", "in", t.Swapped)
		field("holder", t.Holder, t.Holder != "")
		field("for", t.GivenUpFor, t.GivenUpFor != "")
		field("place", "elsewhere", t.Elsewhere)
		field("ends", t.Termination, t.Termination != "")
		field("delete", "pod", t.DeletePod)
		field("fail", "pod", t.FailPod)
		field("reason", t.Reason, t.Reason != "")
		field("retries", t.Retries, t.Retries != 0)
		field("avoids", strings.Join(t.Avoid, ","), len(t.Avoid) > 0)
		field("next", since(t.NextAttempt), t.NextAttempt != 0)
		field("message", fmt.Sprintf("%q", t.Message), t.Message != "")
	}
	fmt.Fprintln(&s.out, b.String())
}

func crewLine(c Crew) string {
	line := fmt.Sprintf("%s:%d", c.Name, c.Wanted)
	switch {
	case c.Whole:
		line += ",whole"
	case c.Pausing:
		line += fmt.Sprintf(",pauses until %s", since(c.Until))
	case c.Until != 0:
		line += fmt.Sprintf(",until %s", since(c.Until))
	}
	if c.Reason != "" {
		line += fmt.Sprintf(",%s %q", c.Reason, c.Message)
	}
	return line
}

func (s *scene) effects(effects []Effect) {
	for _, effect := range effects {
		where := "engine "
		if effect.External() {
			where = "cluster"
		}
		fmt.Fprintf(&s.out, "    %s %s\n", where, effectLine(effect))
	}
}

func effectLine(effect Effect) string {
	name := effect.Kind()
	switch e := effect.(type) {
	case SubmitApp:
		return fmt.Sprintf("%s %s recovery=%v", name, e.App.ID, e.Recovery)
	case ForgetApp:
		return fmt.Sprintf("%s %s", name, e.AppID)
	case Ask:
		return fmt.Sprintf("%s %s/%s %v", name, e.Task.AppID, e.Task.ID, e.Task.Resources)
	case Restore:
		return fmt.Sprintf("%s %s/%s on %s %v", name, e.Task.AppID, e.Task.ID, e.Task.Node, e.Task.Resources)
	case Release:
		return fmt.Sprintf("%s %s/%s %s", name, e.Task.AppID, e.Task.ID, e.Termination)
	case Bind:
		return fmt.Sprintf("%s %s/%s to %s", name, e.Task.AppID, e.Task.ID, e.Task.Node)
	case CreatePlaceholder:
		line := fmt.Sprintf("%s %s/%d of %s as %s", name, e.Group, e.Index, e.Originator.ID, e.Name)
		if e.Pause > 0 {
			line += fmt.Sprintf(" after %s", e.Pause)
		}
		return line
	case AssessGang:
		return fmt.Sprintf("%s %s/%s", name, e.App.ID, e.Originator.ID)
	case CancelPlaceholders:
		return fmt.Sprintf("%s %s", name, e.AppID)
	case DeletePod:
		return fmt.Sprintf("%s %s/%s", name, e.Task.AppID, e.Task.ID)
	case FailPod:
		return fmt.Sprintf("%s %s/%s %s", name, e.Task.AppID, e.Task.ID, e.Reason)
	case ReportTask:
		if e.Condition != "" {
			name += " " + e.Condition
		}
		return fmt.Sprintf("%s %s/%s warning=%v %s: %s", name, e.Task.AppID, e.Task.ID, e.Warning, strings.Trim(e.Reason+"/"+e.Action, "/"), e.Message)
	}
	return name
}
