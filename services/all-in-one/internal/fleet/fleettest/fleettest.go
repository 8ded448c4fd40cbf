// Package fleettest runs services of the fleet inside a test, over an embedded broker and on free ports.
package fleettest

import (
	"context"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/fleet"
)

// Patience is how long a test waits for what must come.
const Patience = 60 * time.Second

// Config is what `tocsin run` has, under dir and on free loopback ports, with few partitions.
func Config(dir string) fleet.Config {
	c := fleet.LaptopConfig(dir)
	c.Broker.Mode, c.Broker.Listen = "embedded", "127.0.0.1:0"
	c.Process.Kafka.Partitions = 3
	c.Process.Log.Level = "error"
	for _, listen := range []*string{
		&c.Gateway.HTTP.Listen, &c.Gateway.GRPC.Listen, &c.Processor.HTTP.Listen, &c.Router.HTTP.Listen, &c.Writer.HTTP.Listen, &c.Realtime.HTTP.Listen, &c.Realtime.GRPC.Listen, &c.Trainer.HTTP.Listen,
		&c.Tuning.HTTP.Listen,
	} {
		*listen = "127.0.0.1:0"
	}
	return c
}

// Running is a fleet that runs.
type Running struct {
	*fleet.Fleet
	// Kafka is the way to its broker.
	Kafka kafka.Config
	// Stop ends it and gives what Run returned. Idempotent; called at the test's end.
	Stop func() error
}

// Start runs the targets over data in dir until the test ends, and waits until they are ready.
func Start(t testing.TB, cfg fleet.Config, dir string, targets ...string) *Running {
	t.Helper()
	list, err := fleet.Targets(targets)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f, err := fleet.New(ctx, cfg, dir, list, t.Output())
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	r := &Running{Fleet: f, Kafka: cfg.Process.Kafka}
	r.Kafka.Brokers = []string{f.Addrs["kafka"]}
	done, ended := make(chan struct{}), error(nil)
	go func() {
		defer close(done)
		ended = f.Run(ctx)
	}()
	r.Stop = func() error {
		cancel()
		<-done
		return ended
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Errorf("fleet: %v", err)
		}
	})
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	for {
		err := f.Ready()
		if err == nil {
			return r
		}
		select {
		case <-every.C:
		case <-done:
			t.Fatalf("the fleet ended: %v", ended)
		case <-deadline.C:
			t.Fatalf("the fleet is not ready: %v", err)
		}
	}
}
