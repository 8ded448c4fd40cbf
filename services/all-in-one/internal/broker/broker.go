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
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/topic"
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
type Broker struct {
	cluster *kfake.Cluster
	stop    chan struct{}
	done    chan struct{}
	once    sync.Once
}

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
		kfake.BrokerConfigs(map[string]string{"log.cleaner.backoff.ms": strconv.FormatInt(never.Milliseconds(), 10)}),
	}
	if n != 0 {
		opts = append(opts, kfake.Ports(n))
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("embedded broker on %s over %s: %w", cfg.Listen, dir, err)
	}
	b := &Broker{cluster: c, stop: make(chan struct{}), done: make(chan struct{})}
	go b.clean()
	return b, nil
}

const (
	cleanEvery = time.Hour
	never      = 10 * 365 * 24 * time.Hour
)

// clean compacts and applies retention in the broker's stead. Its own cleaner takes what an open transaction has written for the newest of its
// key, and removes what was committed before: an abort would then lose both. So cleaning waits for a moment without an open
// transaction on the compacted topics. A processor writes to them in the last milliseconds of its transactions only.
func (b *Broker) clean() {
	defer close(b.done)
	wait := time.NewTimer(cleanEvery)
	defer wait.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-wait.C:
		}
		if b.stable() {
			b.cluster.Compact()
			wait.Reset(cleanEvery)
		} else {
			wait.Reset(time.Millisecond)
		}
	}
}

func (b *Broker) stable() bool {
	for _, s := range topic.All() {
		if !strings.Contains(s.Configs["cleanup.policy"], "compact") {
			continue
		}
		for _, p := range b.cluster.PartitionInfos(s.Name) {
			if p.LastStableOffset != p.HighWatermark {
				return false
			}
		}
	}
	return true
}

// Addrs are what clients connect to.
func (b *Broker) Addrs() []string { return b.cluster.ListenAddrs() }

// Close ends the broker and writes what it holds to its directory.
func (b *Broker) Close() {
	b.once.Do(func() { close(b.stop) })
	<-b.done
	b.cluster.Close()
}

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
