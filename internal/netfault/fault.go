package netfault

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Way is what happens to that which is sent in one direction.
type Way struct {
	// Drop loses it.
	Drop bool
	// Hold keeps it, for as long as the fault lasts.
	Hold bool
	// Delay is how much later it arrives.
	Delay time.Duration
	// Jitter is the most by which chance adds to that. Nothing overtakes on one
	// connection.
	Jitter time.Duration
}

// delay is that of something sent now.
func (w Way) delay() time.Duration {
	if w.Jitter <= 0 {
		return w.Delay
	}
	return w.Delay + rand.N(w.Jitter)
}

// Fault is what a proxy does. The zero Fault passes everything on.
type Fault struct {
	// Requests go from the client to the server, Answers the other way.
	Requests, Answers Way
	// Refuse ends all connections, and new ones at once; packets are lost.
	Refuse bool
}

// The ways to be cut off. Behind LostAnswers the server does all that it is asked
// to, which the client does not come to know. Behind HeldAnswers it comes to know
// when the fault is over, and behind Held the server is asked only then. Refused
// is what both notice at once.
var (
	Cut          = Fault{Requests: Way{Drop: true}, Answers: Way{Drop: true}}
	LostRequests = Fault{Requests: Way{Drop: true}}
	LostAnswers  = Fault{Answers: Way{Drop: true}}
	Held         = Fault{Requests: Way{Hold: true}, Answers: Way{Hold: true}}
	HeldAnswers  = Fault{Answers: Way{Hold: true}}
	Refused      = Fault{Refuse: true}
)

// Slow makes a round trip take longer by d.
func Slow(d time.Duration) Fault {
	return Fault{Requests: Way{Delay: d / 2}, Answers: Way{Delay: d - d/2}}
}

// losesPackets reports whether a packet does not arrive.
func (f Fault) losesPackets() bool { return f.Refuse || f.Requests.Drop }

func (f Fault) String() string {
	switch f {
	case Fault{}:
		return "no fault"
	case Cut:
		return "cut"
	case LostRequests:
		return "requests lost"
	case LostAnswers:
		return "answers lost"
	case Refused:
		return "refused"
	}
	return fmt.Sprintf("requests %v, answers %v", f.Requests, f.Answers)
}

func (w Way) String() string {
	if w.Drop {
		return "lost"
	}
	if w.Hold {
		return "held"
	}
	if w.Jitter > 0 {
		return fmt.Sprintf("delayed by %v and up to %v more", w.Delay, w.Jitter)
	}
	return "delayed by " + w.Delay.String()
}
