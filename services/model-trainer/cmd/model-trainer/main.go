// Command model-trainer trains models from files, keeps them by version, and scores rows with them.
package main

import (
	"os"

	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/service"

	modeltrainer "github.com/tocsin-io/tocsin/services/model-trainer"
)

func main() {
	os.Exit(launch.Main(launch.Service[modeltrainer.Config]{
		Name:    "model-trainer",
		Section: "model_trainer",
		Short:   "Trains models from CSV and Parquet files and scores rows with them: POST /v1/models, POST /v1/models/{name}/score.",
		Default: modeltrainer.DefaultConfig(),
		New: func(cfg modeltrainer.Config, deps service.Deps) (service.Runner, error) {
			return modeltrainer.New(cfg, deps)
		},
	}, os.Args[1:], os.Stdout, os.Stderr))
}
