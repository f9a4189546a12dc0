package coordinator

import (
	"testing"

	"github.com/understudy-ha/understudy/replica/roster"
)

// TestRequestsGoToTheHolderOfTheLeaseAlone: an address comes from the member that holds the
// Lease, and its host from gossip itself. What a member says of itself is a port.
func TestRequestsGoToTheHolderOfTheLeaseAlone(t *testing.T) {
	member := func(name, address string, port uint16) roster.Member {
		return roster.Member{Name: name, Address: address, Standing: roster.Standing{REST: port, Role: "lead", HTTP: "192.0.2.9:1"}}
	}
	self, gone := member("self", "10.0.0.1:7946", 9080), member("gone", "10.0.0.2:7946", 9080)
	self.Self, gone.Gone = true, true
	members := []roster.Member{
		self, gone, member("lead", "10.0.0.3:7946", 9080), member("six", "[fd00::1]:7946", 9081), member("mute", "10.0.0.4:7946", 0),
	}
	for incarnation, want := range map[string]string{
		"lead": "10.0.0.3:9080", "six": "[fd00::1]:9081",
		"self": "", "gone": "", "mute": "", "stranger": "", "": "",
	} {
		if got := addressOf(members, incarnation); got != want {
			t.Errorf("%q is at %q, want %q", incarnation, got, want)
		}
	}
}

// TestWhatListensElsewhereIsNotOffered: another replica that asked the port at this host
// would reach somebody else, or itself.
func TestWhatListensElsewhereIsNotOffered(t *testing.T) {
	for _, c := range []struct {
		listens, at string
		want        uint16
	}{
		{"[::]:9080", "10.0.0.1:7946", 9080},
		{"0.0.0.0:9080", "10.0.0.1:7946", 9080},
		{"10.0.0.1:9081", "10.0.0.1:7946", 9081},
		{"127.0.0.1:9080", "127.0.0.1:7946", 9080},
		{"127.0.0.1:9080", "10.0.0.1:7946", 0},
		{"10.0.0.2:9080", "10.0.0.1:7946", 0},
		{"", "10.0.0.1:7946", 0},
	} {
		if got := portAt(c.listens, c.at); got != c.want {
			t.Errorf("listening at %s, seen at %s: %d, want %d", c.listens, c.at, got, c.want)
		}
	}
}
