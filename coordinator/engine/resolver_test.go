package engine_test

import (
	"os"
	"os/user"
	"slices"
	"strings"
	"testing"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/common/security"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// TestGroupsAreLookedUp: who names no group has those that the operating system of the replica knows, and is
// refused if it knows no such user. Who names groups has them.
func TestGroupsAreLookedUp(t *testing.T) {
	who, group := someoneInAGroup(t)
	if isolated(t) {
		return
	}
	f := start(t, withQueues(resolving("os", group)))
	f.engage()
	for _, c := range []struct {
		name, user string
		groups     []string
		refused    string
	}{
		{name: "known", user: who},
		{name: "unknown", user: "no-such-user", refused: "unknown user"},
		{name: "named", user: "no-such-user-2", groups: []string{group}},
		{name: "other", user: who, groups: []string{"another-group"}, refused: "no placement rule matched"},
	} {
		if said := f.refusal(c.name, c.user, c.groups); !strings.Contains(said, c.refused) || (said == "") != (c.refused == "") {
			t.Errorf("%s: refused because %q, want %q", c.name, said, c.refused)
		}
	}
}

// TestGroupsAreNotLookedUp: without a resolver who names no group is in that of their own name.
func TestGroupsAreNotLookedUp(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(resolving("", "ann")))
	f.engage()
	if said := f.refusal("own", "ann", nil); said != "" {
		t.Errorf("ann is refused: %s", said)
	}
	if said := f.refusal("else", "bob", nil); said == "" {
		t.Error("bob is in a group that nobody gave him")
	}
}

// TestTheCoreLooksUpWhatItIsGuardedAgainst: what is made before the core starts is what it asks.
func TestTheCoreLooksUpWhatItIsGuardedAgainst(t *testing.T) {
	if isolated(t) {
		return
	}
	settings, access := engine.Directory("cn=dev,ou=groups")
	engine.ResolveBy(&configs.SchedulerConfig{Partitions: []configs.PartitionConfig{
		{Name: configs.DefaultPartition, UserGroupResolver: configs.UserGroupResolver{Type: security.Ldap}},
	}}, settings, access)
	f := start(t, withQueues(resolving("", "dev")))
	f.engage()
	if said := f.refusal("ann", "ann", nil); said != "" {
		t.Errorf("ann is refused: %s", said)
	}
}

func resolving(resolver, group string) string {
	return "partitions:\n  - name: default\n    usergroupresolver: {type: " + resolver + "}\n    queues:\n      - {name: root, queues: [{name: theirs, submitacl: \" " + group + "\"}]}\n"
}

// refusal submits an application, and returns why it is refused, empty if it is not.
func (f *fixture) refusal(id, user string, groups []string) (why string) {
	f.t.Helper()
	app := newApp(id, "root.theirs")
	app.User, app.Groups = user, groups
	f.do(ledger.SubmitApp{App: app})
	f.until("an answer to "+id, func() bool {
		return slices.ContainsFunc(f.events, func(e ledger.Event) bool {
			switch x := e.(type) {
			case ledger.AppAccepted:
				return x.AppID == id
			case ledger.AppRejected:
				if x.AppID == id {
					why = x.Message
					return true
				}
			}
			return false
		})
	})
	return why
}

// someoneInAGroup is a user of this machine whose group has another name: without a resolver the core takes the user's.
func someoneInAGroup(t *testing.T) (name, group string) {
	t.Helper()
	all, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(all)) {
		name, _, _ = strings.Cut(line, ":")
		who, err := user.Lookup(name)
		if err != nil {
			continue
		}
		if g, err := user.LookupGroupId(who.Gid); err == nil && g.Name != name && configs.GroupRegExp.MatchString(g.Name) {
			return name, g.Name
		}
	}
	t.Skip("every user of this machine has a group of the same name")
	return "", ""
}
