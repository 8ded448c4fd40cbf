// Package launch turns a service into a process: it reads the configuration, sets up logs and traces, runs the
// service until a signal, and says with its exit code how it ended.
package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/config"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/telemetry"
)

// Exit codes.
const (
	ExitOK     = 0
	ExitFailed = 1 // the service ended by itself
	ExitConfig = 2 // the configuration or the command line is wrong
)

// Process is the part of the configuration that every process has.
type Process struct {
	Runtime Runtime
	Log     telemetry.LogConfig
	Tracing telemetry.TraceConfig
	Kafka   kafka.Config
}

// DefaultProcess holds the defaults.
func DefaultProcess() Process {
	return Process{Runtime: Runtime{MemoryLimit: "0"}, Log: telemetry.DefaultLogConfig(), Tracing: telemetry.DefaultTraceConfig(), Kafka: kafka.DefaultConfig()}
}

// Sections are the configuration sections of p.
func (p *Process) Sections() []config.Section {
	return []config.Section{{Name: "process", Value: &p.Runtime}, {Name: "kafka", Value: &p.Kafka}, {Name: "log", Value: &p.Log}, {Name: "tracing", Value: &p.Tracing}}
}

// Service says how one service becomes a process.
type Service[C any] struct {
	Name    string // "ingest-gateway"
	Section string // "ingest_gateway"
	Short   string // one line for --help
	Default C
	New     func(C, service.Deps) (service.Runner, error)
}

// Main runs the service as a command line asks and returns the exit code.
func Main[C any](s Service[C], args []string, stdout, stderr io.Writer) int {
	code := ExitOK
	var file string
	cmd := &cobra.Command{
		Use:           s.Name,
		Short:         s.Short,
		Version:       Version(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, cfg := DefaultProcess(), s.Default
			if err := config.Load(file, append(p.Sections(), config.Section{Name: s.Section, Value: &cfg})...); err != nil {
				code = ExitConfig
				return err
			}
			p.Runtime.Apply()
			err := run(cmd.Context(), s, p, cfg, stderr, func() (C, error) {
				p, cfg := DefaultProcess(), s.Default
				err := config.Load(file, append(p.Sections(), config.Section{Name: s.Section, Value: &cfg})...)
				return cfg, err
			})
			if err != nil {
				code = ExitFailed
			}
			return err
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "the fleet's YAML `FILE`; without it defaults and TOCSIN_... variables hold")
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	if err := cmd.ExecuteContext(context.Background()); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", s.Name, err)
		if code == ExitOK {
			code = ExitConfig
		}
	}
	return code
}

func run[C any](ctx context.Context, s Service[C], p Process, cfg C, stderr io.Writer, reread func() (C, error)) error {
	deps, flush, err := p.Deps(ctx, s.Name, stderr)
	if err != nil {
		return err
	}
	defer flush()
	svc, err := s.New(cfg, deps)
	if err != nil {
		return err
	}
	if r, ok := svc.(Reconfigurer[C]); ok {
		return UntilSignal(ctx, deps.Log, &reloading[C]{Runner: svc, to: r, reread: reread})
	}
	return UntilSignal(ctx, deps.Log, svc)
}

// Reconfigurer is a service that can take its section of the fleet file anew while it runs. It takes what it can of it, and an error says that it
// took nothing.
type Reconfigurer[C any] interface {
	Reconfigure(cfg C) error
}

// reloading gives a Reconfigurer its configuration when it is to reload.
type reloading[C any] struct {
	service.Runner
	to     Reconfigurer[C]
	reread func() (C, error)
}

// Reload reads the fleet file again.
func (r *reloading[C]) Reload() error {
	cfg, err := r.reread()
	if err != nil {
		return err
	}
	return r.to.Reconfigure(cfg)
}

// Deps makes what a service named name is given in this process, and the function that flushes it at the end.
func (p Process) Deps(ctx context.Context, name string, stderr io.Writer) (service.Deps, func(), error) {
	log, err := telemetry.NewLogger(p.Log, stderr)
	if err != nil {
		return service.Deps{}, nil, err
	}
	var tp trace.TracerProvider
	tp, end, err := telemetry.NewTracer(ctx, p.Tracing, name, Version())
	if err != nil {
		return service.Deps{}, nil, err
	}
	k := p.Kafka
	if k.ClientID == "" {
		k.ClientID = name
	}
	flush := func() {
		c, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		_ = end(c) // traces are a courtesy: their loss must not fail the end
		_ = log.Sync()
	}
	return service.Deps{Log: log.With(zap.String("service", name)), Metrics: metrics.NewSet(), Tracer: tp, Kafka: k}, flush, nil
}

// UntilSignal runs the service until SIGINT or SIGTERM; a second signal ends the process at once. SIGHUP makes a service with
// Reload() error read its files again; when that fails it keeps what it had. Main gives a Reconfigurer one.
func UntilSignal(ctx context.Context, log *zap.Logger, svc service.Runner) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // from here on a signal has its default effect
	}()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	for {
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, context.Canceled) {
				log.Error("stopped on a failure", zap.Error(err))
				return err
			}
			log.Info("stopped")
			return nil
		case <-hup:
			r, ok := svc.(interface{ Reload() error })
			if !ok {
				log.Info("reload asked for; this service has nothing to reload")
				continue
			}
			if err := r.Reload(); err != nil {
				log.Error("reload refused, the old configuration stays", zap.Error(err))
				continue
			}
			log.Info("reloaded")
		}
	}
}

// Version is the module version or commit that the binary was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			v += " " + s.Value[:12]
		}
	}
	if v == "" {
		v = "(devel)"
	}
	return v + " " + info.GoVersion
}
