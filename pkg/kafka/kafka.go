// Package kafka holds what Tocsin's Kafka clients have in common: how to reach the brokers and how topics are made.
package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/topic"
)

// Config says where Kafka is and how topics are laid out.
type Config struct {
	Brokers     []string `mapstructure:"brokers" doc:"Seed brokers, host:port."`
	ClientID    string   `mapstructure:"client_id" doc:"Client id shown in the brokers' logs and quotas; empty: the service's name."`
	Partitions  int32    `mapstructure:"partitions" doc:"Partitions of each topic keyed by equipment_id. Must not change once data is there."`
	Replication int16    `mapstructure:"replication" doc:"Replication factor of topics that Tocsin creates. 3 in production."`
	MinInSync   int16    `mapstructure:"min_insync_replicas" doc:"min.insync.replicas of topics that Tocsin creates. 2 in production."`
	TLS         TLS      `mapstructure:"tls" doc:"TLS to the brokers."`
	SASL        SASL     `mapstructure:"sasl" doc:"SASL/SCRAM to the brokers."`
	// Dial reaches a broker; nil: the operating system's network. Not together with TLS.
	Dial func(ctx context.Context, network, address string) (net.Conn, error) `mapstructure:"-" json:"-"`
}

// TLS of the connection to the brokers.
type TLS struct {
	Enabled  bool   `mapstructure:"enabled" doc:"Use TLS (1.3)."`
	CAFile   string `mapstructure:"ca_file" doc:"PEM file with the certificate authorities; empty: the system's."`
	CertFile string `mapstructure:"cert_file" doc:"PEM file with the client's certificate, for mutual TLS."`
	KeyFile  string `mapstructure:"key_file" doc:"PEM file with the client's key."`
}

// SASL credentials.
type SASL struct {
	Mechanism string `mapstructure:"mechanism" doc:"scram-sha-256, scram-sha-512 or empty for none."`
	User      string `mapstructure:"user" doc:"User name."`
	Password  string `mapstructure:"password" doc:"Password." secret:"true"`
}

// DefaultConfig is a single broker on loopback.
func DefaultConfig() Config {
	return Config{Brokers: []string{"127.0.0.1:9092"}, Partitions: 12, Replication: 1, MinInSync: 1}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	switch {
	case len(c.Brokers) == 0:
		return errors.New("brokers: at least one is needed")
	case c.Partitions < 1 || c.Partitions > 10_000:
		return fmt.Errorf("partitions: %d is not in 1..10000", c.Partitions)
	case c.Replication < 1:
		return fmt.Errorf("replication: %d is less than 1", c.Replication)
	case c.MinInSync < 1 || c.MinInSync > c.Replication:
		return fmt.Errorf("min_insync_replicas: %d is not in 1..replication (%d)", c.MinInSync, c.Replication)
	case (c.TLS.CertFile == "") != (c.TLS.KeyFile == ""):
		return errors.New("tls.cert_file and tls.key_file: give both or neither")
	}
	switch c.SASL.Mechanism {
	case "", "scram-sha-256", "scram-sha-512":
	default:
		return fmt.Errorf("sasl.mechanism: %q is not scram-sha-256 or scram-sha-512", c.SASL.Mechanism)
	}
	return nil
}

// Options are the client options that every Tocsin client starts from.
func (c Config) Options(log *zap.Logger) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.WithLogger(clientLogger{log.Named("kafka")}),
		// A broker that restarts is back within seconds: look again soon, give up never (callers hold deadlines).
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.RetryBackoffFn(func(n int) time.Duration {
			return min(50*time.Millisecond<<min(n, 6), 2*time.Second)
		}),
		kgo.DialTimeout(5 * time.Second),
		// KIP-714 would have each client, also one that lives for a second to restore a partition, push metrics to the brokers.
		kgo.DisableClientMetrics(),
	}
	if c.ClientID != "" {
		opts = append(opts, kgo.ClientID(c.ClientID))
	}
	if c.Dial != nil {
		opts = append(opts, kgo.Dialer(c.Dial))
	}
	if c.TLS.Enabled {
		t, err := c.TLS.config()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(t))
	}
	auth := scram.Auth{User: c.SASL.User, Pass: c.SASL.Password}
	switch c.SASL.Mechanism {
	case "scram-sha-256":
		opts = append(opts, kgo.SASL(auth.AsSha256Mechanism()))
	case "scram-sha-512":
		opts = append(opts, kgo.SASL(auth.AsSha512Mechanism()))
	}
	return opts, nil
}

func (t TLS) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("kafka tls.ca_file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka tls.ca_file: no certificate in %s", t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("kafka tls.cert_file: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

// ErrTopicShape says that a topic exists with another number of partitions than configured: a person must decide.
var ErrTopicShape = errors.New("topic has another shape")

// AwaitTopics is EnsureTopics that waits, as long as ctx lasts, while Kafka is away, refuses, or has topics without a leader: a
// service that starts before Kafka must not end for that. waiting is told why, when it begins and when the reason changes; for
// readiness and the log. It returns nil, ErrTopicShape (waiting would not help), or the error of ctx.
func AwaitTopics(ctx context.Context, cl *kgo.Client, cfg Config, waiting func(error), specs ...topic.Spec) error {
	for said := ""; ; {
		err := tryTopics(ctx, cl, cfg, specs)
		switch {
		case err == nil, errors.Is(err, ErrTopicShape):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if why := err.Error(); why != said {
			said = why
			waiting(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func tryTopics(ctx context.Context, cl *kgo.Client, cfg Config, specs []topic.Spec) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// A ping is not repeated by the client: it tells at once that nobody is there, and why.
	if err := cl.Ping(ctx); err != nil {
		return fmt.Errorf("reach Kafka: %w", err)
	}
	return EnsureTopics(ctx, cl, cfg, specs...)
}

// EnsureTopics creates the topics that are missing, waits until they can be used, and checks those that are there:
// another number of partitions than configured is an error, because machines would change their partition.
// Harmless to call from many processes at once.
func EnsureTopics(ctx context.Context, cl *kgo.Client, cfg Config, specs ...topic.Spec) error {
	adm := kadm.NewClient(cl)
	for _, s := range specs {
		configs := map[string]*string{"min.insync.replicas": kadm.StringPtr(fmt.Sprint(cfg.MinInSync))}
		for k, v := range s.Configs {
			configs[k] = kadm.StringPtr(v)
		}
		_, err := adm.CreateTopic(ctx, s.Count(cfg.Partitions), cfg.Replication, configs, s.Name)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s: %w", s.Name, err)
		}
	}
	names := make([]string, len(specs))
	for i, s := range specs {
		names[i] = s.Name
	}
	for {
		missing := ""
		found, err := adm.ListTopics(ctx, names...)
		if err != nil {
			return fmt.Errorf("list topics: %w", err)
		}
		for _, s := range specs {
			want := s.Count(cfg.Partitions)
			t, ok := found[s.Name]
			if !ok || t.Err != nil || !allLed(t) {
				missing = s.Name
				continue
			}
			if got := int32(len(t.Partitions)); got != want {
				return fmt.Errorf("%w: %s has %d partitions, kafka.partitions says %d: a machine must keep its partition; set kafka.partitions to %d or use new topics", ErrTopicShape, s.Name, got, want, got)
			}
		}
		if missing == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("topic %s has no leader yet: %w", missing, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func allLed(t kadm.TopicDetail) bool {
	for _, p := range t.Partitions {
		if p.Leader < 0 || p.Err != nil {
			return false
		}
	}
	return len(t.Partitions) > 0
}

// clientLogger lets franz-go speak through zap. Its "info" is our "debug": it tells of each group move.
type clientLogger struct{ log *zap.Logger }

func (l clientLogger) Level() kgo.LogLevel {
	if l.log.Core().Enabled(zap.DebugLevel) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelWarn
}

func (l clientLogger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	s := l.log.Sugar()
	switch level {
	case kgo.LogLevelError:
		s.Errorw(msg, keyvals...)
	case kgo.LogLevelWarn:
		s.Warnw(msg, keyvals...)
	default:
		s.Debugw(msg, keyvals...)
	}
}
