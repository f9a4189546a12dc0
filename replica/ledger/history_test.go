package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestWhatIsRememberedOfTheEnded: so many of them, and for so long.
func TestWhatIsRememberedOfTheEnded(t *testing.T) {
	const start = Time(1e18)
	for name, c := range map[string]struct {
		history History
		want    []string // after ten have ended, one a minute
	}{
		"so many":          {History{Count: 3}, []string{"7", "8", "9"}},
		"for so long":      {History{Age: 90 * time.Second}, []string{"8", "9"}},
		"what comes first": {History{Count: 1, Age: time.Hour}, []string{"9"}},
		"unless set":       {History{}, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}},
	} {
		t.Run(name, func(t *testing.T) {
			l, follower := New(), New()
			l.Remember(c.history)
			for i := range 10 {
				at := Stamp{At: start.Add(time.Duration(i) * time.Minute)}
				id := fmt.Sprint(i)
				for _, event := range []Event{AddApp{Stamp: at, ID: id}, AppRejected{Stamp: at, AppID: id}} {
					for _, change := range l.Step(event).Changes {
						follower.Apply(change)
					}
				}
			}
			var got []string
			for app := range l.Apps() {
				got = append(got, app.ID)
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("it remembers %v, want %v", got, c.want)
			}
			if !l.Equal(follower) || l.Clone().historyAge != c.history.Age {
				t.Error("a follower, or a clone, remembers something else")
			}
		})
	}
}
