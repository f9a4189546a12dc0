package supervise

import (
	"crypto/rand"
	"os"
	"strings"
)

// IncarnationEnv is the environment variable by which a supervisor tells its
// child the suffix of its identity. Nobody else sets it: two processes with one
// suffix would be taken for each other.
const IncarnationEnv = "UNDERSTUDY_INCARNATION"

// Incarnation returns the holder identity of this process: its name, an
// underscore, and a suffix that is the supervisor's if there is one, else random.
// A name holds no underscore.
func Incarnation(name string) string {
	suffix := os.Getenv(IncarnationEnv)
	if suffix == "" {
		suffix = newSuffix()
	}
	return name + "_" + suffix
}

func newSuffix() string { return rand.Text()[:10] }

// isOf reports whether the identity is the incarnation with that suffix.
func isOf(identity, suffix string) bool {
	_, have, ok := strings.Cut(identity, "_")
	return ok && suffix != "" && have == suffix
}
