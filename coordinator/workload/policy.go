package workload

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/protocol"
)

const (
	paramTimeout = "placeholderTimeoutInSeconds"
	paramStyle   = "gangSchedulingStyle"

	styleSoft = "Soft"
	styleHard = "Hard"

	// maxTimeout keeps the timeout, in nanoseconds, within an int64.
	maxTimeout = math.MaxInt64 / int64(time.Second)
)

// parsePolicy reads a value of AnnotationPolicy: parts of the form key=value,
// separated by blanks. A part that cannot be read is skipped. Of two parts with
// the same key the later counts.
func parsePolicy(value string, found *problems) *protocol.SchedulingPolicyParameters {
	timeout, style := int64(0), styleSoft
	for part := range strings.FieldsSeq(value) {
		key, setting, ok := strings.Cut(part, "=")
		switch {
		case !ok:
			found.add(AnnotationPolicy, "%s is not of the form key=value and is skipped", shown(part))
		case key == paramTimeout:
			seconds, err := strconv.ParseInt(setting, 10, 64)
			if err != nil || seconds < 0 || seconds > maxTimeout {
				found.add(AnnotationPolicy, "%s is skipped: %s is not a number of seconds", shown(part), shown(setting))
				continue
			}
			timeout = seconds
		case key == paramStyle:
			if setting != styleSoft && setting != styleHard {
				found.add(AnnotationPolicy, "%s is skipped: the style is %s or %s", shown(part), styleSoft, styleHard)
				continue
			}
			style = setting
		default:
			found.add(AnnotationPolicy, "%s is skipped: the parameter is not known", shown(part))
		}
	}
	return protocol.NewSchedulingPolicyParameters(timeout, style)
}
