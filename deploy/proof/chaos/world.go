package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/deploy/proof/history"
	"github.com/tocsin-io/tocsin/pkg/config"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/topic"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// Services by the names that the stack has for them. Those that share partitions run twice.
const (
	gateway   = "ingest-gateway"
	processor = "stream-processor"
	router    = "alert-router"
	writer    = "cold-path-writer"
	live      = "realtime-api"
)

func pair(service string) [2]string { return [2]string{service, service + "-2"} }

// instances are all service processes of a world.
func instances() []string {
	return []string{gateway, processor, processor + "-2", router, router + "-2", writer, writer + "-2", live}
}

// sessionTimeout is of the three services with groups; the defaults are 10 to 12 s. Shorter, so that more faults fit in a run.
const sessionTimeout = 6 * time.Second

// WorldConfig says what is different from one broker with everything on one disk and no links that can be cut.
type WorldConfig struct {
	Brokers int
	// Linked services reach Kafka through a proxy each; all, if nil is not given.
	Linked []string
	// LinkedLake lets a proxy stand before the S3 server.
	LinkedLake bool
	// Postgres too, although no service uses it yet.
	Postgres bool
	// DataDirs of components that shall not be on the usual disk.
	DataDirs map[string]string
	// Kafka's configuration, laid over.
	Kafka map[string]string
	Fleet FleetConfig
}

// world is a stack under load.
type world struct {
	cfg    WorldConfig
	log    *zap.Logger
	dir    string
	stack  *stack.Stack
	links  *links     // nil: none
	lake   *lakeProxy // nil: none
	super  *supervisor
	watch  *watch
	people *receiver
	fleet  *fleet
	ledger *history.Ledger

	mu     sync.Mutex
	closed []func(context.Context) error // in order of closing
}

// onClose adds what close does, before what was added earlier.
func (w *world) onClose(f func(context.Context) error) {
	w.closed = append([]func(context.Context) error{f}, w.closed...)
}

// startWorld brings everything up and the fleet to send. On an error everything is down again.
func startWorld(ctx context.Context, dir string, cfg WorldConfig, o Options) (_ *world, err error) {
	w := &world{cfg: cfg, log: o.Log, dir: dir, ledger: history.NewLedger()}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(context.WithoutCancel(ctx)))
		}
	}()
	if w.people, err = startReceiver(); err != nil {
		return nil, err
	}
	w.onClose(func(context.Context) error { return w.people.close() })
	routing := filepath.Join(dir, "routing.yml")
	if err := os.WriteFile(routing, []byte(routingFile(w.people.url())), 0o644); err != nil { //nolint:gosec // no secrets
		return nil, err
	}
	infra := []string{stack.GroupKafka, "s3", "victoria-metrics"}
	if cfg.Postgres {
		infra = append(infra, "postgres")
	}
	w.stack, err = stack.New(stack.Options{
		Repo: o.Repo, Dir: dir, PortOffset: stack.AutoPorts, Brokers: max(cfg.Brokers, 1), Only: infra, Ephemeral: true,
		Replicas: 2, Linked: cfg.Linked, LinkedLake: cfg.LinkedLake, DataDirs: cfg.DataDirs, KafkaConfig: cfg.Kafka,
		Config: fleetConfig(routing), Progress: o.stackProgress(), HealthTimeout: 2 * time.Minute,
	})
	if err != nil {
		return nil, err
	}
	if err := w.startLinks(ctx); err != nil {
		return nil, err
	}
	w.onClose(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
		defer cancel()
		return w.stack.Down(ctx)
	})
	if err := w.stack.Up(ctx); err != nil {
		return nil, err
	}
	w.super = supervise(w.stack, o.Log, instances())
	w.onClose(func(context.Context) error { w.super.close(); return nil })
	var all []condition
	if w.watch, err = startWatch(w.stack.Brokers()); err != nil {
		return nil, err
	}
	w.onClose(func(context.Context) error { w.watch.close(); return nil })
	for _, name := range instances() {
		all = append(all, w.watch.isReady(name, w.stack.Addr(name)))
	}
	if _, err := await(ctx, time.Now(), 2*time.Minute, all...); err != nil {
		return nil, fmt.Errorf("the services do not start: %w", err)
	}
	if w.fleet, err = startFleet(cfg.Fleet, w.stack.Addr(gateway), w.stack.Addr(gateway+"-grpc"), w.ledger); err != nil {
		return nil, err
	}
	w.onClose(w.fleet.close)
	if _, err := await(ctx, time.Now(), time.Minute, w.flows()...); err != nil {
		return nil, fmt.Errorf("nothing flows before the first fault: %w", err)
	}
	return w, nil
}

func (w *world) startLinks(ctx context.Context) (err error) {
	if len(w.cfg.Linked) > 0 {
		if w.links, err = startLinks(w.stack, w.cfg.Linked); err != nil {
			return err
		}
		w.onClose(func(context.Context) error { w.links.close(); return nil })
	}
	if w.cfg.LinkedLake {
		l := w.stack.LinkTo(stack.LinkToLake)[0]
		if w.lake, err = startLakeProxy(ctx, l.Listen, l.Upstream); err != nil {
			return err
		}
		w.onClose(func(context.Context) error { return w.lake.close() })
	}
	return nil
}

// flows holds when new frames go all the way: acknowledged, judged, alerted, in the lake.
func (w *world) flows() []condition {
	since := time.Now()
	return []condition{
		w.acks(since),
		w.watch.passes(processor, topic.Frames),
		w.watch.passes(router, topic.Anomalies),
		w.watch.passes(writer, topic.Readings),
	}
}

// acks holds when each edge has had a frame acknowledged that it sent after since.
func (w *world) acks(since time.Time) condition {
	return func(context.Context) string {
		if !w.fleet.ackedSince(since) {
			return "an edge has had nothing acknowledged since " + since.UTC().Format("15:04:05.000")
		}
		return ""
	}
}

// fleetConfig is what a run has otherwise than an installation: windows of 1 s, so that a fault is seen in seconds;
// short sessions; small files.
func fleetConfig(routing string) map[string]any {
	session := sessionTimeout.String()
	return map[string]any{
		"kafka":          map[string]any{"partitions": 6},
		"ingest_gateway": map[string]any{"frames": map[string]any{"max_future": "72h"}}, // wrong clocks reach the judge
		"stream_processor": map[string]any{
			"session_timeout": session,
			"snapshot":        map[string]any{"max_age": "10s"},
			"detection": map[string]any{
				"window_length": "1s", "allowed_lateness": "500ms", "idle_flush": "5s",
				// Silence would open an alert for each machine in each outage, and at the end.
				"silence":  map[string]any{"min": "6h"},
				"detect":   map[string]any{"limits": []any{map[string]any{"sensor": "temperature", "high_critical": limit}}},
				"episodes": map[string]any{"ongoing_every": "10s", "clear_windows": 2, "critical_windows": 2},
			},
		},
		"alert_router": map[string]any{
			"session_timeout": session, "transaction_timeout": session, "routing_file": routing, "log_notifications": false,
		},
		"cold_path_writer": map[string]any{
			"session_timeout": session, "chunk": map[string]any{"interval": "3s"}, "retry": map[string]any{"max": "1s"},
			"lake": map[string]any{"timeout": "5s"},
		},
	}
}

// routingFile tells each alert at once, by itself.
func routingFile(url string) string {
	return fmt.Sprintf(`route:
  receiver: people
  group_by: [alert_id]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 4h
receivers:
  - name: people
    webhook_configs:
      - url: %q
        send_resolved: true
        timeout: 3s
`, url)
}

// settings are those of the services, read back from the file that they read.
func (w *world) detection() (*streamprocessor.DetectionConfig, error) {
	cfg := streamprocessor.DefaultConfig()
	if err := config.Load(w.stack.ConfigFile(), config.Section{Name: "stream_processor", Value: &cfg}); err != nil {
		return nil, err
	}
	return &cfg.Detection, nil
}

// check lets the world come to rest and compares what stands in it with what was promised.
func (w *world) check(ctx context.Context, patience time.Duration) (*history.Report, error) {
	flush, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := w.fleet.rest(flush); err != nil {
		return nil, err
	}
	detection, err := w.detection()
	if err != nil {
		return nil, err
	}
	env := environment(w.stack)
	bucket, err := objstore.Open(ctx, objstore.Config{
		URL: "s3://" + stack.Bucket, Endpoint: env["AWS_ENDPOINT_URL_S3"], Region: env["AWS_REGION"],
		AccessKey: env["AWS_ACCESS_KEY_ID"], SecretKey: env["AWS_SECRET_ACCESS_KEY"], PathStyle: true, Timeout: 30 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = bucket.Close() }()
	kcfg := kafka.DefaultConfig()
	kcfg.Brokers = w.stack.Brokers()
	past := history.World{
		Kafka: kcfg, Lake: bucket, Detection: detection, Ledger: w.ledger,
		Schemas: func(_ context.Context, id string) ([]string, error) {
			return nil, fmt.Errorf("no schema is registered, not %q", id)
		},
		Groups: []string{processor, router, writer},
	}
	if err := history.Settle(ctx, past, patience); err != nil {
		return nil, err
	}
	// The engine is told after the commit and sends at once; a group's end goes out a group_interval later.
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(3 * time.Second):
	}
	past.Notifications, _ = w.people.notifications()
	report, err := history.Check(ctx, past)
	if err != nil {
		return nil, err
	}
	return report, w.fleet.err()
}

// environment is how clients reach the stack.
func environment(s *stack.Stack) map[string]string {
	env := map[string]string{}
	for _, e := range s.Env() {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	return env
}

// logs are the service logs' ends, for a report of what failed.
func (w *world) logs(ctx context.Context, out io.Writer, lines int) {
	for _, name := range slices.Concat(instances(), []string{"kafka-1", "s3"}) {
		fmt.Fprintf(out, "--- the end of %s\n", w.stack.LogFile(name))
		_ = w.stack.Logs(ctx, out, name, lines, false)
	}
}

func (w *world) close(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for _, f := range w.closed {
		errs = append(errs, f(ctx))
	}
	w.closed = nil
	return errors.Join(errs...)
}
