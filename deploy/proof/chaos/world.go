package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	alertrouter "github.com/tocsin-io/tocsin/services/alert-router"
	coldpathwriter "github.com/tocsin-io/tocsin/services/cold-path-writer"
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
	// Links: each service reaches Kafka through a proxy of its own, and writers the S3 server.
	Links bool
	// SmallDisks gives components a disk of their own with so many bytes.
	SmallDisks map[string]int
	Fleet      FleetConfig
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
	disks  map[string]string // by component

	mu     sync.Mutex
	closed []func(context.Context) error // in order of closing
}

// onClose adds what close does, before what was added earlier.
func (w *world) onClose(f func(context.Context) error) {
	w.closed = append([]func(context.Context) error{f}, w.closed...)
}

// startWorld brings everything up and the fleet to send. On an error everything is down again.
func startWorld(ctx context.Context, dir string, cfg WorldConfig, o Options) (_ *world, err error) {
	w := &world{cfg: cfg, log: o.Log, dir: dir, ledger: history.NewLedger(), disks: map[string]string{}}
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
	if err := os.WriteFile(routing, []byte(routingFile(w.people.url())), 0o644); err != nil {
		return nil, err
	}
	opts := stack.Options{
		Repo: o.Repo, Bin: o.Bin, Dir: dir, PortOffset: stack.AutoPorts, Brokers: max(cfg.Brokers, 1), Ephemeral: true, Replicas: 2,
		Only:       []string{stack.GroupKafka, "s3", "victoria-metrics"}, // services are the supervisor's
		LinkedLake: cfg.Links, DataDirs: w.disks, Config: fleetConfig(routing), Progress: o.stackProgress(), HealthTimeout: 2 * time.Minute,
	}
	if cfg.Links {
		opts.Linked = linked()
	}
	for name, size := range cfg.SmallDisks {
		mount := filepath.Join(dir, "disks", name)
		unmount, err := smallDisk(mount, size)
		if err != nil {
			return nil, err
		}
		w.onClose(func(context.Context) error { return unmount() })
		w.disks[name] = filepath.Join(mount, "data")
	}
	if w.stack, err = stack.New(opts); err != nil {
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

// startLinks stands in the ways that the stack leaves open. The S3 server's way has two stations: a link that can be cut, and behind it a proxy
// that understands HTTP.
func (w *world) startLinks(ctx context.Context) (err error) {
	if !w.cfg.Links {
		return nil
	}
	if w.lake, err = startLakeProxy(ctx, w.stack.Addr("s3")); err != nil {
		return err
	}
	w.onClose(func(context.Context) error { return w.lake.close() })
	ways := map[string][]stack.Link{stack.LinkToLake: {{Listen: w.stack.LinkTo(stack.LinkToLake)[0].Listen, Upstream: w.lake.addr()}}}
	for _, service := range linked() {
		ways[service] = w.stack.LinkTo(service)
	}
	if w.links, err = startLinks(ways); err != nil {
		return err
	}
	w.onClose(func(context.Context) error { w.links.close(); return nil })
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
			"session_timeout": session, "transaction_timeout": session, "routing_file": routing, "egress_allow": []string{"127.0.0.1"}, "log_notifications": false,
		},
		"cold_path_writer": map[string]any{
			"session_timeout": session, "chunk": map[string]any{"interval": chunkInterval.String()},
			"lake":        map[string]any{"timeout": "5s"},
			"maintenance": map[string]any{"interval": "0s"}, // what is checked are the files as they were written
		},
	}
}

// notifyWithin is how soon people must be told. Longer than any fault but the webhook's own outage lasts.
const notifyWithin = 15 * time.Second

// notes say what each service has to say, for the diagnosis of a stall.
func (w *world) notes(ctx context.Context) []string {
	var out []string
	for _, name := range instances() {
		state := "ready"
		if err := ready(ctx, w.watch.http, w.stack.Addr(name)); err != nil {
			state = err.Error()
		}
		out = append(out, name+": "+state)
	}
	return out
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

// judge is the processor's configuration, from the file that it reads. The file names secrets by variables, which stand in the processor's environment.
func (w *world) judge() (streamprocessor.Config, error) {
	cfg := streamprocessor.DefaultConfig()
	env := environment(w.stack)
	lookup := func(name string) (string, bool) {
		if v, ok := env[name]; ok {
			return v, true
		}
		return os.LookupEnv(name)
	}
	return cfg, config.LoadWith(lookup, w.stack.ConfigFile(), config.Section{Name: "stream_processor", Value: &cfg})
}

// chunkInterval is how often files end.
const chunkInterval = 3 * time.Second

// check lets the world come to rest and compares what stands in it with what was promised.
func (w *world) check(ctx context.Context, patience time.Duration) (*history.Report, error) {
	flush, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := w.fleet.rest(flush); err != nil {
		return nil, err
	}
	judge, err := w.judge()
	if err != nil {
		return nil, err
	}
	rules := coldpathwriter.DefaultConfig().Chunk
	rules.Interval = chunkInterval
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
		Kafka: kcfg, Groups: history.DefaultGroups(), Lake: bucket, Chunk: &rules, Detection: &judge.Detection, Ledger: w.ledger,
		NotifyWithin: notifyWithin, SendResolved: true, Notes: w.notes, Incidents: alertrouter.DefaultConfig().Incidents,
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
	past.Outages = w.people.away()
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
