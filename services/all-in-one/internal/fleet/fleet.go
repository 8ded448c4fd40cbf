// Package fleet runs Tocsin's services in one process. They talk over Kafka as they do in a cluster; only their addresses differ.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/pkg/config"
	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/icebergconfig"
	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/service"
	alertrouter "github.com/tocsin-io/tocsin/services/alert-router"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/broker"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/tuning"
	coldpathwriter "github.com/tocsin-io/tocsin/services/cold-path-writer"
	fleetsimulator "github.com/tocsin-io/tocsin/services/fleet-simulator"
	historicalapi "github.com/tocsin-io/tocsin/services/historical-api"
	ingestgateway "github.com/tocsin-io/tocsin/services/ingest-gateway"
	modeltrainer "github.com/tocsin-io/tocsin/services/model-trainer"
	realtimeapi "github.com/tocsin-io/tocsin/services/realtime-api"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// Config is the whole fleet file.
type Config struct {
	Process   launch.Process
	Broker    broker.Config
	Gateway   ingestgateway.Config
	Processor streamprocessor.Config
	Router    alertrouter.Config
	Writer    coldpathwriter.Config
	Realtime  realtimeapi.Config
	History   historicalapi.Config
	Trainer   modeltrainer.Config
	Tuning    tuning.Config
	Simulator fleetsimulator.Config
	// Iceberg is checked and documented here; its process is one of its own.
	Iceberg icebergconfig.Config
}

// DefaultConfig is what the services ship with.
func DefaultConfig() Config {
	return Config{
		Process: launch.DefaultProcess(), Broker: broker.DefaultConfig(), Gateway: ingestgateway.DefaultConfig(),
		Processor: streamprocessor.DefaultConfig(), Router: alertrouter.DefaultConfig(), Writer: coldpathwriter.DefaultConfig(),
		Realtime: realtimeapi.DefaultConfig(), History: historicalapi.DefaultConfig(), Trainer: modeltrainer.DefaultConfig(), Tuning: tuning.DefaultConfig(),
		Simulator: fleetsimulator.DefaultConfig(), Iceberg: icebergconfig.Default(),
	}
}

// LaptopConfig is DefaultConfig with everything under dir, logs for people, and files in the lake within seconds instead of
// minutes: somebody is watching.
func LaptopConfig(dir string) Config {
	c := DefaultConfig()
	c.Process.Log.Format = "console"
	c.Router.DataDir = filepath.Join(dir, "alert-router")
	c.Writer.Lake.URL = dirURL(filepath.Join(dir, "lake"))
	c.Writer.Chunk.Interval = 15 * time.Second
	c.History.Lake.URL = c.Writer.Lake.URL
	c.History.DataDir = filepath.Join(dir, "history")
	c.History.Refresh = time.Second
	c.Trainer.Models.URL = dirURL(filepath.Join(dir, "models"))
	c.Processor.Models.URL = c.Trainer.Models.URL
	c.Trainer.Lake.URL = c.Writer.Lake.URL
	c.Tuning.Lake.URL = c.Writer.Lake.URL
	c.Trainer.DataDir = filepath.Join(dir, "train")
	c.Simulator.TruthFile = filepath.Join(dir, "truth.jsonl")
	return c
}

func dirURL(dir string) string { return "file://" + filepath.ToSlash(dir) }

// Sections are the sections of the fleet file.
func (c *Config) Sections() []config.Section {
	return append(c.Process.Sections(),
		config.Section{Name: "broker", Value: &c.Broker},
		config.Section{Name: "ingest_gateway", Value: &c.Gateway},
		config.Section{Name: "stream_processor", Value: &c.Processor},
		config.Section{Name: "alert_router", Value: &c.Router},
		config.Section{Name: "cold_path_writer", Value: &c.Writer},
		config.Section{Name: "realtime_api", Value: &c.Realtime},
		config.Section{Name: "historical_api", Value: &c.History},
		config.Section{Name: "model_trainer", Value: &c.Trainer},
		config.Section{Name: "tuning_bench", Value: &c.Tuning},
		config.Section{Name: "iceberg_committer", Value: &c.Iceberg},
		config.Section{Name: "fleet_simulator", Value: &c.Simulator},
	)
}

// Names of the services, in the order they start in. The realtime-api asks those before it.
var names = []string{"historical-api", "model-trainer", "tuning-bench", "cold-path-writer", "alert-router", "stream-processor", "realtime-api", "ingest-gateway", "fleet-simulator"}

// Targets turns --target's list into names; "all" is every service but the simulator.
func Targets(list []string) ([]string, error) {
	var out []string
	for _, t := range list {
		switch {
		case t == "all":
			out = append(out, names[:len(names)-1]...)
		case slices.Contains(names, t):
			out = append(out, t)
		default:
			return nil, fmt.Errorf("--target: no service is called %q; there are all, %s", t, strings.Join(names, ", "))
		}
	}
	slices.SortFunc(out, func(a, b string) int { return slices.Index(names, a) - slices.Index(names, b) })
	return slices.Compact(out), nil
}

// Fleet is the services of one process.
type Fleet struct {
	cfg      Config
	log      *zap.Logger
	broker   *broker.Broker
	services []running
	flush    []func()
	// Addrs are the bound HTTP addresses by service, and "kafka".
	Addrs map[string]string
	// Reread reads the fleet file anew, for Reload; nil: there is none.
	Reread func() (Config, error)
}

type running struct {
	name string
	service.Runner
}

// New starts the embedded broker where the configuration asks for one and makes the targets. On error nothing is left open.
func New(ctx context.Context, cfg Config, dir string, targets []string, stderr io.Writer) (_ *Fleet, err error) {
	f := &Fleet{cfg: cfg, Addrs: map[string]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	deps, flush, err := cfg.Process.Deps(ctx, "tocsin", stderr)
	if err != nil {
		return nil, err
	}
	f.log = deps.Log
	f.flush = append(f.flush, flush)
	if cfg.Broker.Mode == "embedded" {
		if f.broker, err = broker.Start(cfg.Broker, filepath.Join(dir, "kafka"), deps.Log); err != nil {
			return nil, err
		}
		f.cfg.Process.Kafka.Brokers = f.broker.Addrs()
		f.Addrs["kafka"] = f.broker.Addrs()[0]
	}
	for _, name := range targets {
		if err := f.add(ctx, name, stderr); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return f, nil
}

// add makes one service with what it is given.
func (f *Fleet) add(ctx context.Context, name string, stderr io.Writer) error {
	deps, flush, err := f.cfg.Process.Deps(ctx, name, stderr)
	if err != nil {
		return err
	}
	f.flush = append(f.flush, flush)
	s, addrs, err := f.make(name, deps)
	if err != nil {
		return err
	}
	maps.Copy(f.Addrs, addrs)
	f.services = append(f.services, running{name, s})
	return nil
}

// make is the list of what a fleet consists of. It answers with the service and the addresses it has bound.
func (f *Fleet) make(name string, deps service.Deps) (service.Runner, map[string]string, error) {
	type listening interface {
		service.Runner
		Addr() string
	}
	bound := func(s listening, err error) (service.Runner, map[string]string, error) {
		if err != nil {
			return nil, nil, err
		}
		return s, map[string]string{name: s.Addr()}, nil
	}
	switch name {
	case "realtime-api":
		cfg := f.cfg.Realtime
		f.besides(&cfg.Backends.HistoricalAPI, "historical-api", f.cfg.History.HTTP)
		f.besides(&cfg.Backends.ModelTrainer, "model-trainer", f.cfg.Trainer.HTTP)
		f.besides(&cfg.Backends.TuningBench, "tuning-bench", f.cfg.Tuning.HTTP)
		f.besides(&cfg.Backends.AlertRouter, "alert-router", f.cfg.Router.HTTP)
		f.besides(&cfg.Backends.Processor, "stream-processor", f.cfg.Processor.HTTP)
		s, err := realtimeapi.New(cfg, deps)
		if err != nil {
			return nil, nil, err
		}
		return s, map[string]string{name: s.Addr(), "realtime-api-grpc": s.GRPCAddr()}, nil
	case "historical-api":
		return bound(historicalapi.New(f.cfg.History, deps))
	case "model-trainer":
		return bound(modeltrainer.New(f.cfg.Trainer, deps))
	case "tuning-bench":
		return bound(tuning.New(f.cfg.Tuning, f.cfg.Processor, deps))
	case "cold-path-writer":
		return bound(coldpathwriter.New(f.cfg.Writer, deps))
	case "alert-router":
		return bound(alertrouter.New(f.cfg.Router, deps))
	case "stream-processor":
		return bound(streamprocessor.New(f.cfg.Processor, deps))
	case "ingest-gateway":
		s, err := ingestgateway.New(f.cfg.Gateway, deps)
		if err != nil {
			return nil, nil, err
		}
		return s, map[string]string{name: s.HTTPAddr(), "grpc": s.GRPCAddr()}, nil
	case "fleet-simulator":
		cfg := f.cfg.Simulator
		if addr, ok := f.Addrs["ingest-gateway"]; ok {
			cfg.To = "http://" + addr // the gateway of this process
		}
		s, err := fleetsimulator.New(cfg, deps)
		return s, nil, err
	}
	return nil, nil, fmt.Errorf("no service is called %q", name)
}

// besides fills in where a service of this process is, unless the configuration says where to ask.
func (f *Fleet) besides(url *string, name string, at httpserver.Config) {
	addr, ok := f.Addrs[name]
	switch {
	case *url != "" || !ok:
	case at.TLS.Enabled(): // under which name its certificate is good the configuration has to say
	default:
		*url = "http://" + addr
	}
}

// Run works until ctx ends or a service fails; then it stops what sends before what receives, and the broker last.
func (f *Fleet) Run(ctx context.Context) error {
	defer func() { _ = f.Close() }()
	g, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	type handle struct {
		stop context.CancelFunc
		done chan struct{}
	}
	handles := make([]handle, len(f.services))
	for i, s := range f.services {
		own, stop := context.WithCancel(failed)
		handles[i] = handle{stop, make(chan struct{})}
		g.Go(func() error {
			defer close(handles[i].done)
			if s.name == "fleet-simulator" && !f.awaitOthers(own) {
				return s.Close()
			}
			if err := s.Run(own); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			return nil
		})
	}
	select {
	case <-ctx.Done():
	case <-failed.Done():
	}
	for i := len(handles) - 1; i >= 0; i-- {
		handles[i].stop()
		switch f.services[i].name {
		case "fleet-simulator", "ingest-gateway":
			// These still need the others to finish what they have begun.
			select {
			case <-handles[i].done:
			case <-time.After(3 * time.Second):
				f.log.Warn("still draining", zap.String("service", f.services[i].name))
			}
		}
	}
	return g.Wait()
}

// awaitOthers waits until the services can take what the simulator sends; false when ctx ended first.
func (f *Fleet) awaitOthers(ctx context.Context) bool {
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for f.ready("fleet-simulator") != nil {
		select {
		case <-ctx.Done():
			return false
		case <-every.C:
		}
	}
	return true
}

// Log is the process's own logger.
func (f *Fleet) Log() *zap.Logger { return f.log }

// Reload makes every service that can read its files again, and gives its section of the fleet file to one that can take it while it runs. One that refuses
// keeps what it had.
func (f *Fleet) Reload() error {
	cfg := f.cfg
	if f.Reread != nil {
		var err error
		if cfg, err = f.Reread(); err != nil {
			return err
		}
	}
	var errs []error
	for _, s := range f.services {
		if r, ok := s.Runner.(launch.Reconfigurer[streamprocessor.Config]); ok && f.Reread != nil {
			if err := r.Reconfigure(cfg.Processor); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
			}
		}
		if r, ok := s.Runner.(interface{ Reload() error }); ok {
			if err := r.Reload(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Ready is nil when every service is.
func (f *Fleet) Ready() error { return f.ready("") }

func (f *Fleet) ready(except string) error {
	for _, s := range f.services {
		if s.name == except {
			continue
		}
		if err := s.Ready(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// Close releases everything. Idempotent.
func (f *Fleet) Close() error {
	var errs []error
	for _, s := range f.services {
		errs = append(errs, s.Close())
	}
	if f.broker != nil {
		f.broker.Close()
		f.broker = nil
	}
	for _, flush := range f.flush {
		flush()
	}
	f.flush = nil
	return errors.Join(errs...)
}
