package coordinator

import (
	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/managers/application"
	"github.com/understudy-ha/understudy/coordinator/managers/custom"
	"github.com/understudy-ha/understudy/coordinator/managers/general"
	"github.com/understudy-ha/understudy/coordinator/managers/podgroup"
	"github.com/understudy-ha/understudy/coordinator/managers/spark"
)

// What whoever adds an app manager of its own needs, to import no more than this package
// and package protocol.
type (
	// ManagerDeps is what an app manager is made from.
	ManagerDeps = managers.Deps
	// ManagerConstructor makes an app manager.
	ManagerConstructor = managers.Constructor
	// ManagerRegistry has the app managers that a binary can run, by type.
	ManagerRegistry = managers.Registry
)

// Managers returns the app managers that are shipped. A binary that has others adds them,
// and gives all as Options.Managers.
func Managers() ManagerRegistry {
	return ManagerRegistry{
		general.Name:     general.New,
		application.Type: application.New,
		podgroup.Type:    podgroup.New,
		spark.Type:       spark.New,
		custom.Type:      custom.New,
	}
}

// enabled returns what the configuration enables.
func enabled(list []config.Manager) []managers.Entry {
	entries := make([]managers.Entry, len(list))
	for i, m := range list {
		entries[i] = managers.Entry{Name: m.Name, Type: m.Type, Settings: m.Decode}
	}
	return entries
}
