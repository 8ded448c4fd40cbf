package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tocsin-io/tocsin/pkg/config"
	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/fleet"
	fleetsimulator "github.com/tocsin-io/tocsin/services/fleet-simulator"
)

// simulatedPlaces divides a simulated fleet by its ids: pump-0123 is a pump of site 01, line 2. A line has 50 machines, a site 500.
const simulatedPlaces = `^(?P<group>[a-z]+)-(?P<site>\d\d)(?P<line>\d)\d$`

func runCommand() *cobra.Command {
	var file, dir, faults string
	var targets, brokers []string
	var simulate int
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run services in this process (default: all, over an embedded broker)",
		Long: `Run starts the services of one process. Without a configuration it runs all of them over an embedded Kafka broker, listens on
loopback only, and keeps everything under --data-dir.

Give kafka.brokers in the configuration (or --brokers) to use a real Kafka; then --target runs any part of the fleet,
and as many processes as you like share the work. Ctrl-C drains and stops; a second one stops at once.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadFleet(file, dir)
			if err != nil {
				return badConfig(err)
			}
			list, err := fleet.Targets(targets)
			if err != nil {
				return badConfig(err)
			}
			if len(brokers) > 0 {
				cfg.Process.Kafka.Brokers, cfg.Broker.Mode = brokers, "external"
			}
			if simulate > 0 {
				cfg.Simulator.Machines = simulate
				demo := fleetsimulator.DemoConfig()
				cfg.Simulator.Faults, cfg.Simulator.FirstFaultAfter, cfg.Simulator.History = faults, demo.FirstFaultAfter, demo.History
				if p := &cfg.Realtime.Places; p.IDPattern == "" && len(p.Rules) == 0 {
					p.IDPattern = simulatedPlaces
				}
				list = append(slices.DeleteFunc(list, func(s string) bool { return s == "fleet-simulator" }), "fleet-simulator")
			}
			return run(cmd.Context(), cfg, file, dir, list, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "the fleet's YAML `FILE`; without it the defaults hold")
	f.StringVar(&dir, "data-dir", "./.tocsin", "`DIR` that everything is kept under")
	f.StringSliceVar(&targets, "target", []string{"all"}, "`SERVICES` to run, separated by commas")
	f.StringSliceVar(&brokers, "brokers", nil, "Kafka brokers `HOST:PORT`, separated by commas, instead of the embedded one")
	f.IntVar(&simulate, "simulate", 0, "also simulate a fleet of `N` machines in this process")
	f.StringVar(&faults, "faults", "demo", "faults of the simulated fleet: demo, auto, none, or a YAML `FILE`")
	return cmd
}

// loadFleet reads the fleet file over the laptop's defaults and settles where the broker is.
func loadFleet(file, dir string) (fleet.Config, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return fleet.Config{}, err
	}
	cfg := fleet.LaptopConfig(abs)
	brokers := cfg.Process.Kafka.Brokers
	if err := config.Load(file, cfg.Sections()...); err != nil {
		return cfg, err
	}
	if cfg.Broker.Mode == "auto" {
		cfg.Broker.Mode = "embedded"
		if !slices.Equal(brokers, cfg.Process.Kafka.Brokers) {
			cfg.Broker.Mode = "external"
		}
	}
	return cfg, nil
}

func run(ctx context.Context, cfg fleet.Config, file, dir string, targets []string, stdout, stderr io.Writer) error {
	began := time.Now()
	cfg.Process.Runtime.Apply()
	fl, err := fleet.New(ctx, cfg, dir, targets, stderr)
	if err != nil {
		return err
	}
	fl.Reread = func() (fleet.Config, error) { return loadFleet(file, dir) }
	ready, stop := context.WithCancel(ctx)
	announced := make(chan struct{})
	go func() {
		defer close(announced)
		if awaitReady(ready, fl) {
			announce(stdout, fl, dir, targets, time.Since(began))
		}
	}()
	err = launch.UntilSignal(ctx, fl.Log(), fl)
	stop()
	<-announced
	if err == nil {
		fmt.Fprintln(stdout, "stopped")
	}
	return err
}

func awaitReady(ctx context.Context, fl *fleet.Fleet) bool {
	every := time.NewTicker(50 * time.Millisecond)
	defer every.Stop()
	for {
		if fl.Ready() == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-every.C:
		}
	}
}

// announce tells what to open.
func announce(w io.Writer, fl *fleet.Fleet, dir string, targets []string, took time.Duration) {
	fmt.Fprintf(w, "\n  Tocsin is ready after %.1f s.\n\n", took.Seconds())
	line := func(what, at string) { fmt.Fprintf(w, "  %-22s %s\n", what, at) }
	if a := fl.Addrs["realtime-api"]; a != "" {
		line("Live page", "http://"+a)
	}
	if a := fl.Addrs["historical-api"]; a != "" {
		line("History (SQL)", "http://"+a+"/v1/sql")
	}
	if a := fl.Addrs["alert-router"]; a != "" {
		line("Alerts (API v2)", "http://"+a+"/api/v2/alerts")
	}
	if a := fl.Addrs["ingest-gateway"]; a != "" {
		line("Send frames to", "http://"+a+"/v1/frames")
	}
	if a := fl.Addrs["kafka"]; a != "" {
		line("Kafka (embedded)", a)
	}
	line("Data", dir)
	if slices.Contains(targets, "fleet-simulator") {
		line("True faults", filepath.Join(dir, "truth.jsonl"))
	}
	fmt.Fprint(w, "\n  Ctrl-C stops.\n\n")
}

func simulateCommand() *cobra.Command {
	var file string
	cfg := fleetsimulator.DefaultConfig()
	given := cfg
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Send the frames of a simulated fleet with faults that are known exactly",
		Long: `Simulate sends the frames of a fleet of machines with believable physics to an ingest-gateway, in real time, until Ctrl-C or
--duration. Every fault that it injects is written to --truth, one JSON object a line, when it happens.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fl := fleet.DefaultConfig()
			fl.Process.Log.Format = "console"
			if err := config.Load(file, fl.Sections()...); err != nil {
				return badConfig(err)
			}
			cfg := overlay(cmd, fl.Simulator, given)
			if err := cfg.Validate(); err != nil {
				return badConfig(fmt.Errorf("fleet_simulator.%w", err))
			}
			deps, flush, err := fl.Process.Deps(cmd.Context(), "fleet-simulator", cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			defer flush()
			s, err := fleetsimulator.New(cfg, deps)
			if err != nil {
				return err
			}
			if err := s.Run(cmd.Context()); err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "the fleet's YAML `FILE`, section fleet_simulator")
	f.IntVar(&given.Machines, "machines", cfg.Machines, "machines in the fleet")
	f.Float64Var(&given.Rate, "rate", cfg.Rate, "frames a second of each machine, in `HZ`")
	f.StringVar(&given.Faults, "faults", cfg.Faults, "a YAML `FILE` of faults, or auto, demo, none")
	f.StringVar(&given.To, "to", cfg.To, "`URL` of the ingest-gateway: http://host:8081 or grpc://host:9081")
	f.StringVar(&given.Token, "token", "", "bearer token for the gateway")
	f.StringVar(&given.TruthFile, "truth", "truth.jsonl", "`FILE` that the true faults are appended to")
	f.DurationVar(&given.Duration, "duration", 0, "stop after this much simulated time; 0: never")
	f.Float64Var(&given.Speedup, "speedup", cfg.Speedup, "simulated seconds per second; 0: as fast as the gateway takes it")
	f.Uint64Var(&given.Seed, "seed", cfg.Seed, "decides everything random")
	f.IntVar(&given.Gateways, "gateways", 0, "gateways that the machines stand behind; 0: one for every 50")
	f.DurationVar(&given.History, "history", 0, "send this much of the past first, as fast as it is taken, so that the machines are known")
	f.DurationVar(&given.FirstFaultAfter, "first-fault-after", cfg.FirstFaultAfter, "time before the first fault of auto and demo")
	return cmd
}

// overlay puts the flags that were given over what the file says.
func overlay(cmd *cobra.Command, cfg, given fleetsimulator.Config) fleetsimulator.Config {
	set := map[string]func(){
		"machines": func() { cfg.Machines = given.Machines }, "rate": func() { cfg.Rate = given.Rate },
		"faults": func() { cfg.Faults = given.Faults }, "to": func() { cfg.To = given.To }, "token": func() { cfg.Token = given.Token },
		"duration": func() { cfg.Duration = given.Duration }, "speedup": func() { cfg.Speedup = given.Speedup },
		"history": func() { cfg.History = given.History },
		"seed":    func() { cfg.Seed = given.Seed }, "gateways": func() { cfg.Gateways = given.Gateways },
		"first-fault-after": func() { cfg.FirstFaultAfter = given.FirstFaultAfter },
	}
	for name, apply := range set {
		if cmd.Flags().Changed(name) {
			apply()
		}
	}
	if cfg.TruthFile == "" || cmd.Flags().Changed("truth") {
		cfg.TruthFile = given.TruthFile
	}
	return cfg
}
