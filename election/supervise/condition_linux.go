package supervise

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// conditionOf looks at all threads of a process. One of which nothing can be read is
// taken for asleep.
func conditionOf(pid int) condition {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return asleep
	}
	is := asleep
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // a thread that has ended
		}
		// The field before is the command in parentheses, and may itself hold any.
		state := bytes.TrimLeft(stat[bytes.LastIndexByte(stat, ')')+1:], " ")
		switch {
		case bytes.HasPrefix(state, []byte("R")), bytes.HasPrefix(state, []byte("D")):
			return starved
		case bytes.HasPrefix(state, []byte("T")), bytes.HasPrefix(state, []byte("t")):
			is = stopped
		}
	}
	return is
}
