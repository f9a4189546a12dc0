// Command understudy runs a replica of the coordinator, alone or supervised, and asks
// replicas how they are: see package command.
package main

import (
	"os"

	"github.com/understudy-ha/understudy/coordinator"
	"github.com/understudy-ha/understudy/coordinator/command"
)

func main() { os.Exit(command.Main(coordinator.Managers())) }
