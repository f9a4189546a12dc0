package settings

import (
	"errors"
	"fmt"
	"strings"
)

// Severity says what becomes of a configuration with a problem.
type Severity string

const (
	// Error has the whole configuration refused.
	Error Severity = "error"
	// Warning is for what is ignored, has no effect, or is probably not what was meant.
	Warning Severity = "warning"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// ConfigMap is the name of the one that has it; empty if that is not known.
	ConfigMap string `json:"configMap,omitempty"`
	Key       string `json:"key,omitempty"`
	// Line is one of the value, from one; zero if it cannot be said.
	Line     int      `json:"line,omitempty"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
}

// Error puts the place before the message.
func (p *Problem) Error() string {
	var b strings.Builder
	if p.ConfigMap != "" {
		fmt.Fprintf(&b, "ConfigMap %s: ", p.ConfigMap)
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	b.WriteString(p.Message)
	return b.String()
}

// Refusal joins the problems that have a configuration refused; nil if there are none.
func Refusal(problems []Problem) error {
	var errs []error
	for i := range problems {
		if problems[i].Severity == Error {
			errs = append(errs, &problems[i])
		}
	}
	return errors.Join(errs...)
}

// list collects problems of one key.
type list struct {
	configMap, key string
	all            []Problem
}

func (l *list) add(severity Severity, line int, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if runes := []rune(message); len(runes) > maxMessage {
		message = string(runes[:maxMessage]) + "…"
	}
	l.all = append(l.all, Problem{ConfigMap: l.configMap, Key: l.key, Line: line, Severity: severity, Message: message})
}

// maxMessage bounds what is said of one problem, in letters: values may be long.
const maxMessage = 500

func (l *list) errorf(line int, format string, args ...any) { l.add(Error, line, format, args...) }
func (l *list) warnf(line int, format string, args ...any)  { l.add(Warning, line, format, args...) }
