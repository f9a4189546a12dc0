package command

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/understudy-ha/understudy/coordinator/admission"
	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/settings"
)

func (c command) config() *cobra.Command {
	return group("config", "Check, explain and compare configurations", c.validate(), c.explainConfig(), c.diffConfig(), c.schema())
}

func (c command) validate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate FILE...",
		Short: "Check configuration files and list every mistake",
		Long: `Check configuration files and list every mistake, one a line, as
FILE:LINE: field: what is wrong. A FILE is one of

  - the configuration of a replica; files that it refers to are not opened:
    it may be meant for another machine
  - manifests of YuniKorn's ConfigMaps; those of all FILEs are checked together,
    as YuniKorn merges them
  - a plain queues.yaml
  - a mapping of keys and values, as in the data of a ConfigMap

Warnings name what YuniKorn ignores without a word, and what has no effect here.`,
		Args:                  args(cobra.MinimumNArgs(1)),
		DisableFlagsInUseLine: true,
	}
	names := configMapFlags(cmd)
	format := outputFlag(cmd, "text", "json")
	cmd.RunE = func(_ *cobra.Command, files []string) error {
		want, err := format()
		if err != nil {
			return err
		}
		var maps sources
		found := make([][]mistake, len(files))
		for i, file := range files {
			if found[i], err = c.look(file, &maps); err != nil {
				return err
			}
		}
		wrong, err := maps.validate(*names)
		if err != nil {
			return err
		}
		return c.printMistakes(files, found, wrong, want)
	}
	return cmd
}

// mistake is one in a file.
type mistake struct {
	File string `json:"file"`
	// FileLine is where it is in the file; zero if that cannot be said.
	FileLine int `json:"fileLine,omitempty"`
	settings.Problem
}

func (m mistake) String() string {
	place := m.File
	p := m.Problem
	if m.FileLine > 0 {
		place, p.Line, p.ConfigMap = fmt.Sprintf("%s:%d", m.File, m.FileLine), 0, ""
	}
	if m.Severity == settings.Warning {
		place += ": warning"
	}
	return place + ": " + p.Error()
}

// look finds the mistakes in the configuration of a replica; what else the file holds it adds to
// the sources.
func (c command) look(file string, maps *sources) ([]mistake, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if !replicas(data) {
		err := maps.add(file, data)
		if err == nil {
			return nil, nil
		}
		if p := (*settings.Problem)(nil); errors.As(err, &p) {
			return []mistake{{file, p.Line, *p}}, nil
		}
	}
	cfg, err := config.Parse(data)
	if err == nil {
		_, err = c.rulesOf(cfg) // it makes the managers
	}
	if err == nil {
		_, err = admission.Choose(cfg.Admission.Workloads)
	}
	if err == nil {
		return nil, nil
	}
	var all []mistake
	for _, e := range flatten(err) {
		m := mistake{File: file, Problem: settings.Problem{Severity: settings.Error, Message: e.Error()}}
		if one := (*config.Error)(nil); errors.As(e, &one) {
			m.FileLine, m.Key, m.Message = one.Line, one.Field, one.Message
		}
		all = append(all, m)
	}
	return all, nil
}

// replicas reports whether a file says that it is the configuration of a replica.
func replicas(data []byte) bool {
	var head struct {
		APIVersion string `yaml:"apiVersion"`
	}
	return yaml.Unmarshal(data, &head) == nil && head.APIVersion == config.APIVersion
}

// printMistakes prints those of each file, and then those of all ConfigMaps together.
func (c command) printMistakes(files []string, found [][]mistake, together []mistake, format string) error {
	invalid := 0
	var all []mistake
	for i, file := range files {
		own, bad := found[i], len(found[i]) > 0
		for _, m := range together {
			if m.File == file {
				own = append(own, m)
				bad = bad || m.Severity == settings.Error
			}
		}
		all = append(all, own...)
		if bad {
			invalid++
		}
		if format == "json" {
			continue
		}
		for _, m := range own {
			fmt.Fprintln(c.out, m)
		}
		if !bad {
			fmt.Fprintf(c.out, "%s: valid\n", file)
		}
	}
	if format == "json" {
		if err := printJSON(c.out, append([]mistake{}, all...)); err != nil {
			return err
		}
	}
	if invalid > 0 {
		return fmt.Errorf("%d of %d files invalid", invalid, len(files))
	}
	return nil
}

// flatten takes a joined error apart.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}
