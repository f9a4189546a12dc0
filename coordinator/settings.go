package coordinator

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/settings"
	"github.com/understudy-ha/understudy/coordinator/term"
	"github.com/understudy-ha/understudy/replica/roster"
)

// Some keys of the ConfigMaps are read as a process starts. When one of them has changed,
// the replicas end one after another, the lead last, and their supervisors start them
// again. Each decides for itself from what gossip says; a replica ends at most once for a
// configuration, for the next process runs with it. What gossip says may be wrong: then
// replicas are away together that need not be, which costs no more than a crash.

const (
	// turnPeriod is how often a replica looks whether its turn has come.
	turnPeriod = 500 * time.Millisecond
	// turnNotice is for how long a replica wants its turn before it takes it: all others
	// know by then that they want theirs.
	turnNotice = 3 * time.Second
	// turnPause is how old a process has to be. It bounds how often replicas end while the
	// ConfigMaps, or what API servers say of them, change all the time.
	turnPause = 15 * time.Second
	// turnAway is for how long one that has gone may be on its way back, and for how long one
	// that is back may take to be ready.
	turnAway = time.Minute
	// turnBlind bounds, without gossip, how long an understudy waits, at random; a lead waits
	// twice as long.
	turnBlind = 30 * time.Second
)

// takeTurn returns term.ErrSettings when this process is to end for its settings, or nil
// when ctx ends.
func (r *replica) takeTurn(ctx context.Context) error {
	blind := turnNotice + rand.N(turnBlind)
	var since time.Time // it has wanted its turn
	tick := time.NewTicker(turnPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, keys := r.now(), r.standby.Configuration().Restart
		switch {
		case len(keys) == 0:
			since = time.Time{}
			continue
		case since.IsZero():
			since = now
			r.log.Info("settings have changed that a process reads as it starts: this one ends when its turn has come", "keys", keys)
		}
		waited := now.Sub(since)
		if waited < turnNotice || now.Sub(r.started) < turnPause || !r.turn(now, waited, blind) {
			continue
		}
		r.log.Info("ending, to be started again with other settings", "keys", keys)
		return term.ErrSettings
	}
}

// turn reports whether this process may end now.
func (r *replica) turn(now time.Time, waited, blind time.Duration) bool {
	role := *r.role.Load()
	switch {
	case role == serve.Lead && r.roster == nil:
		return waited >= 2*(turnNotice+turnBlind)
	case role == serve.Lead:
		return leadsTurn(r.roster.Members(), now)
	case role != serve.Understudy:
		return false // a promotion is under way, or the process ends as it is
	case r.roster == nil:
		return waited >= blind
	}
	return understudysTurn(r.roster.Members(), now)
}

// leadsTurn reports whether a lead may hand over: to an understudy that has the settings,
// after all others. One that is alone may, too. The first member is the lead.
func leadsTurn(members []roster.Member, now time.Time) bool {
	successor, others := false, false
	for _, m := range members[1:] {
		switch {
		case away(members, m, now), coming(m, now):
			return false
		case m.Gone:
		case m.Stale:
			return false
		default:
			others = true
			successor = successor || m.Ready
		}
	}
	return successor || !others
}

// understudysTurn reports whether an understudy may end: another one is ready meanwhile, if
// there is another one at all. One that is not ready has nothing to wait for. The first
// member is the one that asks.
func understudysTurn(members []roster.Member, now time.Time) bool {
	self := members[0]
	if !self.Ready {
		return true
	}
	ready, others := false, false
	for _, m := range members[1:] {
		switch {
		case away(members, m, now), coming(m, now):
			return false
		case m.Gone, serve.Role(m.Role) == serve.Lead:
		case serve.Role(m.Role) == serve.Recovering:
			return false
		default:
			if others = true; m.Ready && m.Stale && m.Name < self.Name {
				return false // that one first
			}
			ready = ready || m.Ready
		}
	}
	return ready || !others
}

// coming reports whether a member has started lately, and may be ready soon.
func coming(m roster.Member, now time.Time) bool {
	return !m.Gone && !m.Ready && serve.Role(m.Role) != serve.Lead && now.Sub(m.Since) <= turnAway
}

// away reports whether a member may be on its way back.
func away(members []roster.Member, gone roster.Member, now time.Time) bool {
	if !gone.Gone || now.Sub(gone.Since) > turnAway {
		return false
	}
	for _, m := range members {
		if !m.Gone && m.Replica == gone.Replica {
			return false // it is back
		}
	}
	return true
}

// settled takes over what is known late of how this replica reaches the API server.
func (r *replica) settled(set settings.Settings) {
	r.kube.SetRate(rateOf(r.cfg.Kubernetes, set))
}

// rateOf is how many requests a second are sent, and how many at once. As for placeholders,
// the file counts first.
func rateOf(file config.Kubernetes, set settings.Settings) (qps float32, burst int) {
	unset := config.Default().Kubernetes
	if file.QPS != unset.QPS || file.Burst != unset.Burst || !set.Given(settings.KeyQPS) && !set.Given(settings.KeyBurst) {
		return file.QPS, file.Burst
	}
	return float32(set.QPS), set.Burst
}

// placeholder is how placeholders are made. What the file says that is not its default
// counts first, then what the ConfigMaps say.
func (r *replica) placeholder() config.Placeholder {
	return placeholderOf(r.cfg.Placeholder, r.standby.Settings())
}

func placeholderOf(file config.Placeholder, set settings.Settings) config.Placeholder {
	unset := config.Default().Placeholder
	if set.Given(settings.KeyPlaceholderImage) && file.Image == unset.Image {
		file.Image = set.PlaceholderImage
	}
	for _, field := range []struct {
		key   string
		file  *int
		unset int
		value int64
	}{
		{settings.KeyRunAsUser, &file.RunAsUser, unset.RunAsUser, set.RunAsUser},
		{settings.KeyRunAsGroup, &file.RunAsGroup, unset.RunAsGroup, set.RunAsGroup},
		{settings.KeyFSGroup, &file.FSGroup, unset.FSGroup, set.FSGroup},
	} {
		if set.Given(field.key) && *field.file == field.unset {
			*field.file = int(field.value)
		}
	}
	return file
}
