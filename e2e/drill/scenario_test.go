package drill

import (
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/e2e/lab"
)

// Every drill, each in a lab of its own, but for those of TestDrillsInOneLab. Those that last
// wait most of that time, and have another beside them.
func TestDrills(t *testing.T) {
	for _, scenario := range Scenarios() {
		if o := wanted(scenario); o.Proxies || scenario.Long {
			continue
		}
		t.Run(scenario.Name, func(t *testing.T) {
			if scenario.Lasts >= 30*time.Second && scenario.Name != "busy-host" {
				t.Parallel()
			}
			run(t, scenario, up(t, scenario.Lab))
		})
	}
}

// takesLong is how long a drill lasts that has a lab of those that break the network for itself,
// so that the others do not wait for it.
const takesLong = 4 * time.Minute

// Those that break the network have a lab in common, and so have those that make a replica
// hang. It must be whole again after each. Most of their time they wait, so that there is
// room for another lab beside them.
func TestDrillsInOneLab(t *testing.T) {
	t.Parallel()
	for _, group := range []struct {
		name   string
		change func(*lab.Options)
		long   bool
	}{{"slow", withProxies, true}, {"network", withProxies, false}, {"hang", armable, false}, {"leases", withLeaseProxies, false}} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			var all lab.Options
			group.change(&all)
			l := up(t, func(o *lab.Options) {
				group.change(o)
				o.Node.CPU = "128" // room for the pods of all of them
			})
			for _, scenario := range Scenarios() {
				o := wanted(scenario)
				if o.Proxies && !scenario.Long && o.Armable == all.Armable && o.LeaseProxies == all.LeaseProxies && group.long == (scenario.Lasts > takesLong) {
					t.Run(scenario.Name, func(t *testing.T) { run(t, scenario, l) })
				}
			}
		})
	}
}

// wanted is what the scenario wants of its lab.
func wanted(scenario Scenario) lab.Options {
	var o lab.Options
	if scenario.Lab != nil {
		scenario.Lab(&o)
	}
	return o
}

func run(t *testing.T, scenario Scenario, l *lab.Lab) {
	var out strings.Builder
	verdict, err := scenario.Run(t.Context(), l, 40, logger(t), &out)
	t.Log(scenario.About + "\n" + out.String())
	report(t, verdict, err)
}

func TestFindNamesWhatThereIsNot(t *testing.T) {
	if _, err := Find("flood"); err == nil || !strings.Contains(err.Error(), "flood") {
		t.Errorf("Find: %v", err)
	}
	for _, s := range Scenarios() {
		if got, err := Find(s.Name); err != nil || got.About != s.About {
			t.Errorf("Find(%q): %v, %v", s.Name, got.About, err)
		}
	}
}
