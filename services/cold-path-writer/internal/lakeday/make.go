// Package lakeday makes a day of a simulated fleet as the writer would store it, has it maintained, asks the historical-api about it, and says how long all of that took.
package lakeday

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// Scale of the day.
type Scale struct {
	Machines   int           `json:"machines"`
	Sensors    int           `json:"sensors"`
	Every      time.Duration `json:"every_ns"` // a sample of all sensors
	Partitions int           `json:"partitions"`
	Hours      int           `json:"hours"`
}

// interval of a file, as chunk.DefaultRules has it.
const interval = 5 * time.Minute

// Rows of the day.
func (s Scale) Rows() int64 {
	return int64(s.Machines) * int64(s.Sensors) * int64(time.Duration(s.Hours)*time.Hour/s.Every)
}

// Validate names what is wrong.
func (s Scale) Validate() error {
	switch {
	case s.Machines < s.Partitions || s.Partitions < 1 || s.Sensors < 1:
		return errors.New("at least one machine a partition, and one sensor")
	case s.Every < time.Second || interval%s.Every != 0:
		return fmt.Errorf("a sample every %s does not fit into %s", s.Every, interval)
	case s.Hours < 1 || s.Hours > 24:
		return errors.New("1 to 24 hours")
	}
	return nil
}

// Day is the day that is made.
func Day() time.Time { return time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC) }

// Machine is the name of the i-th.
func Machine(i int) string { return fmt.Sprintf("plant-%02d.press-%05d", i%20, i) }

// Make writes the day's raw files: for each partition and five minutes one, its records in the order in which they would arrive.
func Make(ctx context.Context, b objstore.Bucket, s Scale) error {
	parts := make(chan int)
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range 2 {
		wg.Go(func() {
			for p := range parts {
				if err := newMaker(s, p).day(ctx, b); err != nil {
					errs <- err
					cancel()
					return
				}
			}
		})
	}
feed:
	for p := range s.Partitions {
		select {
		case parts <- p:
		case <-ctx.Done():
			break feed
		}
	}
	close(parts)
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return ctx.Err()
	}
}

// maker makes one partition's files.
type maker struct {
	Scale
	partition int
	machines  []int
	level     []float64
	sensors   []string
	table     table.Table
	rng       *rand.Rand
	offset    int64
}

func newMaker(s Scale, partition int) *maker {
	m := &maker{Scale: s, partition: partition, table: table.All(nil)[0], rng: rand.New(rand.NewPCG(7, uint64(partition)))}
	for i := partition; i < s.Machines; i += s.Partitions {
		m.machines = append(m.machines, i)
	}
	for i := range s.Sensors {
		m.sensors = append(m.sensors, fmt.Sprintf("sensor_%02d", i))
	}
	m.level = make([]float64, len(m.machines)*s.Sensors)
	for i := range m.level {
		m.level[i] = 20 + 100*m.rng.Float64()
	}
	return m
}

func (m *maker) day(ctx context.Context, b objstore.Bucket) error {
	for at := Day(); at.Before(Day().Add(time.Duration(m.Hours) * time.Hour)); at = at.Add(interval) {
		if err := m.file(ctx, b, at); err != nil {
			return err
		}
	}
	return nil
}

// file makes the records of an interval of broker's time and stores them as the writer does.
func (m *maker) file(ctx context.Context, b objstore.Bucket, at time.Time) error {
	o := lake.Object{
		Source: lake.Source{Table: m.table.Name(), Topic: topic.Readings, TopicID: [16]byte{1}, Partition: int32(m.partition)}, First: m.offset, SinceMS: at.UnixMilli(), Config: "lake-day",
	}
	var recs []table.Record
	for ; ; at = at.Add(m.Every) {
		if at.UnixMilli() >= o.SinceMS+interval.Milliseconds() {
			break
		}
		for i, machine := range m.machines {
			rec, err := m.record(machine, m.level[i*m.Sensors:(i+1)*m.Sensors], at.Add(m.Every*time.Duration(i)/time.Duration(len(m.machines))))
			if err != nil {
				return err
			}
			recs = append(recs, rec)
			m.offset++
		}
	}
	o.End = m.offset
	f, err := m.table.Encode(ctx, recs, func(rows int64, hash uint64) map[string]string {
		o.Rows, o.Hash = rows, hash
		return o.Metadata()
	})
	if err != nil {
		return err
	}
	return b.PutIfAbsent(ctx, o.Key(), f.Data, o.Metadata())
}

// record is a sample of one machine at a broker's time, taken 20 ms before.
func (m *maker) record(machine int, level []float64, at time.Time) (table.Record, error) {
	f := &eventv1.SensorFrame{
		EquipmentId: Machine(machine), GatewayId: fmt.Sprintf("gateway-%02d", machine%20), Sequence: uint64(m.offset + 1),
		BaseTimeUs: at.UnixMicro() - 20_000, TimeOffsetsUs: []uint64{0}, Sensors: m.sensors, Values: make([]float32, len(level)),
	}
	for i := range level {
		level[i] += m.rng.NormFloat64() * 0.1
		f.Values[i] = float32(math.Round(level[i]*100) / 100)
	}
	body, err := proto.Marshal(f)
	if err != nil {
		return table.Record{}, err
	}
	v, err := proto.Marshal(&eventv1.Reading{
		Frame: body, Partition: int32(m.partition), Offset: m.offset, LogAppendTimeMs: at.UnixMilli() - 10, Dispositions: []eventv1.Disposition{eventv1.Disposition_DISPOSITION_ON_TIME},
	})
	return table.Record{Offset: m.offset, TimeMS: at.UnixMilli(), Value: v}, err
}
