package lakeproof

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/ingestclient"
)

// Sizes of what is sent. Each frame has Samples of a machine, one second apart.
type Sizes struct {
	Machines int `json:"machines"`
	Sensors  int `json:"sensors"`
	Frames   int `json:"frames_of_a_machine"`
	Samples  int `json:"samples_of_a_frame"`
	// Rate is how many readings are sent a second; 0: as fast as they are taken.
	Rate int `json:"readings_a_second"`
}

// Readings is how many there are in all.
func (s Sizes) Readings() int { return s.Machines * s.Sensors * s.Frames * s.Samples }

const (
	gateway = "line-1"
	// missing: one in so many values.
	missing = 97
	// A frame's sequence weighs more than any sample in it.
	sequenceWeight = 64
)

func machineID(m int) string { return fmt.Sprintf("press-%04d", m) }
func sensorID(s int) string  { return fmt.Sprintf("sensor-%02d", s) }

// eighths is the value at a place, times 8; ok is false where it is missing. It looks like noise and is the same each time.
func eighths(m, s, seq, t int) (v int64, ok bool) {
	x := uint64(m)<<40 ^ uint64(s)<<32 ^ uint64(seq)<<12 ^ uint64(t)
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return int64(x>>20%1601) - 800, x%missing != 0
}

// group is what the readings of one sensor come to: the same figures as read.py's.
type group struct {
	machine, sensor                  string
	rows, present, sum, placed, time int64
}

func (g group) row() []any {
	return []any{g.machine, g.sensor, g.rows, g.present, g.sum, g.placed, g.time}
}

// truth is what every engine must find, sorted by machine and sensor. Times count from base.
func (s Sizes) truth(begin time.Time, base int64) [][]any {
	var out [][]any
	for m := range s.Machines {
		for sensor := range s.Sensors {
			g := group{machine: machineID(m), sensor: sensorID(sensor)}
			for f := range s.Frames {
				for t := range s.Samples {
					g.rows++
					g.time += begin.UnixMicro() + int64(f*s.Samples+t)*1e6 - base
					if v, ok := eighths(m, sensor, f+1, t); ok {
						g.present++
						g.sum += v
						g.placed += v * int64((f+1)*sequenceWeight+t+1)
					}
				}
			}
			out = append(out, g.row())
		}
	}
	slices.SortFunc(out, func(a, b []any) int {
		if a[0] != b[0] {
			return compare(a[0], b[0])
		}
		return compare(a[1], b[1])
	})
	return out
}

func compare(a, b any) int {
	x, y := a.(string), b.(string)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// feed sends all frames to the gateway and returns when Kafka has each of them.
func (s Sizes) feed(ctx context.Context, url string, begin time.Time, progress func(sent int)) (err error) {
	rejected := make(chan error, 1)
	c, err := ingestclient.New(ingestclient.Config{
		URL: url, Lanes: 2, MaxInFlightPerMachine: 100, MaxBackoff: time.Second, Log: zap.NewNop(),
		OnReject: func(r ingestclient.Rejection) {
			select {
			case rejected <- fmt.Errorf("refused: frame %s: %s: %s", r.Ref, r.Field, r.Reason):
			default:
			}
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	names := make([][]byte, s.Sensors)
	for i := range names {
		names[i] = []byte(sensorID(i))
	}
	fr := frame.Frame{GatewayID: []byte(gateway), Sensors: names}
	began, sent := time.Now(), 0
	for f := range s.Frames {
		for m := range s.Machines {
			fr.EquipmentID, fr.Sequence = []byte(machineID(m)), uint64(f+1)
			fr.BaseTimeUS = begin.Add(time.Duration(f*s.Samples) * time.Second).UnixMicro()
			fr.OffsetsUS, fr.Values = fr.OffsetsUS[:0], fr.Values[:0]
			for t := range s.Samples {
				fr.OffsetsUS = append(fr.OffsetsUS, uint64(t)*1e6)
			}
			for sensor := range s.Sensors {
				for t := range s.Samples {
					v, ok := eighths(m, sensor, f+1, t)
					if !ok {
						fr.Values = append(fr.Values, float32(math.NaN()))
						continue
					}
					fr.Values = append(fr.Values, float32(v)/8)
				}
			}
			ref := ingestclient.Ref{GatewayID: gateway, EquipmentID: string(fr.EquipmentID), Sequence: fr.Sequence}
			if err := c.SendEncoded(ctx, ref, fr.AppendTo(nil)); err != nil {
				return err
			}
			sent += s.Sensors * s.Samples
			if m%100 == 0 {
				progress(sent)
				if err := pace(ctx, began, sent, s.Rate); err != nil {
					return err
				}
			}
		}
	}
	if err := c.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-rejected:
		return err
	default:
		return nil
	}
}

// pace waits until sent readings are due.
func pace(ctx context.Context, began time.Time, sent, rate int) error {
	if rate == 0 {
		return nil
	}
	timer := time.NewTimer(time.Until(began.Add(time.Duration(float64(sent) / float64(rate) * float64(time.Second)))))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
