// Command historical-api answers questions about the lake: SQL, and ready-made ones.
package main

import (
	"os"

	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/service"

	historicalapi "github.com/tocsin-io/tocsin/services/historical-api"
)

func main() {
	os.Exit(launch.Main(launch.Service[historicalapi.Config]{
		Name:    "historical-api",
		Section: "historical_api",
		Short:   "Answers questions about the lake: POST /v1/sql, ready-made ones under /v1.",
		Default: historicalapi.DefaultConfig(),
		New: func(cfg historicalapi.Config, deps service.Deps) (service.Runner, error) {
			return historicalapi.New(cfg, deps)
		},
	}, os.Args[1:], os.Stdout, os.Stderr))
}
