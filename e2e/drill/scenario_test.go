package drill

import (
	"strings"
	"testing"
)

// Every drill, each in a lab of its own.
func TestDrills(t *testing.T) {
	for _, scenario := range Scenarios() {
		t.Run(scenario.Name, func(t *testing.T) {
			l := up(t, scenario.Lab)
			var out strings.Builder
			verdict, err := scenario.Run(t.Context(), l, 40, logger(t), &out)
			t.Log(scenario.About + "\n" + out.String())
			report(t, verdict, err)
		})
	}
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
