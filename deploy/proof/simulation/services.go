package simulation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/service"
	alertrouter "github.com/tocsin-io/tocsin/services/alert-router"
	coldpathwriter "github.com/tocsin-io/tocsin/services/cold-path-writer"
	ingestgateway "github.com/tocsin-io/tocsin/services/ingest-gateway"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// The services' settings: what production has where it matters to a protocol, and coarser where it only costs turns of a loop.
const sessionTimeout = 12 * time.Second

// detection is the shipped one with a shorter warm-up: a run lasts minutes.
func detection() streamprocessor.DetectionConfig {
	d := streamprocessor.DefaultDetection()
	d.Calibrate.WarmUp = 30
	d.Episodes.OngoingEvery = 30 * time.Second
	limit := 90.0
	d.Detect.Limits = grow(d.Detect.Limits)
	l := &d.Detect.Limits[len(d.Detect.Limits)-1]
	l.Sensor, l.HighCritical = "temperature", &limit
	return d
}

// grow adds a zero element; its type is the processor's own and cannot be named here.
func grow[T any](s []T) []T { return append(s[:len(s):len(s)], *new(T)) }

func (w *World) services() error {
	for i := range w.opts.Gateways {
		w.gateways = append(w.gateways, w.spawn("gateway", fmt.Sprintf("gateway-%d", i), func(inc *incarnation) (service.Runner, error) {
			cfg := ingestgateway.DefaultConfig()
			cfg.HTTP.Listen, cfg.GRPC.Listen = gatewayAddr(i), fmt.Sprintf("127.0.0.1:%d", 9181+i)
			return ingestgateway.New(cfg, w.deps(inc))
		}))
	}
	for i := range w.opts.Processors {
		w.processors = append(w.processors, w.spawn("processor", fmt.Sprintf("processor-%d", i), func(inc *incarnation) (service.Runner, error) {
			cfg := streamprocessor.DefaultConfig()
			cfg.HTTP.Listen = fmt.Sprintf("127.0.0.1:%d", 8281+i)
			cfg.InstanceID = inc.p.name
			cfg.SessionTimeout = sessionTimeout
			cfg.CommitInterval = time.Second
			cfg.RestoreTimeout = time.Minute
			// Small, so that a run crosses many snapshots and replays.
			cfg.Snapshot.MaxAge, cfg.Snapshot.MaxRecords = 10*time.Second, 40
			cfg.Detection = detection()
			return streamprocessor.New(cfg, w.deps(inc))
		}))
	}
	for i := range w.opts.Writers {
		w.writers = append(w.writers, w.spawn("writer", fmt.Sprintf("writer-%d", i), func(inc *incarnation) (service.Runner, error) {
			cfg := w.writerConfig()
			cfg.HTTP.Listen = fmt.Sprintf("127.0.0.1:%d", 8481+i)
			cfg.InstanceID = inc.p.name
			var bucket objstore.Bucket = w.storage.of(inc)
			return coldpathwriter.NewOver(cfg, w.deps(inc), bucket)
		}))
	}
	for i := range w.opts.Routers {
		home := filepath.Join(w.opts.Dir, fmt.Sprintf("router-%d", i))
		file := filepath.Join(w.opts.Dir, "routing.yml")
		if err := os.WriteFile(file, []byte(fmt.Sprintf(routing, w.opts.GroupWait)), 0o600); err != nil {
			return err
		}
		w.routers = append(w.routers, w.spawn("router", fmt.Sprintf("router-%d", i), func(inc *incarnation) (service.Runner, error) {
			cfg := alertrouter.DefaultConfig()
			cfg.HTTP.Listen = fmt.Sprintf("127.0.0.1:%d", 8381+i)
			cfg.InstanceID = inc.p.name
			cfg.RoutingFile = file
			cfg.LogNotifications = false
			cfg.SessionTimeout = sessionTimeout
			var err error
			if cfg.DataDir, err = inherit(home, inc); err != nil {
				return nil, err
			}
			return alertrouter.New(cfg, w.deps(inc))
		}))
	}
	return nil
}

func (w *World) writerConfig() coldpathwriter.Config {
	cfg := coldpathwriter.DefaultConfig()
	cfg.SessionTimeout = sessionTimeout
	cfg.Chunk.Interval, cfg.Chunk.MaxRows = w.opts.LakeInterval, 600
	cfg.Retry.Max = 10 * time.Second
	cfg.Maintenance.Interval = 0 // what is checked are the files as they were written
	return cfg
}

func gatewayAddr(i int) string { return fmt.Sprintf("127.0.0.1:%d", 8181+i) }

// routing has every alert be a group of its own, told at once (or after Options.GroupWait) and again when it ends.
const routing = `
route:
  receiver: pager
  group_by: ['...']
  group_wait: %s
  group_interval: 10s
  repeat_interval: 4h
receivers:
  - name: pager
    webhook_configs:
      - url: http://` + pagerAddr + `/page
        send_resolved: true
        timeout: 5s
`

// inherit gives an incarnation its directory: a copy of its predecessor's as that was when it ended or was killed. The killed one
// goes on writing to its own, unseen.
func inherit(home string, inc *incarnation) (string, error) {
	dir := func(n int) string { return filepath.Join(home, fmt.Sprintf("%04d", n)) }
	mine, next := dir(inc.number), dir(inc.number+1)
	if inc.number == 1 {
		if err := os.MkdirAll(mine, 0o750); err != nil {
			return "", err
		}
	} else if _, err := os.Stat(mine); errors.Is(err, fs.ErrNotExist) {
		// The one before ended by itself.
		if err := copyDir(dir(inc.number-1), mine); err != nil {
			return "", err
		}
	}
	inc.atKill(func() {
		if err := copyDir(mine, next); err != nil {
			panic(fmt.Sprintf("simulation: keep what a killed process had on disk: %v", err))
		}
	})
	return mine, nil
}

func copyDir(from, to string) error {
	if err := os.MkdirAll(to, 0o750); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if errors.Is(err, fs.ErrNotExist) || e.IsDir() {
			continue // a temporary file that was renamed meanwhile
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}
