package tested

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Index knows the tests of the directories that it was asked about.
type Index struct {
	root string
	dirs map[string]*directory
}

// directory is what the Go files of a directory have.
type directory struct {
	// tests are the texts in the body of each test, by its name.
	tests map[string]map[string]bool
	// shared are the texts outside of tests: tables, scripts and helpers.
	shared map[string]bool
	// golden are the names of files of testdata, without what follows a point.
	golden map[string]bool
}

// NewIndex returns an index of a repository.
func NewIndex(root string) *Index { return &Index{root: root, dirs: make(map[string]*directory)} }

// Check returns an error unless a directory has a test. The name of a subtest follows that of
// its test after a slash: its parts have to be texts of the test, or outside of any test, or
// files of testdata.
func (x *Index) Check(dir, name string) error {
	d, err := x.directory(dir)
	if err != nil {
		return err
	}
	test, sub, nested := strings.Cut(name, "/")
	own, ok := d.tests[test]
	if !ok {
		return fmt.Errorf("%s has no %s", dir, test)
	}
	if !nested {
		return nil
	}
	for part := range strings.SplitSeq(sub, "/") {
		if !own[part] && !d.shared[part] && !d.golden[part] {
			return fmt.Errorf("%s: nothing in %s is called %q", dir, test, part)
		}
	}
	return nil
}

func (x *Index) directory(dir string) (*directory, error) {
	if d := x.dirs[dir]; d != nil {
		return d, nil
	}
	at := filepath.Join(x.root, filepath.FromSlash(dir))
	files, err := filepath.Glob(filepath.Join(at, "*.go"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no package is in %s", dir)
	}
	d := &directory{tests: make(map[string]map[string]bool), shared: make(map[string]bool), golden: make(map[string]bool)}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		d.read(parsed, strings.HasSuffix(file, "_test.go"))
	}
	golden, err := os.ReadDir(filepath.Join(at, "testdata"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, f := range golden {
		name, _, _ := strings.Cut(f.Name(), ".")
		d.golden[name] = true
	}
	x.dirs[dir] = d
	return d, nil
}

// aTest is the name of a test, or of a fuzz target.
var aTest = regexp.MustCompile(`^(Test|Fuzz)[A-Z]`)

func (d *directory) read(file *ast.File, test bool) {
	for _, declared := range file.Decls {
		into := d.shared
		if f, ok := declared.(*ast.FuncDecl); ok && test && f.Recv == nil && aTest.MatchString(f.Name.Name) {
			into = make(map[string]bool)
			d.tests[f.Name.Name] = into
		}
		ast.Inspect(declared, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				if text, err := strconv.Unquote(literal.Value); err == nil {
					into[text] = true
				}
			}
			return true
		})
	}
}
