package ledger

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strings"
	"time"
)

// member is a place in a gang: one of those that a task group wants.
type member struct {
	group string
	index int32
}

// key is the member's key in App.Replacements.
func (m member) key() string { return fmt.Sprintf("%s/%d", m.group, m.index) }

// maxReplacements is how often the placeholder of a member is made anew. Whoever ends
// it so often does not want it.
const maxReplacements = 5

// firstReplacement is the pause before a placeholder is made anew for the first time;
// it doubles each time. Where somebody deletes all of an application, its pods in no
// particular order, the pods that need the placeholder are gone by then.
const (
	firstReplacement = time.Second
	lastReplacement  = firstReplacement << maxReplacements
)

// missingPlaceholders returns the creations that nothing confirms: for each group as
// many as it lacks. Placeholders that somebody else has named, as older versions did,
// stand for members too, but not for a particular one.
func missingPlaceholders(n *entry) []Effect {
	if !n.real() {
		return nil
	}
	named := make(map[string]bool, n.holds)
	for _, t := range n.tasks {
		if t.Placeholder {
			named[t.Name] = true
		}
	}
	var effects []Effect
	originator := n.originator()
	for _, group := range n.app.TaskGroups {
		lacks := n.wanted(group.Name) - n.keptIn[group.Name]
		for i := int32(0); i < group.MinMember && lacks > 0; i++ {
			if !named[placeholderOf(n.app, group.Name, i)] {
				effects = append(effects, createPlaceholder(n, originator, member{group.Name, i}))
				lacks--
			}
		}
	}
	return effects
}

func createPlaceholder(n *entry, originator *Task, m member) CreatePlaceholder {
	var pause time.Duration
	if replaced := n.app.Replacements[m.key()]; replaced > 0 {
		pause = doubled(firstReplacement, lastReplacement, int(replaced)-1)
	}
	return CreatePlaceholder{
		App: n.app, Originator: originator, Group: m.group, Index: m.index,
		Name: placeholderOf(n.app, m.group, m.index), Pause: pause,
	}
}

// placeholderOf is the name under which the placeholder of a member is made now.
func placeholderOf(app *App, group string, index int32) string {
	return PlaceholderName(app.ID, app.Submitted, group, index, app.Replacements[member{group, index}.key()])
}

// PlaceholderName is the name of the pod for a member of a task group of an
// application that was submitted at some time, made anew so many times. It is as
// YuniKorn makes names, but that the nonce follows from what the placeholder is for:
// it is the same in every term, so that a creation may be repeated.
func PlaceholderName(appID string, submitted Time, group string, index int32, replaced uint32) string {
	h := fnv.New64a()
	for _, part := range []string{appID, group} {
		fmt.Fprintf(h, "%d %s ", len(part), part)
	}
	var rest [16]byte
	binary.LittleEndian.PutUint64(rest[:], uint64(submitted))
	binary.LittleEndian.PutUint32(rest[8:], uint32(index))
	binary.LittleEndian.PutUint32(rest[12:], replaced)
	h.Write(rest[:])
	name := "tg"
	for _, part := range []string{nameable(appID, 28), nameable(group, 20), nonce(h.Sum64())} {
		if part != "" {
			name += "-" + part
		}
	}
	return name
}

// nonce is a hash in ten characters, which hold no more than 51 bits of it.
func nonce(hash uint64) string {
	const digits = "abcdefghijklmnopqrstuvwxyz0123456789"
	var b [10]byte
	for i := range b {
		b[i] = digits[hash%uint64(len(digits))]
		hash /= uint64(len(digits))
	}
	return string(b[:])
}

// nameable cuts s to a part of a DNS-1123 name of at most limit characters.
func nameable(s string, limit int) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		if b.Len() == limit {
			break
		}
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else {
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}

// keptHold reports whether the task is a placeholder that is there to stay.
func (t *Task) keptHold() bool {
	return t.Placeholder && !t.State.Terminal() && t.State != TaskStateKilling
}

// real reports whether an application has a task that is no placeholder and has not
// ended.
func (e *entry) real() bool { return e.live > e.holds }

// unbegun reports whether no real task of an application has got further than to be known.
// Placeholders may have: without records, as after YuniKorn has scheduled, they tell that the
// application waited for its gang. YuniKorn runs half a gang then.
func (e *entry) unbegun() bool {
	if e.fresh == len(e.tasks) {
		return true
	}
	for _, t := range e.tasks {
		if t.State != TaskStateNew && !t.Placeholder {
			return false
		}
	}
	return true
}

// bereft reports whether an application has had real tasks and has none any more.
func (e *entry) bereft() bool { return e.app.Originator != "" && !e.real() }

// wanted returns how many members a task group wants.
func (e *entry) wanted(group string) int32 {
	for _, g := range e.app.Gang {
		if g.Name == group {
			return g.Wanted
		}
	}
	return 0
}

// memberOf returns the member for which a placeholder was made by its name.
func (e *entry) memberOf(name string) (member, bool) {
	if e.members == nil {
		e.members = make(map[string]member)
		for _, group := range e.app.TaskGroups {
			for i := range group.MinMember {
				e.members[placeholderOf(e.app, group.Name, i)] = member{group.Name, i}
			}
		}
	}
	m, ok := e.members[name]
	return m, ok
}
