package tested

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// quoted is what a page shows as code.
var quoted = regexp.MustCompile("`([^`]+)`")

// shortened begins the path of a package below the one named before, or beside it.
const shortened = "…/"

// CheckDocument returns an error that names each test which a page names and there is not. A
// test is of the directory that was named last in the same line, and a test before which
// none was named is not looked up.
func CheckDocument(x *Index, page string) error {
	var wrong []error
	number := 0
	for line := range strings.Lines(page) {
		number++
		dir := ""
		for _, found := range quoted.FindAllStringSubmatch(line, -1) {
			code := found[1]
			switch {
			case aTest.MatchString(code):
				if dir == "" {
					continue
				}
				if err := x.Check(dir, code); err != nil {
					wrong = append(wrong, fmt.Errorf("line %d: %w", number, err))
				}
			case strings.HasPrefix(code, shortened):
				next := strings.TrimPrefix(code, shortened)
				if _, err := x.directory(path.Join(dir, next)); err == nil {
					dir = path.Join(dir, next)
				} else {
					dir = path.Join(path.Dir(dir), next)
				}
			default:
				if _, err := x.directory(code); err == nil {
					dir = code
				}
			}
		}
	}
	return errors.Join(wrong...)
}
