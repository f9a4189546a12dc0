package coordinator

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/settings"
	"github.com/understudy-ha/understudy/replica/roster"
)

// company is replicas with gossip that tells the truth, a moment late.
type company struct {
	t    *testing.T
	now  time.Time
	all  []*actor
	lead *actor
	log  []string
}

// actor is a replica in a company.
type actor struct {
	name  string
	life  int // how often it was started again
	stale bool
	ready bool
	gone  time.Time // zero while it is there
	// back is when it is ready again.
	back time.Time
}

func newCompany(t *testing.T, n int) *company {
	c := &company{t: t, now: time.Unix(1000, 0)}
	for i := range n {
		c.all = append(c.all, &actor{name: fmt.Sprint("r", i), ready: true})
	}
	c.lead = c.all[n-1]
	c.lead.ready = false // as what leads says of itself
	return c
}

// members are as one of them sees them.
func (c *company) members(of *actor) []roster.Member {
	list := []roster.Member{c.member(of)}
	for _, a := range c.all {
		if a == of {
			continue
		}
		if a.life > 0 {
			list = append(list, roster.Member{Name: fmt.Sprint(a.name, "_", a.life-1), Gone: true, Since: a.gone, Standing: roster.Standing{Replica: a.name}})
		}
		if a.gone.IsZero() || c.now.After(a.gone.Add(2*time.Second)) {
			list = append(list, c.member(a))
		}
	}
	return list
}

func (c *company) member(a *actor) roster.Member {
	role := serve.Understudy
	if a == c.lead {
		role = serve.Lead
	}
	since := time.Time{}
	if a.life > 0 {
		since = a.gone.Add(2 * time.Second)
	}
	return roster.Member{Name: fmt.Sprint(a.name, "_", a.life), Since: since, Standing: roster.Standing{Replica: a.name, Role: string(role), Ready: a.ready, Stale: a.stale}}
}

// there counts those that could lead, or lead.
func (c *company) there() (n int) {
	for _, a := range c.all {
		if a.ready || a == c.lead {
			n++
		}
	}
	return n
}

// step lets one of them take its turn if that has come.
func (c *company) step(a *actor) {
	switch {
	case !a.stale || c.now.Before(a.back):
	case a == c.lead && leadsTurn(c.members(a), c.now):
		c.log = append(c.log, "lead "+a.name)
		if name := roster.Successor(c.members(a), ""); name != "" {
			for _, next := range c.all {
				if fmt.Sprint(next.name, "_", next.life) == name {
					if next.stale {
						c.t.Errorf("%s follows, which has to end as well", next.name)
					}
					c.lead, next.ready = next, false
				}
			}
		} else if len(c.all) > 1 {
			c.t.Error("nobody follows")
		}
		c.restart(a)
	case a != c.lead && understudysTurn(c.members(a), c.now):
		c.log = append(c.log, a.name)
		c.restart(a)
	}
	if at := c.there(); at < len(c.all)-1 && !c.t.Failed() {
		c.t.Errorf("%d of %d are there after %v", at, len(c.all), c.log)
	}
}

func (c *company) restart(a *actor) {
	a.life++
	a.stale, a.ready, a.gone, a.back = false, false, c.now, c.now.Add(10*time.Second)
}

// TestSettingsAreTakenOnByOneAfterTheOther: whatever the order in which replicas look, never
// are two away, the lead ends last and is followed by one that has the settings, and each
// ends once; another change on the way begins that anew.
func TestSettingsAreTakenOnByOneAfterTheOther(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := newCompany(t, 1+r.IntN(4))
		first, changes := c.lead, 1+r.IntN(2)
		change := func() {
			for _, a := range c.all {
				a.stale = true
			}
			changes--
		}
		change()
		for range 400 {
			c.now = c.now.Add(time.Second)
			for _, a := range c.all {
				if !a.back.IsZero() && !c.now.Before(a.back) {
					a.back = time.Time{}
					a.ready = a != c.lead
				}
			}
			for _, i := range r.Perm(len(c.all)) {
				c.step(c.all[i])
			}
			if changes > 0 && r.IntN(40) == 0 {
				change()
			}
		}
		if changes == 0 && len(c.log) == len(c.all) && c.log[len(c.log)-1] != "lead "+first.name {
			t.Errorf("seed %d: the lead was not the last: %v", seed, c.log)
		}
		if len(c.log) < len(c.all) || len(c.log) > 2*len(c.all) {
			t.Errorf("seed %d: with %d replicas %v", seed, len(c.all), c.log)
		}
		for _, a := range c.all {
			if a.stale {
				t.Errorf("seed %d: %s has not taken the settings on: %v", seed, a.name, c.log)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestWhoseTurnItIs(t *testing.T) {
	now := time.Unix(1000, 0)
	m := func(name string, role serve.Role, ready, stale bool) roster.Member {
		return roster.Member{Name: name + "_1", Standing: roster.Standing{Replica: name, Role: string(role), Ready: ready, Stale: stale}}
	}
	gone := func(name string, ago time.Duration) roster.Member {
		return roster.Member{Name: name + "_0", Gone: true, Since: now.Add(-ago), Standing: roster.Standing{Replica: name}}
	}
	recent := func(m roster.Member) roster.Member { m.Since = now.Add(-time.Second); return m }
	lead := m("lead", serve.Lead, false, true)
	self := m("b", serve.Understudy, true, true)
	for name, tt := range map[string]struct {
		members []roster.Member
		want    bool
	}{
		"a lead that is alone":                         {[]roster.Member{lead}, true},
		"a lead whose understudy is on its way back":   {[]roster.Member{lead, gone("b", time.Second)}, false},
		"a lead whose understudy will not come back":   {[]roster.Member{lead, gone("b", time.Hour)}, true},
		"a lead whose understudy comes":                {[]roster.Member{lead, gone("b", time.Second), m("b", serve.Understudy, false, false)}, false},
		"a lead while a second understudy comes":       {[]roster.Member{lead, m("b", serve.Understudy, true, false), recent(m("c", serve.Understudy, false, false))}, false},
		"one while another one comes":                  {[]roster.Member{self, m("a", serve.Understudy, true, false), recent(m("c", serve.Understudy, false, false)), lead}, false},
		"a lead whose understudy is back":              {[]roster.Member{lead, gone("b", time.Second), m("b", serve.Understudy, true, false)}, true},
		"a lead before the others":                     {[]roster.Member{lead, m("a", serve.Understudy, true, false), self}, false},
		"one with nobody but the lead":                 {[]roster.Member{self, lead}, true},
		"one that is not ready":                        {[]roster.Member{m("b", serve.Understudy, false, true), m("a", serve.Understudy, true, true), lead}, true},
		"one with another that comes first":            {[]roster.Member{self, m("a", serve.Understudy, true, true), lead}, false},
		"one that comes first":                         {[]roster.Member{self, m("c", serve.Understudy, true, true), lead}, true},
		"one after another":                            {[]roster.Member{self, m("a", serve.Understudy, true, false), lead}, true},
		"one with another that is not ready":           {[]roster.Member{self, m("a", serve.Understudy, false, false), lead}, false},
		"one with another that is away":                {[]roster.Member{self, m("c", serve.Understudy, true, true), gone("a", time.Second), lead}, false},
		"one with a third that does not come up":       {[]roster.Member{self, m("a", serve.Understudy, false, true), m("c", serve.Understudy, true, true), lead}, true},
		"one while a promotion is under way":           {[]roster.Member{self, m("a", serve.Understudy, true, false), m("c", serve.Recovering, false, false)}, false},
		"one of which an older life is known, as gone": {[]roster.Member{self, gone("b", time.Second), m("a", serve.Understudy, true, false), lead}, true},
	} {
		turn := understudysTurn
		if tt.members[0].Replica == "lead" {
			turn = leadsTurn
		}
		if got := turn(tt.members, now); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestTheFileCountsBeforeTheConfigMaps where it says anything but its default.
func TestTheFileCountsBeforeTheConfigMaps(t *testing.T) {
	set, err := settings.Parse(map[string]string{settings.KeyPlaceholderImage: "registry.example/pause:2", settings.KeyRunAsUser: "7", settings.KeyFSGroup: "9"})
	if err != nil {
		t.Fatal(err)
	}
	few, err := settings.Parse(map[string]string{settings.KeyQPS: "50"})
	if err != nil {
		t.Fatal(err)
	}
	file := config.Default().Kubernetes
	if qps, burst := rateOf(file, set); qps != file.QPS || burst != file.Burst {
		t.Errorf("%v and %d, the ConfigMaps say nothing", qps, burst)
	}
	if qps, burst := rateOf(file, few); qps != 50 || burst != 1000 {
		t.Errorf("%v and %d, the ConfigMaps say 50", qps, burst)
	}
	file.QPS = 100
	if qps, burst := rateOf(file, few); qps != 100 || burst != file.Burst {
		t.Errorf("%v and %d, the file says 100", qps, burst)
	}
	unset := config.Default().Placeholder
	for _, tt := range []struct {
		file config.Placeholder
		set  settings.Settings
		want config.Placeholder
	}{
		{unset, settings.Settings{}, unset},
		{unset, set, config.Placeholder{Image: "registry.example/pause:2", RunAsUser: 7, FSGroup: 9}},
		{config.Placeholder{Image: "mine", RunAsUser: 1, RunAsGroup: 2, FSGroup: 3}, set, config.Placeholder{Image: "mine", RunAsUser: 1, RunAsGroup: 2, FSGroup: 3}},
		{config.Placeholder{Image: "mine"}, set, config.Placeholder{Image: "mine", RunAsUser: 7, FSGroup: 9}},
	} {
		if got := placeholderOf(tt.file, tt.set); got != tt.want {
			t.Errorf("%+v: %+v, want %+v", tt.file, got, tt.want)
		}
	}
}
