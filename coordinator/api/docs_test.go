package api

import (
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
)

// TestEveryEndpointIsDocumented: docs/rest.md names each with a test that there is.
func TestEveryEndpointIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/rest.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string) // the tests, by endpoint
	for line := range strings.SplitSeq(string(text), "\n") {
		if cells := strings.Split(line, "|"); len(cells) == 5 && strings.HasPrefix(cells[1], " `") {
			endpoint, _, _ := strings.Cut(strings.Trim(cells[1], " `"), "`")
			rows[strings.TrimPrefix(endpoint, "POST ")] = cells[3]
		}
	}
	own, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	a := New(Config{}, nil, slog.New(slog.DiscardHandler))
	for _, r := range a.routes() {
		if strings.HasPrefix(r.pattern, apiv1.Prefix) && r.pattern != PathExplain {
			// The OpenAPI document has the rest, and TestOwnAnswersAreDescribed tries it.
			if !strings.Contains(string(own), "| `"+r.pattern+"`") {
				t.Errorf("%s is not in docs/api.md", r.pattern)
			}
			continue
		}
		if rows[r.pattern] == "" {
			t.Errorf("%s is not in docs/rest.md, or has no test", r.pattern)
		}
		if stale := strings.Contains(string(text), "`"+r.pattern+"` | yes |"); stale != (r.stale != nil) {
			t.Errorf("%s: ?stale is %t, and docs/rest.md says %t", r.pattern, r.stale != nil, stale)
		}
		if r.method == http.MethodPost && !strings.Contains(string(text), "`POST "+r.pattern) {
			t.Errorf("%s is a POST", r.pattern)
		}
	}
	var tests strings.Builder
	for _, file := range []string{"core_test.go", "events_test.go", "explain_test.go", "forward_test.go", "shim_test.go", "stale_test.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(source)
	}
	for endpoint, named := range rows {
		for _, name := range regexp.MustCompile("Test[A-Za-z]+").FindAllString(named, -1) {
			if !strings.Contains(tests.String(), "func "+name+"(") {
				t.Errorf("%s: there is no test %s", endpoint, name)
			}
		}
	}
}
