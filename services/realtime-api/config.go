package realtimeapi

import (
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/tocsin-io/tocsin/pkg/httpserver"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
)

// Config is the section realtime_api.
type Config struct {
	HTTP     httpserver.Config `mapstructure:"http" doc:"HTTP: page, REST, stream, health, metrics."`
	LookBack time.Duration     `mapstructure:"look_back" doc:"How far before the end of the log windows and anomalies are read at the start. Alerts are always read from the start of retention."`
	Keep     Keep              `mapstructure:"keep" doc:"How much is held in memory."`
	Stream   Stream            `mapstructure:"stream" doc:"The WebSocket at /v1/stream."`
}

// Keep bounds the memory.
type Keep struct {
	Machines         int `mapstructure:"machines" doc:"Machines known at once; above it the one that changed longest ago is forgotten, those with an open alert last."`
	Windows          int `mapstructure:"windows" doc:"Windows kept of each machine. 180 windows of 5 s are 15 minutes."`
	Cells            int `mapstructure:"cells" doc:"Sensor-windows (40 bytes each) kept of all machines; where it binds, each machine keeps an equal share."`
	Anomalies        int `mapstructure:"anomalies" doc:"Anomaly reports kept of the whole fleet."`
	MachineAnomalies int `mapstructure:"machine_anomalies" doc:"Anomaly reports kept of each machine."`
	OpenAlerts       int `mapstructure:"open_alerts" doc:"Open alerts kept; a safety net, above it the oldest are forgotten."`
	ClosedAlerts     int `mapstructure:"closed_alerts" doc:"Closed alerts remembered."`
}

// Stream is the WebSocket's part.
type Stream struct {
	Interval       time.Duration `mapstructure:"interval" doc:"Time between two messages about the same thing; changes in between are coalesced."`
	WriteTimeout   time.Duration `mapstructure:"write_timeout" doc:"A client that takes no data at all for this long is cut off."`
	PingInterval   time.Duration `mapstructure:"ping_interval" doc:"Time between two pings."`
	MaxClients     int           `mapstructure:"max_clients" doc:"Clients at once; more are answered 503 with Retry-After."`
	AllowedOrigins []string      `mapstructure:"allowed_origins" doc:"Hosts (patterns such as *.example.com) whose pages may connect, beside the page's own."`
}

// DefaultConfig serves on loopback.
func DefaultConfig() Config {
	l := hub.DefaultLimits()
	return Config{
		HTTP:     httpserver.DefaultConfig("127.0.0.1:8080"),
		LookBack: 15 * time.Minute,
		Keep: Keep{
			Machines: l.Machines, Windows: l.Windows, Cells: l.Cells, Anomalies: l.Anomalies,
			MachineAnomalies: l.MachineAnomalies, OpenAlerts: l.OpenAlerts, ClosedAlerts: l.ClosedAlerts,
		},
		Stream: Stream{
			Interval: 250 * time.Millisecond, WriteTimeout: time.Minute, PingInterval: 20 * time.Second, MaxClients: 256,
		},
	}
}

func (k Keep) limits() hub.Limits {
	return hub.Limits{
		Machines: k.Machines, Windows: k.Windows, Cells: k.Cells, Anomalies: k.Anomalies,
		MachineAnomalies: k.MachineAnomalies, OpenAlerts: k.OpenAlerts, ClosedAlerts: k.ClosedAlerts,
	}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	if err := c.HTTP.Validate(); err != nil {
		return fmt.Errorf("http.%w", err)
	}
	if c.LookBack < 0 || c.LookBack > 7*24*time.Hour {
		return fmt.Errorf("look_back: %s is not in 0..168h", c.LookBack)
	}
	if err := c.Keep.limits().Validate(); err != nil {
		return fmt.Errorf("keep.%w", err)
	}
	s := c.Stream
	switch {
	case s.Interval < 20*time.Millisecond || s.Interval > 10*time.Second:
		return fmt.Errorf("stream.interval: %s is not in 20ms..10s", s.Interval)
	case s.WriteTimeout <= 0:
		return errors.New("stream.write_timeout: must be positive")
	case s.PingInterval <= 0:
		return errors.New("stream.ping_interval: must be positive")
	case s.MaxClients < 1:
		return errors.New("stream.max_clients: must be at least 1")
	}
	for _, o := range s.AllowedOrigins {
		if _, err := path.Match(o, ""); err != nil || o == "" {
			return fmt.Errorf("stream.allowed_origins: %q is not a pattern", o)
		}
	}
	return nil
}
