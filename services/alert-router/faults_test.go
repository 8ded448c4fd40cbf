package alertrouter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/incident"
)

// What the broker refuses at the two steps of a commit, and whether the service goes on by itself. In every case, in the
// end each transition stands once and is told once.
func TestBrokenCommit(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault kfake.Fault
		exits bool
	}{
		{"offsets refused, a rebalance had begun", kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.IllegalGeneration}, false},
		{"offsets refused, abort asked for", kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.TransactionAbortable}, false},
		{"produce refused", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic.Alerts, Err: kerr.TransactionAbortable}, false},
		{"end refused, producer fenced", kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.InvalidProducerEpoch}, true},
		{"end refused, unknown error", kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.UnknownServerError}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster, k := kafkatest.StartCluster(t, 2)
			h := newHook(t)
			cfg := configFor(t, t.TempDir())
			cfg.RoutingFile = routingTo(t, h.URL)
			r := run(t, k, cfg)
			p := newProducer(t, k)
			p.anomalies(anomaly("m-0", "limit", 1, started, crit))
			eventually(t, "first page", func() error { return count(h.told(), "firing m-0", 1) })

			hit := cluster.Fault(c.fault)
			p.anomalies(anomaly("m-1", "limit", 1, started, warning), anomaly("m-1", "limit", 1, ongoing, crit), anomaly("m-0", "limit", 1, ended, crit))
			eventually(t, "fault", func() error {
				if hit.Hits() == 0 {
					return errors.New("not hit")
				}
				return nil
			})
			if c.exits {
				select {
				case <-r.done:
				case <-time.After(patience):
					t.Fatal("nobody can tell how the transaction ended, and Run goes on")
				}
				if r.err == nil || !strings.Contains(r.err.Error(), "end transaction") {
					t.Fatalf("Run ended with %v", r.err)
				}
				r = run(t, k, cfg)
			}
			eventually(t, "told once", func() error {
				return errors.Join(count(h.told(), "firing m-1/limit/1 critical", 1), count(h.told(), "resolved m-0", 1))
			})
			once(t, k, "m-0/limit/1/opened", "m-0/limit/1/closed", "m-1/limit/1/opened", "m-1/limit/1/escalated-critical")
			if err := count(h.told(), "firing m-0", 1); err != nil {
				t.Error(err)
			}
			as, err := r.alerts(t)
			if err != nil || len(as) != 1 {
				t.Errorf("%v: %+v", err, as)
			}
		})
	}
}

// While no commit succeeds, nothing stands, and nobody is told.
func TestNobodyIsToldBeforeTheCommit(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.TxnOffsetCommit, kmsg.Produce} {
		t.Run(key.Name(), func(t *testing.T) {
			cluster, k := kafkatest.StartCluster(t, 1)
			h := newHook(t)
			cfg := configFor(t, t.TempDir())
			cfg.RoutingFile = routingTo(t, h.URL)
			run(t, k, cfg)
			fault := kfake.Fault{Keys: []kmsg.Key{key}, Err: kerr.TransactionAbortable, Count: -1}
			if key == kmsg.Produce {
				fault.Topic = topic.Alerts
			}
			refused := cluster.Fault(fault)
			p := newProducer(t, k)
			p.anomalies(anomaly("m-1", "limit", 1, started, crit))
			eventually(t, "aborted again and again", func() error {
				if n := refused.Hits(); n < 5 {
					return fmt.Errorf("%d times", n)
				}
				return nil
			})
			if told := h.told(); len(told) > 0 {
				t.Errorf("told of what does not stand: %q", told)
			}
			refused.Remove()
			eventually(t, "told", func() error { return count(h.told(), "firing m-1/limit/1", 1) })
			once(t, k, "m-1/limit/1/opened")
		})
	}
}

// once checks that the log holds exactly these events, each once, in any order.
func once(t testing.TB, k kafka.Config, want ...string) {
	t.Helper()
	var got []string
	for _, ev := range events(t, k, len(want)) {
		got = append(got, ev.GetEventId())
	}
	slices.Sort(got)
	slices.Sort(want)
	if err := same(got, want); err != nil {
		t.Error(err)
	}
}

// The previous owner's last transaction may still be open when a partition is taken over. The restore waits for it
// instead of stopping at the last stable offset, which would lose the alert in it.
func TestRestoreWaitsForOpenTransaction(t *testing.T) {
	k := broker(t, 1)
	owner := kafkatest.Client(t, k, kgo.TransactionalID("previous-owner"), kgo.TransactionTimeout(time.Minute))
	if err := owner.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := owner.ProduceSync(ctx, opened(t, "m-1")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r := start(t, k, configFor(t, t.TempDir()))
	eventually(t, "restoring", func() error {
		if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "restoring") {
			return fmt.Errorf("ready: %w", err)
		}
		return nil
	})
	var out any
	if err := r.get("/api/v2/alerts", &out); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("API while restoring: %v", err)
	}
	if err := owner.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ready", r.Ready)
	as, err := r.alerts(t)
	if err != nil || len(as) != 1 || as[0].Labels["alert_id"] != "m-1/limit/1" {
		t.Errorf("%v: %+v", err, as)
	}
	// The same report again is a repeat now.
	p := newProducer(t, k)
	p.anomalies(anomaly("m-1", "limit", 1, started, crit), anomaly("m-2", "limit", 1, started, crit))
	once(t, k, "m-1/limit/1/opened", "m-2/limit/1/opened")
}

// opened is the event of a machine's alert that begins, as a router writes it.
func opened(t testing.TB, machine string) *kgo.Record {
	t.Helper()
	ev := incident.NewBook().Apply(withTime(anomaly(machine, "limit", 1, started, crit)))[0].Event
	value, err := proto.Marshal(ev)
	if err != nil {
		t.Fatal(err)
	}
	return &kgo.Record{Topic: topic.Alerts, Key: []byte(machine), Value: value, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeAlert)}}}
}

func withTime(a *eventv1.Anomaly) *eventv1.Anomaly {
	a.JudgedAtMs = time.Now().UnixMilli()
	return a
}

// The event of an aborted transaction at the end of the log is not an alert, does not keep the machine's next one from being told, and does not
// stop the restore.
func TestRestorePassesAbortedTransaction(t *testing.T) {
	k := broker(t, 1)
	owner := kafkatest.Client(t, k, kgo.TransactionalID("previous-owner"))
	if err := owner.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := owner.ProduceSync(ctx, opened(t, "m-1")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := owner.EndTransaction(ctx, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	r := run(t, k, configFor(t, t.TempDir()))
	if as, err := r.alerts(t); err != nil || len(as) != 0 {
		t.Errorf("%v: %+v", err, as)
	}
	p := newProducer(t, k)
	p.anomalies(anomaly("m-1", "limit", 1, started, crit))
	once(t, k, "m-1/limit/1/opened")
}

// Two instances share the machines; each alert is with one of them, and moving it resolves nothing.
func TestPartitionsMoveBetweenInstances(t *testing.T) {
	const machines = 12
	k := broker(t, 6)
	h := newHook(t)
	p := newProducer(t, k)
	one := configFor(t, t.TempDir())
	one.RoutingFile = routingTo(t, h.URL)
	one.SessionTimeout = 6 * time.Second // who is only busy keeps its partitions; who has left is waited for as long
	a := run(t, k, one)
	for i := range machines {
		p.anomalies(anomaly(fmt.Sprintf("m-%d", i), "limit", 1, started, crit))
	}
	eventually(t, "all told", func() error { return count(h.told(), "firing", machines) })

	two := one
	two.DataDir, two.InstanceID = t.TempDir(), "alert-router-1"
	b := start(t, k, two)
	shared := func() error {
		x, err := a.alerts(t)
		if err != nil {
			return err
		}
		y, err := b.alerts(t)
		if err != nil {
			return err
		}
		if len(x) == 0 || len(y) == 0 || len(x)+len(y) != machines {
			return fmt.Errorf("%d and %d alerts", len(x), len(y))
		}
		return errors.Join(a.Ready(), b.Ready())
	}
	eventually(t, "shared", shared)
	p.anomalies(anomaly("m-3", "limit", 1, ended, crit), anomaly("m-4", "clock", 1, started, crit))
	eventually(t, "both go on", func() error {
		return errors.Join(count(h.told(), "resolved m-3/limit/1", 1), count(h.told(), "firing m-4/clock/1", 1))
	})

	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	// A static member keeps its partitions until its session ends; then they come back.
	eventually(t, "taken back", func() error {
		x, err := a.alerts(t)
		if err == nil && len(x) != machines {
			err = fmt.Errorf("%d alerts", len(x))
		}
		return err
	})
	p.anomalies(anomaly("m-5", "limit", 1, ended, crit), anomaly("m-6", "limit", 1, ended, crit), anomaly("m-7", "limit", 1, ended, crit))
	eventually(t, "ends told", func() error { return count(h.told(), "resolved", 4) })
	if err := count(h.told(), "firing", machines+1); err != nil {
		t.Errorf("who takes over pages again: %v", err)
	}
	if n := len(events(t, k, machines+5)); n != machines+5 {
		t.Errorf("%d events", n)
	}
}

// A router that has lost its disk knows from Kafka what it had told.
func TestALostDiskPagesNobodyTwice(t *testing.T) {
	k := broker(t, 2)
	h := newHook(t)
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = routingTo(t, h.URL)
	r := run(t, k, cfg)
	p := newProducer(t, k)
	p.anomalies(anomaly("m-1", "limit", 1, started, crit), anomaly("m-2", "limit", 1, started, crit))
	eventually(t, "two pages", func() error { return count(h.told(), "firing", 2) })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	p.anomalies(anomaly("m-3", "limit", 1, started, crit))
	cfg.DataDir = t.TempDir()
	run(t, k, cfg)
	eventually(t, "the new page", func() error { return count(h.told(), "firing m-3", 1) })
	p.anomalies(anomaly("m-1", "limit", 1, ended, crit))
	eventually(t, "the end", func() error { return count(h.told(), "resolved m-1", 1) })
	if err := count(h.told(), "firing", 3); err != nil {
		t.Error(err)
	}
}

// A second process with the same instance id takes over; the first one ends instead of fighting for it.
func TestSameInstanceTwice(t *testing.T) {
	k := broker(t, 1)
	first := run(t, k, configFor(t, t.TempDir()))
	p := newProducer(t, k)
	p.anomalies(anomaly("m-1", "limit", 1, started, crit))
	once(t, k, "m-1/limit/1/opened")
	second := run(t, k, configFor(t, t.TempDir()))
	p.anomalies(anomaly("m-2", "limit", 1, started, crit))
	select {
	case <-first.done:
		if first.err == nil {
			t.Error("the first ended without an error")
		}
	case <-time.After(patience):
		t.Error("the first goes on")
	}
	once(t, k, "m-1/limit/1/opened", "m-2/limit/1/opened")
	eventually(t, "the second has both", func() error {
		as, err := second.alerts(t)
		if err == nil && len(as) != 2 {
			err = fmt.Errorf("%d alerts", len(as))
		}
		return err
	})
}

// What a restart must read again is written beside the offsets: from the oldest alert that is still held, not from the start.
func TestRestoreMark(t *testing.T) {
	k := broker(t, 1)
	cfg := configFor(t, t.TempDir())
	r := run(t, k, cfg)
	p := newProducer(t, k)
	tick := func() {
		p.records(&kgo.Record{Topic: topic.Anomalies, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeTick)}}})
	}
	adm := kadm.NewClient(p.cl)
	mark := func(want string) func() error {
		return func() error {
			o, err := adm.FetchOffsets(context.Background(), cfg.GroupID)
			if err != nil {
				return err
			}
			if got, _ := o.Lookup(topic.Anomalies, 0); got.Metadata != want {
				return fmt.Errorf("metadata %q, want %q", got.Metadata, want)
			}
			return nil
		}
	}
	tick() // 0, its marker 1
	eventually(t, "after the tick", mark("tocsin-restore-from=1"))
	p.anomalies(anomaly("m-1", "limit", 1, started, crit)) // 2
	eventually(t, "at the alert", mark("tocsin-restore-from=2"))
	tick()
	eventually(t, "still at the alert", func() error {
		kafkatest.Consume(t, k, topic.Alerts, 3, patience)
		return mark("tocsin-restore-from=2")()
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = run(t, k, cfg)
	if as, err := r.alerts(t); err != nil || len(as) != 1 {
		t.Errorf("%v: %+v", err, as)
	}
}
