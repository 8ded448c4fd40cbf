// Command fleet-simulator runs a simulated fleet as a process of its own.
package main

import (
	"os"

	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/service"

	fleetsimulator "github.com/tocsin-io/tocsin/services/fleet-simulator"
)

func main() {
	os.Exit(launch.Main(launch.Service[fleetsimulator.Config]{
		Name:    "fleet-simulator",
		Section: "fleet_simulator",
		Short:   "A fleet of machines with believable physics and exactly known faults",
		Default: fleetsimulator.DefaultConfig(),
		New: func(c fleetsimulator.Config, d service.Deps) (service.Runner, error) {
			return fleetsimulator.New(c, d)
		},
	}, os.Args[1:], os.Stdout, os.Stderr))
}
