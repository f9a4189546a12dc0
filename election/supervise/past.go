package supervise

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// PastEnv is the environment variable by which a supervisor tells its child what came
// before it, as the JSON of a Past.
const PastEnv = "UNDERSTUDY_PAST"

// Past is what a supervisor has seen before it started a child.
type Past struct {
	// Restarts is how often a child has been started again.
	Restarts int `json:"restarts"`
	// Last is how the child before has ended, nil for the first.
	Last *End `json:"last,omitempty"`
}

// End is the end of a child.
type End struct {
	// Incarnation is its suffix: see Incarnation.
	Incarnation string    `json:"incarnation"`
	At          time.Time `json:"at"`
	// How says it in words.
	How string `json:"how"`
	// Status is its exit status, or 128 and the number of the signal that ended it.
	Status int `json:"status"`
	// Silent says that it was killed because it led and showed no life.
	Silent bool `json:"silent,omitempty"`
	// Epoch is the newest in which it had led, zero if it never had.
	Epoch uint64 `json:"epoch,omitempty"`
}

// Before returns what came before this process; nothing without a supervisor.
func Before() (Past, error) {
	var past Past
	value := os.Getenv(PastEnv)
	if value == "" {
		return past, nil
	}
	if err := json.Unmarshal([]byte(value), &past); err != nil {
		return Past{}, fmt.Errorf("%s=%q: %w", PastEnv, value, err)
	}
	return past, nil
}

// environment tells it to a child.
func (p Past) environment() string {
	data, _ := json.Marshal(p) // of such fields it does not fail
	return PastEnv + "=" + string(data)
}

// epochOf returns the epoch in which a child that is dead had led, by the Lease that it
// has left.
func (d death) epochOf(suffix string) uint64 {
	if d.left == nil || d.left.Spec.HolderIdentity == nil || d.left.Spec.LeaseTransitions == nil ||
		!isOf(*d.left.Spec.HolderIdentity, suffix) {
		return 0
	}
	return uint64(max(*d.left.Spec.LeaseTransitions, 0))
}
