// Command stream-processor judges the fleet's frames. See --help.
package main

import (
	"os"

	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/service"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

func main() {
	os.Exit(launch.Main(launch.Service[streamprocessor.Config]{
		Name: "stream-processor", Section: "stream_processor",
		Short:   "judges every frame once: quality, windows, scores, anomalies",
		Default: streamprocessor.DefaultConfig(),
		New: func(c streamprocessor.Config, d service.Deps) (service.Runner, error) {
			return streamprocessor.New(c, d)
		},
	}, os.Args[1:], os.Stdout, os.Stderr))
}
