package realtimeapi

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/grpcserver"
	"github.com/tocsin-io/tocsin/pkg/httpserver"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/forward"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/places"
)

// Config is the section realtime_api.
type Config struct {
	HTTP     httpserver.Config `mapstructure:"http" doc:"HTTP: page, REST, stream, health, metrics."`
	GRPC     grpcserver.Config `mapstructure:"grpc" doc:"gRPC: tocsin.query.v1.QueryService, health and reflection."`
	LookBack time.Duration     `mapstructure:"look_back" doc:"How far before the end of the log windows and anomalies are read at the start. Alerts are always read from the start of retention."`
	Keep     Keep              `mapstructure:"keep" doc:"How much is held in memory."`
	Stream   Stream            `mapstructure:"stream" doc:"The WebSocket at /v1/stream."`
	Auth     Auth              `mapstructure:"auth" doc:"Who may look, and at which machines."`
	Backends Backends          `mapstructure:"backends" doc:"The other services, for the page: requests under /v1/router, /v1/history, /v1/models, /v1/tuning and /v1/detection are taken there, with the asker's own token. List the same people with the same tokens in their auth sections."`
	Places   Places            `mapstructure:"places" doc:"Where machines stand, by their equipment ids: for filters and the page's overview."`
}

// Auth says who may look.
type Auth struct {
	AllowAnonymous  bool          `mapstructure:"allow_anonymous" doc:"Let anybody who reaches a listener see every machine, and do through the backends what these let somebody without a token do. Without it that is only so when nobody is listed, the listeners are on loopback, and the request is for a name of this machine."`
	People          []Person      `mapstructure:"people" doc:"Who may look, each with a token and machines."`
	SessionLifetime time.Duration `mapstructure:"session_lifetime" doc:"How long a browser stays signed in. Sessions are kept in memory: they end with the process."`
	SecureCookies   bool          `mapstructure:"secure_cookies" doc:"Mark the session's cookie as for TLS only though TLS ends in front of this service. Under TLS of its own it always is."`
}

// Person is one who may look.
type Person struct {
	Name      string   `mapstructure:"name" doc:"Who it is."`
	Token     string   `mapstructure:"token" doc:"The bearer token, at least 16 characters, to sign in with or to send as Authorization. Take it from the environment: ${NAME}." secret:"true"`
	Equipment []string `mapstructure:"equipment" doc:"The machines: exact equipment ids, a prefix followed by *, or * for all. Others do not exist for this person."`
}

// Backends are the addresses of other services.
type Backends struct {
	AlertRouter   string `mapstructure:"alert_router" doc:"URL of the alert-router: the page's incident inbox and push subscriptions. Empty: the page is without."`
	HistoricalAPI string `mapstructure:"historical_api" doc:"URL of the historical-api: the page's look into the lake. Empty: the page is without."`
	ModelTrainer  string `mapstructure:"model_trainer" doc:"URL of the model-trainer: the page's models. Empty: the page is without."`
	TuningBench   string `mapstructure:"tuning_bench" doc:"URL of the tuning-bench: settings tried on history. Empty: the page is without."`
	Processor     string `mapstructure:"stream_processor" doc:"URL of the stream-processor: settings and new normals applied from the page. Empty: the page gives the lines for the configuration file."`
	CAFile        string `mapstructure:"ca_file" doc:"PEM file with the authorities that https:// backends are checked against. Empty: the system's."`
}

// Places says where machines stand.
type Places struct {
	IDPattern string  `mapstructure:"id_pattern" doc:"Regular expression (RE2) on equipment ids with captures called site, line and group, such as ^(?P<site>[^-]+)-(?P<line>[^-]+)-. Empty: none."`
	Rules     []Place `mapstructure:"rules" doc:"Places of machines by id. Of site, line and group each, the first rule that names one holds; then the pattern."`
}

// Place is a rule.
type Place struct {
	Site      string   `mapstructure:"site" doc:"Site. Empty: the rule says nothing of it."`
	Line      string   `mapstructure:"line" doc:"Line."`
	Group     string   `mapstructure:"group" doc:"Group: any other way to divide the fleet."`
	Equipment []string `mapstructure:"equipment" doc:"Its machines: exact equipment ids, a prefix followed by *, or * for all."`
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
		GRPC:     grpcserver.DefaultConfig("127.0.0.1:9080"),
		LookBack: 15 * time.Minute,
		Keep: Keep{
			Machines: l.Machines, Windows: l.Windows, Cells: l.Cells, Anomalies: l.Anomalies,
			MachineAnomalies: l.MachineAnomalies, OpenAlerts: l.OpenAlerts, ClosedAlerts: l.ClosedAlerts,
		},
		Stream: Stream{
			Interval: 250 * time.Millisecond, WriteTimeout: time.Minute, PingInterval: 20 * time.Second, MaxClients: 1500,
		},
		Auth: Auth{SessionLifetime: 12 * time.Hour},
	}
}

// gate is who is let in.
func (c Config) gate() gate.Config {
	g := gate.Config{Anybody: c.Auth.AllowAnonymous, Secure: c.Auth.SecureCookies, Lifetime: c.Auth.SessionLifetime}
	if !g.Anybody && len(c.Auth.People) == 0 && auth.Loopback(c.HTTP.Listen) && auth.Loopback(c.GRPC.Listen) {
		g.Anybody, g.Here = true, true
	}
	for _, p := range c.Auth.People {
		g.People = append(g.People, gate.Person(p))
	}
	return g
}

func (b Backends) bases() map[forward.Service]string {
	return map[forward.Service]string{forward.Router: b.AlertRouter, forward.History: b.HistoricalAPI, forward.Models: b.ModelTrainer, forward.Tuning: b.TuningBench, forward.Detection: b.Processor}
}

// validate names the first field that is wrong.
func (b Backends) validate() error {
	for _, u := range []struct{ name, url string }{{"alert_router", b.AlertRouter}, {"historical_api", b.HistoricalAPI}, {"model_trainer", b.ModelTrainer}, {"tuning_bench", b.TuningBench}, {"stream_processor", b.Processor}} {
		if err := forward.CheckBase(u.url); err != nil {
			return fmt.Errorf("%s: %w", u.name, err)
		}
	}
	_, err := b.roots()
	return err
}

// roots are the authorities of ca_file; nil: the system's.
func (b Backends) roots() (*tls.Config, error) {
	if b.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(b.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file: no certificate in %s", b.CAFile)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

func (p Places) compile() (*places.Map, error) {
	rules := make([]places.Rule, len(p.Rules))
	for i, r := range p.Rules {
		rules[i] = places.Rule{Place: places.Place{Site: r.Site, Line: r.Line, Group: r.Group}, Equipment: r.Equipment}
	}
	return places.New(p.IDPattern, rules)
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
	if err := c.GRPC.Validate(); err != nil {
		return fmt.Errorf("grpc.%w", err)
	}
	if c.LookBack < 0 || c.LookBack > 7*24*time.Hour {
		return fmt.Errorf("look_back: %s is not in 0..168h", c.LookBack)
	}
	if err := c.Keep.limits().Validate(); err != nil {
		return fmt.Errorf("keep.%w", err)
	}
	g := c.gate()
	if err := gate.CheckLifetime(g.Lifetime); err != nil {
		return fmt.Errorf("auth.session_lifetime: %s is %w", g.Lifetime, err)
	}
	if !g.Anybody && len(g.People) == 0 {
		name, addr := "http", c.HTTP.Listen
		if auth.Loopback(addr) {
			name, addr = "grpc", c.GRPC.Listen
		}
		return fmt.Errorf("auth.people: empty, so anybody who reaches %s.listen (%s) could see the fleet; list people, listen on loopback, or set auth.allow_anonymous", name, addr)
	}
	if _, err := gate.New(g, metrics.NewSet()); err != nil {
		return fmt.Errorf("auth.%w", err)
	}
	if err := c.Backends.validate(); err != nil {
		return fmt.Errorf("backends.%w", err)
	}
	if _, err := c.Places.compile(); err != nil {
		return fmt.Errorf("places.%w", err)
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
