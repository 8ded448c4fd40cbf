package sparkline_test

import (
	"bytes"
	"errors"
	"flag"
	"image"
	"image/png"
	"math"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

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
	value := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, math.MaxFloat64, -math.MaxFloat64, 5e-324}))
	rapid.Check(t, func(t *rapid.T) {
		c := sparkline.Chart{Low: value.Draw(t, "low"), High: value.Draw(t, "high"), Title: rapid.String().Draw(t, "title"), Began: time.Unix(rapid.Int64().Draw(t, "began"), 0)}
		c.Band = rapid.StringN(0, 20, -1).Draw(t, "band")
		for range rapid.IntRange(0, 12).Draw(t, "n") {
			c.Points = append(c.Points, sparkline.Point{At: time.Unix(rapid.Int64Range(0, 1000).Draw(t, "at"), 0), Value: value.Draw(t, "value")})
		}
		if _, err := sparkline.PNG(c); err != nil && !errors.Is(err, sparkline.ErrNothing) {
			t.Fatal(err)
		}
	})
}

func BenchmarkPNG(b *testing.B) {
	c := chart()
	for b.Loop() {
		if _, err := sparkline.PNG(c); err != nil {
			b.Fatal(err)
		}
	}
}
