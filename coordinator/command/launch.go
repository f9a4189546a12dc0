package command

import (
	"context"

	"github.com/understudy-ha/understudy/coordinator"
)

// launch runs the coordinator.
func launch(ctx context.Context, r replica) error {
	return coordinator.Run(ctx, r.config, coordinator.Options{
		Log: r.log, Standing: r.standing, Tracing: r.tracing, Version: r.version, Managers: r.managers,
		Renewed: r.tie.Leave, Tie: r.tie,
	})
}
