// Command iceberg-committer keeps Iceberg tables over the lake's files.
package main

import (
	"os"

	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/service"
	icebergcommitter "github.com/tocsin-io/tocsin/services/iceberg-committer"
)

func main() {
	os.Exit(launch.Main(launch.Service[icebergcommitter.Config]{
		Name:    "iceberg-committer",
		Section: "iceberg_committer",
		Short:   "Keeps Iceberg tables over the lake's files.",
		Default: icebergcommitter.DefaultConfig(),
		New: func(cfg icebergcommitter.Config, deps service.Deps) (service.Runner, error) {
			return icebergcommitter.New(cfg, deps)
		},
	}, os.Args[1:], os.Stdout, os.Stderr))
}
