package mirror_test

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// What clients of a prefix do, each at one key; claims concern every key.
const (
	opClaim      = iota // take the prefix for an epoch
	opMaybeClaim        // the same, and nobody knows whether it took effect
	opSuperseded        // be told that a newer epoch has been claimed
	opWrite             // write a value in an epoch
	opMaybeWrite        // the same, and nobody knows whether it took effect
	opRead              // read the newest epoch and the value
)

// act is one of them. A maybe takes effect at any moment after it began, or never:
// which is no different from taking effect after everything else.
type act struct {
	kind  int
	key   int
	epoch uint64
	value uint32
}

// content is what the prefix holds, as far as one key is concerned.
type content struct {
	epoch uint64
	value uint32
}

// fencedPrefix says what a prefix is to its clients, if each act takes effect at one
// moment: epochs only rise, and only the newest one writes.
var fencedPrefix = porcupine.Model{
	Init: func() any { return content{} },
	Step: func(state, input, _ any) (bool, any) {
		s, a := state.(content), input.(act)
		switch a.kind {
		case opClaim:
			return a.epoch > s.epoch, content{a.epoch, s.value}
		case opMaybeClaim:
			return true, content{max(a.epoch, s.epoch), s.value}
		case opSuperseded:
			return a.epoch < s.epoch, s
		case opWrite:
			return a.epoch == s.epoch, content{s.epoch, a.value}
		case opMaybeWrite:
			if a.epoch == s.epoch {
				s.value = a.value
			}
			return true, s
		default:
			return s == content{a.epoch, a.value}, s
		}
	},
	// One key after the other: what is wrong with any is wrong.
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, keyCount)
		for _, op := range all {
			for key := range parts {
				if a := op.Input.(act); a.kind <= opSuperseded || a.key == key {
					parts[key] = append(parts[key], op)
				}
			}
		}
		return parts
	},
}

// keyCount is how many keys are written to.
const keyCount = 3

// chronicle collects what clients did and when.
type chronicle struct {
	began time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

func (c *chronicle) now() int64 { return int64(time.Since(c.began)) }

// note adds something that began at a moment and has just ended; a maybe has not.
func (c *chronicle) note(a act, began int64) {
	op := porcupine.Operation{Input: a, Call: began, Return: c.now()}
	if a.kind == opMaybeClaim || a.kind == opMaybeWrite {
		op.Return = math.MaxInt64
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops = append(c.ops, op)
}

// checkWithin is far more than the checker takes.
const checkWithin = 20 * time.Second

func (c *chronicle) linearizable() porcupine.CheckResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	return porcupine.CheckOperationsTimeout(fencedPrefix, c.ops, checkWithin)
}

// The model accepts what a fence allows, and nothing else. Each act takes the time
// from its place to the next one's, or as long as it says.
func TestModelOfAFencedPrefix(t *testing.T) {
	type step struct {
		act
		lasts int64
	}
	one := func(kind int, epoch uint64, value uint32) step {
		return step{act{kind: kind, epoch: epoch, value: value}, 1}
	}
	slow := func(s step) step { s.lasts = 100; return s }
	for name, c := range map[string]struct {
		want porcupine.CheckResult
		acts []step
	}{
		"one lead after the other": {porcupine.Ok, []step{
			one(opClaim, 1, 0), one(opWrite, 1, 10), one(opRead, 1, 10), one(opClaim, 2, 0), one(opSuperseded, 1, 0),
			one(opRead, 2, 10), one(opWrite, 2, 20), one(opRead, 2, 20),
		}},
		"a write that nobody knows of":   {porcupine.Ok, []step{one(opClaim, 1, 0), one(opMaybeWrite, 1, 10), one(opRead, 1, 0), one(opRead, 1, 10)}},
		"a write that never took effect": {porcupine.Ok, []step{one(opClaim, 1, 0), one(opMaybeWrite, 1, 10), one(opClaim, 2, 0), one(opRead, 2, 0)}},
		"a claim that nobody knows of":   {porcupine.Ok, []step{one(opMaybeClaim, 2, 0), one(opClaim, 1, 0), one(opRead, 2, 0), one(opSuperseded, 1, 0)}},
		"a write across a claim":         {porcupine.Ok, []step{one(opClaim, 1, 0), slow(one(opWrite, 1, 10)), one(opClaim, 2, 0), one(opRead, 2, 10)}},

		"a write of an older epoch": {porcupine.Illegal, []step{one(opClaim, 1, 0), one(opClaim, 2, 0), one(opWrite, 1, 10)}},
		"one that nobody knows of":  {porcupine.Illegal, []step{one(opClaim, 1, 0), one(opClaim, 2, 0), one(opMaybeWrite, 1, 10), one(opRead, 2, 10)}},
		"one that came late": {porcupine.Illegal, []step{
			one(opClaim, 1, 0), one(opMaybeWrite, 1, 10), one(opClaim, 2, 0), one(opRead, 2, 0), one(opRead, 2, 10),
		}},
		"an older epoch is claimed":     {porcupine.Illegal, []step{one(opClaim, 2, 0), one(opClaim, 1, 0)}},
		"an epoch is claimed twice":     {porcupine.Illegal, []step{one(opClaim, 2, 0), one(opClaim, 2, 0)}},
		"nobody superseded it":          {porcupine.Illegal, []step{one(opClaim, 1, 0), one(opSuperseded, 1, 0), one(opClaim, 2, 0)}},
		"a write is lost":               {porcupine.Illegal, []step{one(opClaim, 1, 0), one(opWrite, 1, 10), one(opRead, 1, 0)}},
		"a newer write is undone":       {porcupine.Illegal, []step{one(opClaim, 1, 0), one(opWrite, 1, 10), one(opWrite, 1, 11), one(opRead, 1, 10)}},
		"written before it was claimed": {porcupine.Illegal, []step{one(opWrite, 1, 10), one(opClaim, 1, 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			var ops []porcupine.Operation
			for i, s := range c.acts {
				op := porcupine.Operation{Input: s.act, Call: int64(10 * i), Return: int64(10*i) + s.lasts}
				if s.kind == opMaybeClaim || s.kind == opMaybeWrite {
					op.Return = math.MaxInt64
				}
				ops = append(ops, op)
			}
			if got := porcupine.CheckOperationsTimeout(fencedPrefix, ops, checkWithin); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
