package command

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/coordinator/admission"
	"github.com/understudy-ha/understudy/coordinator/config"
)

func (c command) config() *cobra.Command {
	return group("config", "Work with configuration files", c.validate())
}

func (c command) validate() *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE...",
		Short: "Check configuration files and list every mistake",
		Long: `Check configuration files and list every mistake, one a line, as
FILE:LINE: field: what is wrong. Files that a configuration refers to are not
opened: it may be meant for another machine.`,
		Args:                  args(cobra.MinimumNArgs(1)),
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, files []string) error {
			invalid := 0
			for _, file := range files {
				mistakes, err := c.mistakes(file)
				if err != nil {
					return err
				}
				if len(mistakes) == 0 {
					fmt.Fprintf(c.out, "%s: valid\n", file)
					continue
				}
				invalid++
				for _, m := range mistakes {
					fmt.Fprintln(c.out, m)
				}
			}
			if invalid > 0 {
				return fmt.Errorf("%d of %d files invalid", invalid, len(files))
			}
			return nil
		},
	}
}

// mistakes returns those in a file, each with its place.
func (c command) mistakes(file string) ([]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
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
	var mistakes []string
	for _, e := range flatten(err) {
		place := file
		if mistake := (*config.Error)(nil); errors.As(e, &mistake) && mistake.Line > 0 {
			place = fmt.Sprintf("%s:%d", file, mistake.Line)
			bare := *mistake
			bare.Line = 0
			e = &bare
		}
		mistakes = append(mistakes, place+": "+e.Error())
	}
	return mistakes, nil
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
