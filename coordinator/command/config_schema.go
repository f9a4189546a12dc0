package command

import (
	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/coordinator/settings"
)

func (c command) schema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print a JSON schema of queues.yaml, for editors",
		Args:  args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			schema, err := settings.Schema()
			if err == nil {
				_, err = c.out.Write(schema)
			}
			return err
		},
	}
}
