// Command cold-path-writer writes what stands in Kafka into the lake.
package main

import (
	"os"

	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/service"
	coldpathwriter "github.com/tocsin-io/tocsin/services/cold-path-writer"
)

func main() {
	os.Exit(launch.Main(launch.Service[coldpathwriter.Config]{
		Name:    "cold-path-writer",
		Section: "cold_path_writer",
		Short:   "Writes readings, windows, anomalies, alerts and findings into Parquet files, each row exactly once.",
		Default: coldpathwriter.DefaultConfig(),
		New: func(cfg coldpathwriter.Config, deps service.Deps) (service.Runner, error) {
			return coldpathwriter.New(cfg, deps)
		},
	}, os.Args[1:], os.Stdout, os.Stderr))
}
