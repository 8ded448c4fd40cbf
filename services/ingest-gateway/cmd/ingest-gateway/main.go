// Command ingest-gateway takes sensor frames over gRPC and HTTP and writes them to Kafka.
package main

import (
	"os"

	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/service"
	ingestgateway "github.com/tocsin-io/tocsin/services/ingest-gateway"
)

func main() {
	os.Exit(launch.Main(launch.Service[ingestgateway.Config]{
		Name:    "ingest-gateway",
		Section: "ingest_gateway",
		Short:   "Takes sensor frames over gRPC and HTTP and writes them to Kafka",
		Default: ingestgateway.DefaultConfig(),
		New: func(cfg ingestgateway.Config, deps service.Deps) (service.Runner, error) {
			return ingestgateway.New(cfg, deps)
		},
	}, os.Args[1:], os.Stdout, os.Stderr))
}
