package coordinator

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// pulse notes what a supervisor would be shown.
type pulse struct {
	leads []bool
	beats int
}

func (p *pulse) Lead(leads bool) { p.leads = append(p.leads, leads) }
func (p *pulse) Beat()           { p.beats++ }

func TestALeadShowsLifeUntilItsTermIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := new(pulse)
		r := &replica{opts: Options{Tie: p}}
		rest := r.showLife()
		time.Sleep(beatPeriod*10 + 1)
		synctest.Wait()
		if want := 11; p.beats != want || !slices.Equal(p.leads, []bool{true}) {
			t.Errorf("%d beats in a second, want %d; leads %v", p.beats, want, p.leads)
		}
		rest()
		before := p.beats
		time.Sleep(time.Second)
		if p.beats != before || !slices.Equal(p.leads, []bool{true, false}) {
			t.Errorf("%d beats after the term; leads %v", p.beats-before, p.leads)
		}
	})
}

func TestWithoutASupervisorNobodyIsShownLife(*testing.T) {
	(&replica{}).showLife()()
}
