package workload

import "fmt"

// Problem is something that could not be read. It is meant for a Warning event
// on the pod.
type Problem struct {
	// Key is the label or annotation.
	Key string
	// Message says what is wrong with its value, and what counts instead.
	Message string
}

// problems collects what goes wrong while one pod is read.
type problems []Problem

func (p *problems) add(key, format string, args ...any) {
	*p = append(*p, Problem{Key: key, Message: fmt.Sprintf(format, args...)})
}

// maxShown bounds how much of a bad value a message repeats.
const maxShown = 64

// shown returns value quoted and cut to a length fit for a message.
func shown(value string) string {
	if len(value) > maxShown {
		return fmt.Sprintf("%.*q...", maxShown, value)
	}
	return fmt.Sprintf("%q", value)
}
