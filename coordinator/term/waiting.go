package term

import (
	"context"
	"time"

	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/loop"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// stagePeriod is for how long pods wait for the stage of their application before they
// are told so: most gangs are complete sooner.
const stagePeriod = 10 * time.Second

// recently is how long before a term began its predecessor may have decided what it died
// with before it could tell it.
const recently = 10 * time.Second

// tellWaiting tells the users of pods of which the engine does not say why they wait why
// they do, until ctx ends. It is no reason to make nodes for them: where a gang lacks
// nodes, its placeholders say so. At first it tells again what the last term may not have
// come to.
func (l *Lead) tellWaiting(ctx context.Context) {
	var told *tenure // the last one in which was told what is recent
	tick := time.NewTicker(stagePeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if t := l.tenure.Load(); t != told {
			told = t
			recent, _ := loop.Ask(ctx, l.box, func(state *ledger.Ledger) []ledger.Effect {
				return state.Recent(ledger.At(l.Now().Add(-stagePeriod - recently)))
			})
			for _, effect := range recent {
				l.outside(effect)
			}
		}
		waiting, ok := loop.Ask(ctx, l.box, func(state *ledger.Ledger) []ledger.Waiting {
			return state.Waiting(ledger.At(l.Now().Add(-stagePeriod)))
		})
		if !ok {
			return
		}
		for _, w := range waiting {
			l.outside(ledger.ReportTask{
				Task: w.Task, Warning: true, Reason: kube.ReasonFailedScheduling, Message: w.Why,
				Condition: kube.ReasonSkipped,
			})
		}
	}
}
