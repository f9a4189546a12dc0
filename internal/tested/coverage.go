package tested

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Section is a part of the contract.
type Section struct {
	Section string
	Rows    []Row
}

// Row is something that users or tools rely on.
type Row struct {
	What string
	// Tests are those that would notice its loss, by directory.
	Tests map[string][]string
	// Missing says why there are none yet.
	Missing string
}

// Coverage is the contract and the tests that cover it.
type Coverage []Section

// ReadCoverage reads a file such as protocol/coverage.yaml.
func ReadCoverage(data []byte) (c Coverage, err error) {
	in := yaml.NewDecoder(strings.NewReader(string(data)))
	in.KnownFields(true)
	err = in.Decode(&c)
	return c, err
}

// Check returns an error that names each row without a test, and each test that there is not.
func (c Coverage) Check(x *Index) error {
	var wrong []error
	said := make(map[string]bool)
	for _, section := range c {
		for _, row := range section.Rows {
			at := section.Section + ": " + row.What
			if said[at] {
				wrong = append(wrong, fmt.Errorf("%s: the row is there twice", at))
			}
			said[at] = true
			if (len(row.Tests) == 0) != (row.Missing != "") || row.What == "" {
				wrong = append(wrong, fmt.Errorf("%s: a row has either tests or a reason why there are none", at))
			}
			for dir, names := range row.Tests {
				for _, name := range names {
					if err := x.Check(dir, name); err != nil {
						wrong = append(wrong, fmt.Errorf("%s: %w", at, err))
					}
				}
			}
		}
	}
	return errors.Join(wrong...)
}

const preface = `# What covers YuniKorn's contract

Each row is something that YuniKorn's users, manifests or tools rely on, with the tests that would notice its loss.
A name after a slash is that of a subtest, of a scenario in ` + "`testdata`" + `, or of a drill.

This page is generated: edit ` + "`coverage.yaml`" + ` beside it, then run ` + "`go test ./internal/tested -update`" + `.
`

// Markdown returns the coverage as a page.
func (c Coverage) Markdown() string {
	var out strings.Builder
	out.WriteString(preface)
	missing := 0
	for _, section := range c {
		fmt.Fprintf(&out, "\n## %s\n\n| what | tests |\n|---|---|\n", section.Section)
		for _, row := range section.Rows {
			if row.Missing != "" {
				missing++
				continue
			}
			var tests []string
			for _, dir := range slices.Sorted(maps.Keys(row.Tests)) {
				tests = append(tests, "`"+dir+"`: `"+strings.Join(row.Tests[dir], "`, `")+"`")
			}
			fmt.Fprintf(&out, "| %s | %s |\n", row.What, strings.Join(tests, "; "))
		}
	}
	out.WriteString("\n## Not yet\n\n")
	if missing == 0 {
		out.WriteString("Nothing.\n")
		return out.String()
	}
	out.WriteString("| what | why no test covers it |\n|---|---|\n")
	for _, section := range c {
		for _, row := range section.Rows {
			if row.Missing != "" {
				fmt.Fprintf(&out, "| %s: %s | %s |\n", section.Section, row.What, row.Missing)
			}
		}
	}
	return out.String()
}
