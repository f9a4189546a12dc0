package workload

import (
	"maps"
	"math"
	"slices"
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
	p := policy{style: styleSoft}
	for part := range strings.FieldsSeq(value) {
		key, setting, ok := strings.Cut(part, "=")
		if !ok {
			found.add(AnnotationPolicy, "%s is not of the form key=value and is skipped", shown(part))
			continue
		}
		p.set(AnnotationPolicy, part, key, setting, found)
	}
	return protocol.NewSchedulingPolicyParameters(p.timeout, p.style)
}

// ParsePolicy reads the same parameters where a resource has them, each by its key.
// Problems name field.
func ParsePolicy(field string, parameters map[string]string) (*protocol.SchedulingPolicyParameters, []Problem) {
	p, found := policy{style: styleSoft}, problems(nil)
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		p.set(field, key+"="+parameters[key], key, parameters[key], &found)
	}
	return protocol.NewSchedulingPolicyParameters(p.timeout, p.style), found
}

// policy is what has been read so far.
type policy struct {
	timeout int64
	style   string
}

// set takes over one parameter; part is how a problem shows it.
func (p *policy) set(where, part, key, setting string, found *problems) {
	switch key {
	case paramTimeout:
		seconds, err := strconv.ParseInt(setting, 10, 64)
		if err != nil || seconds < 0 || seconds > maxTimeout {
			found.add(where, "%s is skipped: %s is not a number of seconds", shown(part), shown(setting))
			return
		}
		p.timeout = seconds
	case paramStyle:
		if setting != styleSoft && setting != styleHard {
			found.add(where, "%s is skipped: the style is %s or %s", shown(part), styleSoft, styleHard)
			return
		}
		p.style = setting
	default:
		found.add(where, "%s is skipped: the parameter is not known", shown(part))
	}
}
