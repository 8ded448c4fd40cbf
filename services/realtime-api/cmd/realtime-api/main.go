// Command realtime-api serves what is live: the web page, REST and the WebSocket.
package main

import (
	"os"

	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/service"

	realtimeapi "github.com/tocsin-io/tocsin/services/realtime-api"
)

func main() {
	os.Exit(launch.Main(launch.Service[realtimeapi.Config]{
		Name:    "realtime-api",
		Section: "realtime_api",
		Short:   "Serves the live fleet: web page, REST under /v1, WebSocket at /v1/stream.",
		Default: realtimeapi.DefaultConfig(),
		New: func(cfg realtimeapi.Config, deps service.Deps) (service.Runner, error) {
			return realtimeapi.New(cfg, deps)
		},
	}, os.Args[1:], os.Stdout, os.Stderr))
}
