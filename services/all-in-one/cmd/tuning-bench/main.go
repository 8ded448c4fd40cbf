// Command tuning-bench tries settings of the detection on the lake's history. It is `tocsin run --target tuning-bench` as a program of its own. See --help.
package main

import (
	"os"

	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/tuning"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

func main() {
	os.Exit(launch.Main(launch.Service[tuning.Config]{
		Name: "tuning-bench", Section: "tuning_bench",
		Short:   "tries settings of the detection on the lake's history, against those that the fleet is judged under",
		Default: tuning.DefaultConfig(),
		New: func(c tuning.Config, d service.Deps) (service.Runner, error) {
			// What holds is what the stream-processor has published; until it has, what ships.
			return tuning.New(c, streamprocessor.DefaultConfig(), d)
		},
	}, os.Args[1:], os.Stdout, os.Stderr))
}
