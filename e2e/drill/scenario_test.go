package drill

import (
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/e2e/lab"
)

// Every drill, each in a lab of its own; but those that break the network have one
// in common, which must be whole again after each.
func TestDrills(t *testing.T) {
	for _, scenario := range Scenarios() {
		if !onProxies(scenario) {
			t.Run(scenario.Name, func(t *testing.T) { run(t, scenario, up(t, scenario.Lab)) })
		}
	}
	t.Run("network", func(t *testing.T) {
		l := up(t, func(o *lab.Options) {
			withProxies(o)
			o.Node.CPU = "128" // room for the pods of all of them
		})
		for _, scenario := range Scenarios() {
			if onProxies(scenario) {
				t.Run(scenario.Name, func(t *testing.T) { run(t, scenario, l) })
			}
		}
	})
}

func onProxies(scenario Scenario) bool {
	var o lab.Options
	if scenario.Lab != nil {
		scenario.Lab(&o)
	}
	return o.Proxies
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
