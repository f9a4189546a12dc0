package ledger

import (
	"strconv"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// arguments are the words of a scenario's line after the first: some by place,
// then name=value.
type arguments struct {
	t     *testing.T
	line  string
	words []string
}

// word returns the word at place i, empty if there is none.
func (a arguments) word(i int) string {
	if i < len(a.words) && !strings.Contains(a.words[i], "=") {
		return a.words[i]
	}
	return ""
}

// rest returns what is said from place i on.
func (a arguments) rest(i int) string { return strings.Join(a.words[min(i, len(a.words)):], " ") }

func (a arguments) number(i int) int {
	n, err := strconv.Atoi(a.word(i))
	if err != nil {
		a.t.Fatalf("%s: %v", a.line, err)
	}
	return n
}

// named returns the value of name=value.
func (a arguments) named(name string) string {
	for _, word := range a.words {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value
		}
	}
	return ""
}

// key reads an application/task at the first place.
func (a arguments) key() (app, task string) {
	app, task, ok := strings.Cut(a.word(0), "/")
	if !ok {
		a.t.Fatalf("%s: want application/task", a.line)
	}
	return app, task
}

func (a arguments) resources() map[string]int64 {
	value := a.named("vcore")
	if value == "" {
		return nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		a.t.Fatalf("%s: %v", a.line, err)
	}
	return map[string]int64{"vcore": n}
}

// sceneEvent reads an event; nil if name is none.
func sceneEvent(name string, a arguments, at Stamp) Event {
	switch name {
	case "app":
		return a.addApp(at)
	case "accepted":
		return AppAccepted{at, a.word(0), a.word(1)}
	case "rejected":
		return AppRejected{at, a.word(0), a.rest(1)}
	case "ended":
		return AppEnded{at, a.word(0), AppState(a.word(1)), a.rest(2)}
	case "complete-app":
		return CompleteApp{at, a.word(0)}
	case "fail-app":
		return FailApp{at, a.word(0), a.rest(1)}
	case "kill-app":
		return KillApp{at, a.word(0)}
	case "remove-app":
		return RemoveApp{at, a.word(0)}
	case "crew":
		wanted, err := strconv.ParseInt(a.named("wanted"), 10, 32)
		if err != nil {
			a.t.Fatalf("%s: %v", a.line, err)
		}
		return SetCrew{at, a.word(0), a.word(1), a.named("uid"), int32(wanted), a.named("whole") != "", Rank{Together: a.named("together") != ""}}
	case "continue":
		return Continue{at, a.word(0)}
	case "placeholder-failed":
		return PlaceholderFailed{at, a.word(0), a.rest(1)}
	case "placeholder-delayed":
		return PlaceholderDelayed{at, a.word(0), a.rest(1)}
	}
	return a.taskEvent(name, at)
}

func (a arguments) taskEvent(name string, at Stamp) Event {
	if a.word(0) == "" {
		return nil
	}
	app, task := a.key()
	switch name {
	case "task":
		return a.addTask(at)
	case "complete":
		return CompleteTask{at, app, task}
	case "remove":
		return RemoveTask{at, app, task}
	case "resize":
		return AddTask{Stamp: at, AppID: app, ID: task, Resources: a.resources()}
	case "allocated":
		return Allocated{Stamp: at, AppID: app, TaskID: task, Node: a.word(1), Swapped: a.word(2) == "swapped"}
	case "released":
		heir, node, _ := strings.Cut(a.named("for"), ":")
		return Released{at, app, task, Termination(a.word(1)), a.rest(2), heir, node}
	case "ask-released":
		return AskReleased{at, app, task, Termination(a.word(1)), a.rest(2)}
	case "ask-rejected":
		return AskRejected{at, app, task, a.rest(1)}
	case "bound":
		return BindDone{at, app, task, a.word(1)}
	case "bind-failed":
		return BindFailed{at, app, task, a.rest(1), false, ""}
	case "bind-refused":
		return BindFailed{at, app, task, a.rest(1), true, ""}
	case "node-lost":
		return NodeLost{at, app, task, a.rest(1), ""}
	case "delete-failed":
		return DeleteFailed{at, app, task, a.rest(1), false}
	case "delete-refused":
		return DeleteFailed{at, app, task, a.rest(1), true}
	case "pod-not-failed":
		return PodNotFailed{at, app, task, a.rest(1), false}
	case "pod-failed":
		return PodFailed{at, app, task}
	}
	return nil
}

func (a arguments) addApp(at Stamp) Event {
	e := AddApp{
		Stamp: at, ID: a.word(0), Manager: a.named("manager"), Queue: "root.default", User: "u", Submitted: at.At,
		Style: GangStyle(a.named("style")), Recovery: a.named("recovery") != "",
	}
	if timeout := a.named("timeout"); timeout != "" {
		n, err := strconv.ParseInt(timeout, 10, 64)
		if err != nil {
			a.t.Fatalf("%s: %v", a.line, err)
		}
		e.PlaceholderTimeout = n
	}
	if groups := a.named("groups"); groups != "" {
		for group := range strings.SplitSeq(groups, ",") {
			name, count, _ := strings.Cut(group, ":")
			n, err := strconv.ParseInt(count, 10, 32)
			if err != nil {
				a.t.Fatalf("%s: %v", a.line, err)
			}
			e.TaskGroups = append(e.TaskGroups, v1alpha1.TaskGroup{Name: name, MinMember: int32(n)})
		}
	}
	return e
}

// addTask reads a pod; hold=group:index makes it a placeholder that was created
// for that member, hold=group one of another name, group=name a member of a group.
func (a arguments) addTask(at Stamp) Event {
	app, task := a.key()
	e := AddTask{
		Stamp: at, AppID: app, ID: task, Namespace: "default", Name: "pod-" + task, TaskGroup: a.named("group"),
		Resources: a.resources(), Submitted: at.At, Node: a.named("node"), Terminated: a.named("terminated") != "",
	}
	if hold := a.named("hold"); hold != "" {
		e.Placeholder = true
		e.TaskGroup, _, _ = strings.Cut(hold, ":")
	}
	return e
}
