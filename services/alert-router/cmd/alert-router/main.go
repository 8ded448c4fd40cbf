// Command alert-router runs the alert-router service as its own process.
package main

import (
	"os"

	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/service"
	alertrouter "github.com/tocsin-io/tocsin/services/alert-router"
)

func main() {
	os.Exit(launch.Main(launch.Service[alertrouter.Config]{
		Name:    "alert-router",
		Section: "alert_router",
		Short:   "opens, routes and closes alerts",
		Default: alertrouter.DefaultConfig(),
		New: func(c alertrouter.Config, d service.Deps) (service.Runner, error) {
			return alertrouter.New(c, d)
		},
	}, os.Args[1:], os.Stdout, os.Stderr))
}
