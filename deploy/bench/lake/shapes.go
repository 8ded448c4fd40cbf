package main

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	fleetsimulator "github.com/tocsin-io/tocsin/services/fleet-simulator"
)

// shape is telemetry as one partition of telemetry.readings.v1 holds it.
type shape struct {
	Name string `json:"name"`
	What string `json:"what"`
	make func(yield func(*eventv1.SensorFrame) bool) error
}

// start of all shapes: an hour's beginning.
var start = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

// shapes are what is measured. rows is about how many rows each has.
func shapes(rows int) []shape {
	const machines = 800 // of 10,000 over 12 partitions
	return []shape{
		{
			Name: "physics-0.2Hz",
			What: "fleet-simulator, 800 machines (five kinds, 8 to 10 sensors each, quantised as sensors are), a sample each 5 s, a frame per sample, shifts of 8 h",
			make: physics(machines, 0.2, rows, 8*time.Hour),
		},
		{
			Name: "physics-1Hz",
			What: "the same at a sample each second",
			make: physics(machines, 1, rows, 8*time.Hour),
		},
		{
			Name: "noisy-1Hz",
			What: "800 machines of 10 sensors, values with noise in every bit of the float (nothing quantised), clocks that jitter by 3 ms, a sample each second",
			make: noisy(machines, rows),
		},
		{
			Name: "physics-10x12",
			What: "fleet-simulator at a sample each second, 12 samples to a frame",
			make: coalesce(12, physics(machines, 1, rows, 8*time.Hour)),
		},
		{
			Name: "wide-25000",
			What: "4 machines with frames of 25,000 named features, slow walks rounded to 0.01, a frame each second",
			make: wide(4, 25_000, rows),
		},
	}
}

type source = func(yield func(*eventv1.SensorFrame) bool) error

func physics(machines int, rate float64, rows int, cycle time.Duration) source {
	return func(yield func(*eventv1.SensorFrame) bool) error {
		cfg := fleetsimulator.DefaultConfig()
		cfg.Machines, cfg.Rate, cfg.Cycle, cfg.Faults = machines, rate, cycle, fleetsimulator.FaultsAuto
		d := time.Duration(float64(rows) / (8.8 * float64(machines) * rate) * float64(time.Second))
		frames, err := fleetsimulator.Frames(cfg, start, d)
		if err != nil {
			return err
		}
		for s := range frames {
			if s.Frame != nil && !yield(s.Frame) {
				return nil
			}
		}
		return nil
	}
}

func noisy(machines, rows int) source {
	return func(yield func(*eventv1.SensorFrame) bool) error {
		rng := rand.New(rand.NewPCG(7, 11))
		const sensors = 10
		level := make([]float64, machines*sensors)
		for i := range level {
			level[i] = math.Exp(rng.NormFloat64()) * 50
		}
		names := make([]string, sensors)
		for i := range names {
			names[i] = fmt.Sprintf("channel_%d", i)
		}
		for n := range rows / sensors {
			m := n % machines
			at := start.Add(time.Duration(n/machines)*time.Second + time.Duration(m)*time.Second/time.Duration(machines))
			f := &eventv1.SensorFrame{
				EquipmentId: fmt.Sprintf("rig-%04d", m), GatewayId: fmt.Sprintf("gateway-%02d", m%16), Sequence: uint64(n/machines + 1),
				BaseTimeUs: at.UnixMicro() + int64(rng.NormFloat64()*3000), Sensors: names,
			}
			for s := range sensors {
				l := &level[m*sensors+s]
				*l += rng.NormFloat64() * 0.05
				f.Values = append(f.Values, float32(*l+rng.NormFloat64()))
			}
			if !yield(f) {
				return nil
			}
		}
		return nil
	}
}

func wide(machines, features, rows int) source {
	return func(yield func(*eventv1.SensorFrame) bool) error {
		rng := rand.New(rand.NewPCG(3, 5))
		names := make([]string, features)
		level := make([][]float64, machines)
		for i := range names {
			names[i] = fmt.Sprintf("line_%02d.cell_%03d.feature_%05d", i/5000, i/100, i)
		}
		for m := range level {
			level[m] = make([]float64, features)
			for i := range level[m] {
				level[m][i] = 100 * rng.Float64()
			}
		}
		for n := range rows / features {
			m := n % machines
			f := &eventv1.SensorFrame{
				EquipmentId: fmt.Sprintf("line-%d", m), GatewayId: "gateway-1", Sequence: uint64(n/machines + 1),
				BaseTimeUs: start.Add(time.Duration(n) * time.Second / time.Duration(machines)).UnixMicro(), Sensors: names,
			}
			for i := range features {
				level[m][i] += rng.NormFloat64() * 0.1
				f.Values = append(f.Values, float32(math.Round(level[m][i]*100)/100))
			}
			if !yield(f) {
				return nil
			}
		}
		return nil
	}
}

// coalesce makes one frame of n samples of each machine.
func coalesce(n int, of source) source {
	return func(yield func(*eventv1.SensorFrame) bool) error {
		open := map[string][]*eventv1.SensorFrame{}
		return of(func(f *eventv1.SensorFrame) bool {
			list := append(open[f.EquipmentId], f)
			open[f.EquipmentId] = list
			if len(list) < n {
				return true
			}
			delete(open, f.EquipmentId)
			out := &eventv1.SensorFrame{EquipmentId: f.EquipmentId, GatewayId: f.GatewayId, Sequence: list[0].Sequence, BaseTimeUs: list[0].BaseTimeUs, Sensors: f.Sensors}
			for _, s := range list {
				out.TimeOffsetsUs = append(out.TimeOffsetsUs, uint64(s.BaseTimeUs-out.BaseTimeUs))
			}
			for i := range f.Sensors {
				for _, s := range list {
					out.Values = append(out.Values, s.Values[i])
				}
			}
			return yield(out)
		})
	}
}

// record writes a shape's records: length, offset, broker's time in ms, value; numbers little endian. Frames come a little out of order, as the
// ways of gateways differ, and the broker stamps batches of 5 ms.
func (s shape) record(path string) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := bufio.NewWriterSize(file, 1<<20)
	rng := rand.New(rand.NewPCG(1, 1))
	way := arrivals{}
	var offset int64
	var failed error
	write := func(a arrival) {
		a.reading.Offset, a.reading.Partition, a.reading.LogAppendTimeMs = offset, 7, a.atUS/5000*5
		a.reading.Dispositions = []eventv1.Disposition{eventv1.Disposition_DISPOSITION_ON_TIME}
		value, err := proto.Marshal(a.reading)
		if err != nil {
			failed = err
			return
		}
		var head [20]byte
		binary.LittleEndian.PutUint32(head[:], uint32(len(value)))
		binary.LittleEndian.PutUint64(head[4:], uint64(offset))
		binary.LittleEndian.PutUint64(head[12:], uint64(a.reading.LogAppendTimeMs+10))
		_, _ = w.Write(head[:]) // Flush tells
		_, _ = w.Write(value)
		offset++
	}
	err = s.make(func(f *eventv1.SensorFrame) bool {
		inner, err := proto.Marshal(f)
		if err != nil {
			failed = err
			return false
		}
		newest := f.BaseTimeUs
		if n := len(f.TimeOffsetsUs); n > 0 {
			newest += int64(f.TimeOffsetsUs[n-1])
		}
		for len(way) > 0 && way[0].atUS < newest {
			write(heap.Pop(&way).(arrival))
		}
		heap.Push(&way, arrival{newest + 20_000 + rng.Int64N(40_000), &eventv1.Reading{Frame: inner}})
		return failed == nil
	})
	for len(way) > 0 {
		write(heap.Pop(&way).(arrival))
	}
	return errors.Join(err, failed, w.Flush())
}

// arrival is a frame on its way to the broker.
type arrival struct {
	atUS    int64
	reading *eventv1.Reading
}

// arrivals is a heap, the next one first.
type arrivals []arrival

func (a arrivals) Len() int           { return len(a) }
func (a arrivals) Less(i, j int) bool { return a[i].atUS < a[j].atUS }
func (a arrivals) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)        { *a = append(*a, x.(arrival)) }

// Pop implements heap.Interface.
func (a *arrivals) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}
