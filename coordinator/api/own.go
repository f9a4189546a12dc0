package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/scheduler"

	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
	"github.com/understudy-ha/understudy/coordinator/changes"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// newOwn makes what answers below /api/v1.
func (a *API) newOwn() *apiv1.API {
	of := apiv1.Replica{
		Read: func(ctx context.Context, read func(*ledger.Ledger)) bool { return a.source.Read(ctx, read) },
		Core: a.ownPartition,
		Standing: func() (bool, uint64) {
			standing := a.source.Standing()
			return standing.Leads, standing.Epoch
		},
		Changes: a.cfg.Changes, Events: a.cfg.Chronicle, Terms: a.cfg.Terms, Turn: a.core.turns.take, Over: a.core.over, RevisionHeader: HeaderRevision,
	}
	if of.Changes == nil {
		of.Changes = changes.New(1)
	}
	if of.Terms == nil {
		of.Terms = func() []serve.Term { return nil }
	}
	return apiv1.New(of)
}

// ownPartition is that of a lead's core, nil of any other replica, and while there is none.
func (a *API) ownPartition() *scheduler.PartitionContext {
	engine := a.source.Engine()
	if engine == nil || !a.source.Standing().Leads {
		return nil
	}
	return engine.Cluster().GetPartitionWithoutClusterID(configs.DefaultPartition)
}

// ours reports whether a request is for /api/v1, whose errors have a form of their own.
func ours(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, apiv1.Prefix) }
