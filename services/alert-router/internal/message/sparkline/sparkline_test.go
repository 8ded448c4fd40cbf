package sparkline_test

import (
	"bytes"
	"errors"
	"flag"
	"image"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/message/messagetest"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/message/sparkline"
)

var rewrite = flag.Bool("rewrite", false, "write the golden picture anew")

func chart() sparkline.Chart {
	began := messagetest.Now().Add(-26 * time.Second)
	c := sparkline.Chart{Low: 61, High: 68.5, Began: began, Title: "bearing_temp", Value: "92.4 °C", Band: "expected 61 to 68.5 °C", Accent: message.Accent("critical", false)}
	for _, p := range messagetest.Rising(began) {
		c.Points = append(c.Points, sparkline.Point{At: p.At, Value: p.Value})
	}
	return c
}

// The picture was looked at; a change of it is to be looked at as well. Edges may differ by a shade on other processors.
func TestPicture(t *testing.T) {
	got, err := sparkline.PNG(chart())
	if err != nil {
		t.Fatal(err)
	}
	if *rewrite {
		if err := os.WriteFile("testdata/chart.png", got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/chart.png")
	if err != nil {
		t.Fatal(err)
	}
	a, b := decode(t, got), decode(t, want)
	if a.Bounds() != b.Bounds() || a.Bounds() != image.Rect(0, 0, sparkline.Width, sparkline.Height) {
		t.Fatalf("%v and %v", a.Bounds(), b.Bounds())
	}
	differ := 0
	for y := range sparkline.Height {
		for x := range sparkline.Width {
			r, g, bl, _ := a.At(x, y).RGBA()
			wr, wg, wb, _ := b.At(x, y).RGBA()
			if far(r, wr) || far(g, wg) || far(bl, wb) {
				differ++
			}
		}
	}
	if differ > 50 {
		t.Errorf("%d pixels differ from testdata/chart.png; run with -rewrite and look at it", differ)
	}
	if len(got) > 30<<10 {
		t.Errorf("%d bytes", len(got))
	}
}

func far(a, b uint32) bool { return max(a, b)-min(a, b) > 0x1800 }

func decode(t *testing.T, b []byte) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// No series, band or time makes it fail otherwise than by ErrNothing.
func TestAnySeries(t *testing.T) {
	odd := []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, 1, -1, math.MaxFloat64, -math.MaxFloat64, 5e-324, 1e300}
	rng := rand.New(rand.NewPCG(1, 2))
	value := func() float64 {
		if rng.IntN(12) > 0 {
			return rng.NormFloat64()
		}
		return odd[rng.IntN(len(odd))]
	}
	drawn := 0
	for range 12 {
		c := sparkline.Chart{Low: value(), High: value(), Title: "\u202ea\x00\xff😀", Value: "x", Band: "b", Began: time.Unix(rng.Int64N(2000)-500, 0)}
		for i := range rng.IntN(12) {
			c.Points = append(c.Points, sparkline.Point{At: time.Unix(int64(i)*100+rng.Int64N(150), 0), Value: value()})
		}
		switch _, err := sparkline.PNG(c); {
		case err == nil:
			drawn++
		case !errors.Is(err, sparkline.ErrNothing):
			t.Fatal(err)
		}
	}
	if drawn < 2 {
		t.Errorf("only %d of 12 were drawn", drawn)
	}
}

func BenchmarkPNG(b *testing.B) {
	c := chart()
	for b.Loop() {
		if _, err := sparkline.PNG(c); err != nil {
			b.Fatal(err)
		}
	}
}
