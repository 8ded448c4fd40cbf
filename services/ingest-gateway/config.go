package ingestgateway

import (
	"errors"
	"fmt"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/admission"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/grpcreceiver"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/httpreceiver"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/intake"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/producer"
)

// Config of the ingest-gateway.
type Config struct {
	HTTP      httpserver.Config     `mapstructure:"http" doc:"HTTP listener."`
	Requests  httpreceiver.Config   `mapstructure:"requests" doc:"What one HTTP request may cost."`
	GRPC      grpcreceiver.Config   `mapstructure:"grpc" doc:"gRPC listener."`
	Frames    intake.Config         `mapstructure:"frames" doc:"What one frame may hold."`
	Auth      Auth                  `mapstructure:"auth" doc:"Who may send."`
	RateLimit admission.LimitConfig `mapstructure:"rate_limit" doc:"How much each gateway may send."`
	Producer  producer.Config       `mapstructure:"producer" doc:"How frames are written to Kafka."`
	Schemas   schema.Config         `mapstructure:"schemas" doc:"Registry of the sensor names of wide frames."`
}

// Auth says who may send.
type Auth struct {
	AllowAnonymous bool      `mapstructure:"allow_anonymous" doc:"Take frames without credentials from anybody who reaches a listener. Without it that is only so when no gateways are listed and every listener is on loopback."`
	Gateways       []Gateway `mapstructure:"gateways" doc:"The gateways that may send, each with its token and its machines."`
}

// Gateway is one gateway's right to send.
type Gateway = admission.Gateway

// DefaultConfig listens on loopback and takes frames from anybody there.
func DefaultConfig() Config {
	return Config{
		HTTP:      httpserver.DefaultConfig("127.0.0.1:8081"),
		Requests:  httpreceiver.DefaultConfig(),
		GRPC:      grpcreceiver.DefaultConfig(),
		Frames:    intake.DefaultConfig(),
		RateLimit: admission.DefaultLimitConfig(),
		Producer:  producer.DefaultConfig(),
		Schemas:   schema.DefaultConfig(),
	}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	for _, part := range []struct {
		name string
		err  error
	}{
		{"http", c.HTTP.Validate()},
		{"requests", c.Requests.Validate()},
		{"grpc", c.GRPC.Validate()},
		{"frames", c.Frames.Validate()},
		{"rate_limit", c.RateLimit.Validate()},
		{"producer", c.Producer.Validate()},
		{"schemas", c.Schemas.Validate()},
	} {
		if part.err != nil {
			return fmt.Errorf("%s.%w", part.name, part.err)
		}
	}
	if c.Producer.MaxInFlightBytes < int64(c.Frames.MaxFrameBytes) {
		return fmt.Errorf("producer.max_in_flight_bytes: %d is less than frames.max_frame_bytes (%d): a large frame could never be taken", c.Producer.MaxInFlightBytes, c.Frames.MaxFrameBytes)
	}
	for i, g := range c.Auth.Gateways {
		if err := g.Validate(); err != nil {
			return fmt.Errorf("auth.gateways[%d].%w", i, err)
		}
		if g.Token == "" && c.GRPC.TLS.ClientCAFile == "" && c.HTTP.TLS.ClientCAFile == "" {
			return fmt.Errorf("auth.gateways[%d].token: empty, and neither grpc.tls.client_ca_file nor http.tls.client_ca_file lets it come with a certificate", i)
		}
	}
	if len(c.Auth.Gateways) == 0 && !c.Auth.AllowAnonymous {
		for _, l := range []struct{ name, addr string }{{"http", c.HTTP.Listen}, {"grpc", c.GRPC.Listen}} {
			if !auth.Loopback(l.addr) {
				return fmt.Errorf("auth.gateways: empty, so anybody who reaches %s.listen (%s) could send; list the gateways, listen on loopback, or set auth.allow_anonymous", l.name, l.addr)
			}
		}
	}
	if _, err := c.authenticator(); err != nil {
		return fmt.Errorf("auth.%w", err)
	}
	return nil
}

// anonymous tells whether frames without credentials are taken.
func (c Config) anonymous() bool { return c.Auth.AllowAnonymous || len(c.Auth.Gateways) == 0 }

func (c Config) authenticator() (*admission.Authenticator, error) {
	return admission.NewAuthenticator(c.Auth.Gateways, c.anonymous())
}

var errDraining = errors.New("draining")
