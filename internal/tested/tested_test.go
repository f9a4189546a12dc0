package tested

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write protocol/COVERAGE.md anew")

const root = "../.."

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestCoverageIsUpToDate: every row of the contract has tests, and the page says which.
func TestCoverageIsUpToDate(t *testing.T) {
	protocol := filepath.Join(root, "protocol")
	c, err := ReadCoverage([]byte(read(t, filepath.Join(protocol, "coverage.yaml"))))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(NewIndex(root)); err != nil {
		t.Error(err)
	}
	page := filepath.Join(protocol, "COVERAGE.md")
	if *update {
		if err := os.WriteFile(page, []byte(c.Markdown()), 0o644); err != nil { //nolint:gosec // it is a page to be read
			t.Fatal(err)
		}
	}
	if read(t, page) != c.Markdown() {
		t.Error("protocol/COVERAGE.md is not what coverage.yaml says: go test ./internal/tested -update")
	}
}

// TestPagesNameTestsThatThereAre.
func TestPagesNameTestsThatThereAre(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	x := NewIndex(root)
	for _, page := range append(pages, filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md")) {
		if err := CheckDocument(x, read(t, page)); err != nil {
			t.Errorf("%s: %v", page, err)
		}
	}
}

// TestWhatIsMissingIsNamed: rows without tests, and tests that there are not.
func TestWhatIsMissingIsNamed(t *testing.T) {
	x := NewIndex(root)
	for _, c := range []struct{ rows, want string }{
		{"- {what: a, tests: {internal/tested: [TestWhatIsMissingIsNamed]}}", ""},
		{"- {what: a, tests: {replica/ledger: [TestScenarios/gang_complete]}}", ""},
		{"- {what: a, tests: {e2e/drill: [TestDrills/kill]}}", ""},
		{"- {what: a, missing: nobody has written one}", ""},
		{"- {what: a}", "s: a: a row has either"},
		{"- {what: a, tests: {}}", "either"},
		{"- {tests: {internal/tested: [TestWhatIsMissingIsNamed]}}", "either"},
		{"- {what: a, missing: no, tests: {internal/tested: [TestWhatIsMissingIsNamed]}}", "either"},
		{"- {what: a, missing: no}\n  - {what: a, missing: no}", "twice"},
		{"- {what: a, tests: {internal/tested: [TestOfNothing]}}", "has no TestOfNothing"},
		{"- {what: a, tests: {internal/tested: [NewIndex]}}", "has no NewIndex"},
		{"- {what: a, tests: {internal/none: [TestOfNothing]}}", "no package is in internal/none"},
		{"- {what: a, tests: {replica/ledger: [TestScenarios/no_such_file]}}", `"no_such_file"`},
		// A text of another test is none of this one.
		{"- {what: a, tests: {internal/tested: [TestCoverageIsUpToDate/either]}}", `"either"`},
	} {
		coverage, err := ReadCoverage([]byte("- section: s\n  rows:\n  " + c.rows))
		if err != nil {
			t.Errorf("%s: %v", c.rows, err)
		}
		err = coverage.Check(x)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.rows, err, c.want)
		}
	}
	if _, err := ReadCoverage([]byte("- section: s\n  rowz: []")); err == nil {
		t.Error("a field that there is not is taken")
	}
	for page, want := range map[string]string{
		"`replica/ledger`: `TestScenarios/gang_complete`, `TestAppTable`":                       "",
		"`coordinator/managers/spark`: `TestStates`; `…/tasks`: `TestHandlers`":                 "",
		"`coordinator/managers`: `TestGroupsAreNoted`; `…/tasks`: `TestHandlers`":               "",
		"`TestOfWhichNobodySaysWhere`":                                                          "",
		"a\n`replica/ledger`: `TestOfNothing`":                                                  "line 2: replica/ledger has no TestOfNothing",
		"`coordinator/managers/spark`: `TestStates`; `…/tasks`: `TestAttempts`, `TestHandlers`": "coordinator/managers/tasks has no TestAttempts",
	} {
		err := CheckDocument(x, page)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", page, err, want)
		}
	}
}
