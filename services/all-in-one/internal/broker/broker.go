// Package broker is the embedded Kafka broker of the all-in-one: kfake, which speaks the Kafka protocol on loopback and keeps its log in
// a directory. It serves a laptop and the fast tests. It survives a clean stop and the death of its clients; for the death of
// the broker itself use Apache Kafka.
package broker

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"
)

// Config of the embedded broker.
type Config struct {
	Mode   string `mapstructure:"mode" doc:"embedded, external, or auto: embedded unless kafka.brokers is given."`
	Listen string `mapstructure:"listen" doc:"Loopback address of the embedded broker, host:port; port 0 takes a free one."`
}

// DefaultConfig is Kafka's own port.
func DefaultConfig() Config { return Config{Mode: "auto", Listen: "127.0.0.1:9092"} }

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	switch c.Mode {
	case "auto", "embedded", "external":
	default:
		return fmt.Errorf("mode: %q is not auto, embedded or external", c.Mode)
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %q is not host:port: %w", c.Listen, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("listen: %q is not a loopback address; the embedded broker has no access control", host)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("listen: %q is not a port", port)
	}
	return nil
}

// Broker is a running broker.
type Broker struct{ cluster *kfake.Cluster }

// Start opens the broker over dir, which it creates when missing.
func Start(cfg Config, dir string, log *zap.Logger) (*Broker, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	_, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("embedded broker: port: %w", err)
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.ClusterID("tocsin-embedded"), kfake.AllowAutoTopicCreation(), kfake.DataDir(filepath.Clean(dir)),
		kfake.WithLogger(brokerLog{log.Named("broker").Sugar()}),
	}
	if n != 0 {
		opts = append(opts, kfake.Ports(n))
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("embedded broker on %s over %s: %w", cfg.Listen, dir, err)
	}
	return &Broker{c}, nil
}

// Addrs are what clients connect to.
func (b *Broker) Addrs() []string { return b.cluster.ListenAddrs() }

// Close ends the broker and writes what it holds to its directory.
func (b *Broker) Close() { b.cluster.Close() }

type brokerLog struct{ s *zap.SugaredLogger }

func (l brokerLog) Logf(level kfake.LogLevel, msg string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.s.Errorf(msg, args...)
	case kfake.LogLevelWarn:
		l.s.Warnf(msg, args...)
	default:
		l.s.Debugf(msg, args...)
	}
}
