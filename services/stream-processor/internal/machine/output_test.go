package machine

import (
	"bytes"
	"math"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

func TestWindowBytesAreThoseOfTheGeneratedCode(t *testing.T) {
	number := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1)}))
	rapid.Check(t, func(t *rapid.T) {
		w := Window{
			EquipmentID: rapid.StringMatching(`[a-z0-9]{0,128}`).Draw(t, "id"), StartUS: rapid.Int64().Draw(t, "start"), EndUS: rapid.Int64().Draw(t, "end"),
			Revision: rapid.Uint32().Draw(t, "revision"), Score: number.Draw(t, "score"), Learning: rapid.Bool().Draw(t, "learning"),
			ClosedAtMS: rapid.Int64().Draw(t, "closed"),
		}
		for range rapid.IntRange(0, 4).Draw(t, "sensors") {
			w.Sensors = append(w.Sensors, SensorWindow{
				Sensor: rapid.StringMatching(`[a-z]{0,20}`).Draw(t, "sensor"), Count: rapid.Uint32().Draw(t, "count"), Unusable: rapid.Uint32().Draw(t, "unusable"),
				Mean: number.Draw(t, "mean"), Stddev: number.Draw(t, "stddev"), Min: number.Draw(t, "min"), Max: number.Draw(t, "max"),
				Last: number.Draw(t, "last"), Score: number.Draw(t, "score"), ExpectedLow: number.Draw(t, "low"), ExpectedHigh: number.Draw(t, "high"),
			})
		}
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(w.Proto())
		if err != nil {
			t.Fatal(err)
		}
		if got := w.AppendTo([]byte("x")); !bytes.Equal(got[1:], want) || got[0] != 'x' {
			t.Fatalf("%x, want %x", got[1:], want)
		}
	})
}
