package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/deploy/proof/history"
	"github.com/tocsin-io/tocsin/deploy/proof/simulation/memnet"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// debugLogs has processes log all they can, for looking into one seed.
var debugLogs = os.Getenv("TOCSIN_SIM_DEBUG") != ""

// Options of a world.
type Options struct {
	Seed       uint64
	Dir        string // for the lake and the routers' notification logs
	Partitions int32
	Gateways   int
	Processors int
	Writers    int
	Routers    int
	Machines   int
	// EdgeGateways is how many gateways the machines are behind, one after the other.
	EdgeGateways int
	// Sound: no machine falls ill by itself.
	Sound bool
	// GroupWait of the routers' routing file.
	GroupWait time.Duration
	// LakeInterval is the writer's chunk interval. Files are the costliest thing of a run.
	LakeInterval time.Duration
	// Restart is how long an orchestrator waits before it starts a process again: at least, at most.
	Restart [2]time.Duration
}

// DefaultOptions is a small fleet with two of every service that shares partitions.
func DefaultOptions(seed uint64, dir string) Options {
	return Options{
		Seed: seed, Dir: dir, Partitions: 3, Gateways: 2, Processors: 2, Writers: 2, Routers: 2, Machines: 6, EdgeGateways: 3,
		LakeInterval: time.Minute,
		Restart:      [2]time.Duration{500 * time.Millisecond, 20 * time.Second},
	}
}

const brokerNode = "kafka"

// World is everything of one run. It lives in one bubble.
type World struct {
	opts    Options
	ctx     context.Context //nolint:containedctx // ends the whole world
	stop    context.CancelFunc
	running sync.WaitGroup
	began   time.Time

	net     *memnet.Network
	tap     *tap
	cluster *kfake.Cluster
	kafka   kafka.Config // without Dial
	lake    *objstore.Dir
	storage *storage
	pager   *pager
	ledger  *history.Ledger
	trace   *trace
	edges   []*edge

	processes  []*process
	gateways   []*process
	processors []*process
	writers    []*process
	routers    []*process

	mu      sync.Mutex
	rand    *rand.Rand
	result  *Result
	handles []*kfake.FaultHandle
	dead    []*memnet.Node // of killed incarnations
	outages []history.Outage
	poisons uint64
}

// NewWorld starts everything. Call it in a bubble; Close must end it in the same.
func NewWorld(opts Options) (*World, error) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &World{
		opts: opts, ctx: ctx, stop: cancel, began: time.Now(), rand: rand.New(rand.NewPCG(opts.Seed, 0x70c51)),
		ledger: history.NewLedger(), result: newResult(opts.Seed),
	}
	var err error
	if w.trace, err = openTrace(opts.Seed); err != nil {
		cancel()
		return nil, err
	}
	w.tap = newTap(w)
	w.net = memnet.New(w.tap)
	broker := w.net.Node(brokerNode).Broker()
	w.cluster, err = kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.Ports(9092),
		kfake.ListenFn(func(network, address string) (net.Listener, error) { return broker.Listen(network, address) }),
		kfake.GroupMinSessionTimeout(100*time.Millisecond),
	)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	w.kafka = kafka.DefaultConfig()
	w.kafka.Brokers, w.kafka.Partitions = w.cluster.ListenAddrs(), opts.Partitions
	if err := w.topics(); err != nil {
		w.Close()
		return nil, err
	}
	if w.lake, err = objstore.OpenDir(filepath.Join(opts.Dir, "lake")); err != nil {
		w.Close()
		return nil, err
	}
	w.storage = newStorage(w, w.lake)
	w.pager = newPager(w)
	if err := w.services(); err != nil {
		w.Close()
		return nil, err
	}
	w.senders()
	return w, nil
}

// kafkaAs is how a node reaches the broker.
func (w *World) kafkaAs(node *memnet.Node) kafka.Config {
	k := w.kafka
	k.Dial = node.DialContext
	return k
}

// client is a Kafka client of a node that no fault touches.
func (w *World) client(name string, opts ...kgo.Opt) (*kgo.Client, error) {
	base, err := w.kafkaAs(w.net.Node(name)).Options(zap.NewNop())
	if err != nil {
		return nil, err
	}
	return kgo.NewClient(append(base, opts...)...)
}

func (w *World) topics() error {
	cl, err := w.client("judge")
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	return kafka.EnsureTopics(ctx, cl, w.kafka, topic.All()...)
}

func (w *World) deps(inc *incarnation) service.Deps {
	return service.Deps{
		Log: inc.log, Metrics: metrics.NewSet(), Tracer: noop.NewTracerProvider(), Kafka: w.kafkaAs(inc.node), Network: inc.node,
	}
}

// Close ends all and waits for it. Idempotent.
func (w *World) Close() {
	w.stop()
	// A killed incarnation may wait for Kafka for ever: its client keeps records whose fate it does not know. Let it ask.
	w.mu.Lock()
	dead := w.dead
	w.dead = nil
	w.mu.Unlock()
	w.net.Heal()
	for _, n := range dead {
		n.Revive()
	}
	w.running.Wait()
	if w.pager != nil {
		w.pager.close()
	}
	if w.cluster != nil {
		w.cluster.Close()
	}
	if w.lake != nil {
		_ = w.lake.Close()
	}
	w.trace.close()
}

// recovery is how long after a fault of a router or of the pager nobody may have been told: a session's time-out, a restore, a retry.
const recovery = time.Minute

// mute notes that people may not be told of alerts, from now until so long from now and some time to recover.
func (w *World) mute(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outages = append(w.outages, history.Outage{From: time.Now(), To: time.Now().Add(d + recovery)})
}

// since is virtual time since the world began.
func (w *World) since() time.Duration { return time.Since(w.began) }

// float, intn and between draw from the world's seed.
func (w *World) float() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.Float64()
}

func (w *World) intn(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.IntN(n)
}

func (w *World) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.float()*float64(hi-lo))
}

func (w *World) restartDelay() time.Duration { return w.between(w.opts.Restart[0], w.opts.Restart[1]) }

// pause waits; false when the world ends.
func (w *World) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-w.ctx.Done():
		return false
	}
}
