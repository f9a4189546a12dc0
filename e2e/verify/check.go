package verify

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// maxExamples bounds Check.Examples; Violations counts them all.
const maxExamples = 10

// Check is the outcome of one check.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Detail says what was examined, in figures.
	Detail string `json:"detail"`
	// Violations counts what was found; Examples names the first of them.
	Violations int      `json:"violations"`
	Examples   []string `json:"examples,omitempty"`
}

// Verdict is the outcome of all checks.
type Verdict struct {
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
}

// NewVerdict sums up checks; a verdict without any is not OK.
func NewVerdict(checks ...Check) Verdict {
	v := Verdict{OK: len(checks) > 0, Checks: checks}
	for _, c := range checks {
		v.OK = v.OK && c.OK
	}
	return v
}

// JSON returns the verdict as indented JSON.
func (v Verdict) JSON() ([]byte, error) { return json.MarshalIndent(v, "", "  ") }

// Print writes the verdict as a table, the examples of failed checks below it.
func (v Verdict) Print(w io.Writer) error {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "CHECK\tRESULT\tDETAIL")
	for _, c := range v.Checks {
		result := "ok"
		if !c.OK {
			result = "FAILED"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", c.Name, result, c.Detail)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, c := range v.Checks {
		if c.OK {
			continue
		}
		fmt.Fprintf(&b, "\n%s: %d violations\n", c.Name, c.Violations)
		for _, e := range c.Examples {
			fmt.Fprintf(&b, "  %s\n", e)
		}
		if more := c.Violations - len(c.Examples); more > 0 {
			fmt.Fprintf(&b, "  and %d more\n", more)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// newCheck begins a check that holds until something is found.
func newCheck(name string) *Check { return &Check{Name: name, OK: true} }

func (c *Check) failf(format string, args ...any) {
	c.OK = false
	c.Violations++
	if len(c.Examples) < maxExamples {
		c.Examples = append(c.Examples, fmt.Sprintf(format, args...))
	}
}

// gaps fails the check for what a history could not observe.
func (c *Check) gaps(gaps []history.Gap) {
	for _, g := range gaps {
		c.failf("not proven: the history of %s lacks revisions %d to %d (%s)",
			g.What, g.After+1, g.Until, g.Reason)
	}
}
