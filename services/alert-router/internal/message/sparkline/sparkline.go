// Package sparkline draws what a sensor did lately as a small PNG: the line, the band that was expected, the part that left it, and as few words as tell
// how much and when. The picture brings its own background, so that it reads the same in light and dark mail programs. Pure; the same input gives the same bytes.
package sparkline

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"time"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// Point is one value; NaN is a gap.
type Point struct {
	At    time.Time
	Value float64
}

// Chart is what to draw.
type Chart struct {
	Points []Point // oldest first
	// Low and High are the expected band; NaN: open on that side.
	Low, High float64
	// Began is when the anomaly began; zero: not marked.
	Began time.Time
	// Title stands at the top left: the sensor; Value at the top right: what it is now; Band at the band: what was expected.
	Title, Value, Band string
	// Accent colours what is out of the band.
	Accent color.RGBA
	Zone   *time.Location
}

// Size of the picture in pixels: shown at half of it, so that it is sharp on phones.
const (
	Width  = 1120
	Height = 400
)

// maxPoints bounds the work of one picture; of more, the latest are drawn.
const maxPoints = 2000

// ErrNothing: fewer than two values.
var ErrNothing = errors.New("fewer than two values to draw")

var (
	paper = color.RGBA{0xff, 0xff, 0xff, 0xff}
	frame = color.RGBA{0xd7, 0xdd, 0xe5, 0xff}
	inkC  = color.RGBA{0x1b, 0x25, 0x33, 0xff}
	muted = color.RGBA{0x5d, 0x6b, 0x7e, 0xff}
	line  = color.RGBA{0x2f, 0x5f, 0x9e, 0xff}
	bandC = color.RGBA{0xdf, 0xef, 0xe3, 0xff}
	edge  = color.RGBA{0x8f, 0xbf, 0x9d, 0xff}
	mark  = color.RGBA{0x9a, 0xa5, 0xb4, 0xff}
)

// PNG draws the chart. Cost: some 15 ms and 2 MB for a moment.
func PNG(c Chart) ([]byte, error) {
	if len(c.Points) > maxPoints {
		c.Points = c.Points[len(c.Points)-maxPoints:]
	}
	p, err := newPlot(c)
	if err != nil {
		return nil, err
	}
	if err := p.draw(); err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if err := png.Encode(&buf, quantized(p.img)); err != nil {
		return nil, fmt.Errorf("png: %w", err)
	}
	return buf.Bytes(), nil
}

type plot struct {
	c              Chart
	img            *image.RGBA
	from, to       time.Time
	low, high      float64 // of the axis
	x0, x1, y0, y1 float32
	regular, bold  font.Face
}

func newPlot(c Chart) (*plot, error) {
	p := &plot{c: c, low: math.Inf(1), high: math.Inf(-1), x0: 40, x1: Width - 40, y0: 104, y1: Height - 84}
	n := 0
	for _, pt := range c.Points {
		if math.IsNaN(pt.Value) || math.IsInf(pt.Value, 0) {
			continue
		}
		n++
		p.low, p.high = math.Min(p.low, pt.Value), math.Max(p.high, pt.Value)
	}
	if n < 2 {
		return nil, ErrNothing
	}
	p.from, p.to = c.Points[0].At, c.Points[len(c.Points)-1].At
	if !p.to.After(p.from) {
		return nil, ErrNothing
	}
	for _, b := range []float64{c.Low, c.High} {
		if !math.IsNaN(b) && !math.IsInf(b, 0) {
			p.low, p.high = math.Min(p.low, b), math.Max(p.high, b)
		}
	}
	pad := (p.high - p.low) * 0.08
	if !(pad > 0) || math.IsInf(pad, 0) {
		pad = math.Max(math.Abs(p.high)*0.05, 1e-9)
	}
	p.low, p.high = p.low-pad, p.high+pad
	if !(p.high > p.low) || math.IsInf(p.high-p.low, 0) {
		return nil, ErrNothing
	}
	p.img = image.NewRGBA(image.Rect(0, 0, Width, Height))
	return p, nil
}

func (p *plot) x(t time.Time) float32 {
	f := float64(t.Sub(p.from)) / float64(p.to.Sub(p.from))
	return p.x0 + float32(math.Max(0, math.Min(1, f)))*(p.x1-p.x0)
}

func (p *plot) y(v float64) float32 {
	f := (v - p.low) / (p.high - p.low)
	return p.y1 - float32(math.Max(0, math.Min(1, f)))*(p.y1-p.y0)
}

func (p *plot) draw() error {
	var err error
	if p.regular, err = face(goregular.TTF, 32); err != nil {
		return err
	}
	if p.bold, err = face(gobold.TTF, 38); err != nil {
		return err
	}
	draw.Draw(p.img, p.img.Bounds(), image.NewUniform(paper), image.Point{}, draw.Src)
	p.border()
	p.band()
	p.began()
	p.series()
	p.words()
	return nil
}

func (p *plot) border() {
	for _, r := range []image.Rectangle{
		image.Rect(0, 0, Width, 2), image.Rect(0, Height-2, Width, Height), image.Rect(0, 0, 2, Height), image.Rect(Width-2, 0, Width, Height),
	} {
		draw.Draw(p.img, r, image.NewUniform(frame), image.Point{}, draw.Src)
	}
}

func (p *plot) band() {
	low, high := !math.IsNaN(p.c.Low) && !math.IsInf(p.c.Low, 0), !math.IsNaN(p.c.High) && !math.IsInf(p.c.High, 0)
	if !low && !high {
		return
	}
	top, bottom := p.y0, p.y1
	if high {
		top = p.y(p.c.High)
	}
	if low {
		bottom = p.y(p.c.Low)
	}
	p.box(bandC, p.x0, top, p.x1, bottom)
	if high {
		p.box(edge, p.x0, top-1, p.x1, top+1)
	}
	if low {
		p.box(edge, p.x0, bottom-1, p.x1, bottom+1)
	}
}

// began marks when the anomaly began by a dashed line.
func (p *plot) began() {
	if p.c.Began.Before(p.from) || p.c.Began.After(p.to) {
		return
	}
	x := p.x(p.c.Began)
	for y := p.y0; y < p.y1; y += 14 {
		p.box(mark, x-1.5, y, x+1.5, min(y+8, p.y1))
	}
}

func (p *plot) out(v float64) bool { return v > p.c.High || v < p.c.Low }

// series strokes the line, in the accent's colour where it is outside the band, and ends it with a dot.
func (p *plot) series() {
	var last *Point
	for i := range p.c.Points {
		pt := &p.c.Points[i]
		if math.IsNaN(pt.Value) || math.IsInf(pt.Value, 0) {
			last = nil
			continue
		}
		if last != nil {
			col := line
			if p.out(pt.Value) || p.out(last.Value) {
				col = p.c.Accent
			}
			p.stroke(col, p.x(last.At), p.y(last.Value), p.x(pt.At), p.y(pt.Value), 5)
		}
		last = pt
	}
	for i := len(p.c.Points) - 1; i >= 0; i-- {
		pt := &p.c.Points[i]
		if math.IsNaN(pt.Value) || math.IsInf(pt.Value, 0) {
			continue
		}
		col := line
		if p.out(pt.Value) {
			col = p.c.Accent
		}
		p.dot(paper, p.x(pt.At), p.y(pt.Value), 12)
		p.dot(col, p.x(pt.At), p.y(pt.Value), 9)
		return
	}
}

func (p *plot) words() {
	zone := p.c.Zone
	if zone == nil {
		zone = time.UTC
	}
	valueWidth := font.MeasureString(p.bold, p.c.Value).Ceil()
	p.write(p.bold, inkC, 40, 62, clip(p.bold, p.c.Title, Width-120-valueWidth))
	p.write(p.bold, p.c.Accent, Width-40-valueWidth, 62, p.c.Value)
	p.bandLabel()
	left, right := p.from.In(zone).Format("15:04:05"), p.to.In(zone).Format("15:04:05 MST")
	p.write(p.regular, muted, 40, Height-32, left)
	rw := font.MeasureString(p.regular, right).Ceil()
	p.write(p.regular, muted, Width-40-rw, Height-32, right)
	if p.c.Began.After(p.from) && p.c.Began.Before(p.to) {
		label := "began " + p.c.Began.In(zone).Format("15:04:05")
		w := font.MeasureString(p.regular, label).Ceil()
		at := int(p.x(p.c.Began)) - w/2
		lo, hi := 40+font.MeasureString(p.regular, left).Ceil()+24, Width-40-rw-24-w
		if lo <= hi {
			p.write(p.regular, muted, min(max(at, lo), hi), Height-32, label)
		}
	}
}

// bandLabel stands above the band, or below it where the line is above: on the side that the line has left more room.
func (p *plot) bandLabel() {
	if p.c.Band == "" {
		return
	}
	top, bottom := p.y0, p.y1
	if !math.IsNaN(p.c.High) {
		top = p.y(p.c.High)
	}
	if !math.IsNaN(p.c.Low) {
		bottom = p.y(p.c.Low)
	}
	at := top - 10 // a baseline
	if at-30 < p.y0-10 {
		at = bottom + 36
	}
	if at > p.y1+4 {
		return
	}
	p.write(p.regular, muted, 40, int(at), clip(p.regular, p.c.Band, Width-400))
}

func clip(f font.Face, s string, width int) string {
	if font.MeasureString(f, s).Ceil() <= width {
		return s
	}
	r := []rune(s)
	for len(r) > 0 && font.MeasureString(f, string(r)+"…").Ceil() > width {
		r = r[:len(r)-1]
	}
	return string(r) + "…"
}

func (p *plot) write(f font.Face, c color.RGBA, x, y int, s string) {
	d := font.Drawer{Dst: p.img, Src: image.NewUniform(c), Face: f, Dot: fixed.P(x, y)}
	d.DrawString(s)
}

// box paints a rectangle, soft at edges between two pixels.
func (p *plot) box(c color.RGBA, x0, y0, x1, y1 float32) {
	p.local(c, x0, y0, x1, y1, func(z *vector.Rasterizer, ox, oy float32) {
		z.MoveTo(x0-ox, y0-oy)
		z.LineTo(x1-ox, y0-oy)
		z.LineTo(x1-ox, y1-oy)
		z.LineTo(x0-ox, y1-oy)
		z.ClosePath()
	})
}

// stroke paints one piece of the line, its end round so that the next joins it.
func (p *plot) stroke(c color.RGBA, ax, ay, bx, by, width float32) {
	dx, dy := bx-ax, by-ay
	length := float32(math.Hypot(float64(dx), float64(dy)))
	if length == 0 {
		return
	}
	nx, ny := -dy/length*width/2, dx/length*width/2
	p.local(c, min(ax, bx)-width, min(ay, by)-width, max(ax, bx)+width, max(ay, by)+width, func(z *vector.Rasterizer, ox, oy float32) {
		z.MoveTo(ax+nx-ox, ay+ny-oy)
		z.LineTo(bx+nx-ox, by+ny-oy)
		z.LineTo(bx-nx-ox, by-ny-oy)
		z.LineTo(ax-nx-ox, ay-ny-oy)
		z.ClosePath()
	})
	p.dot(c, bx, by, width/2)
}

// local paints within a box, which is cheaper than the whole picture by far.
func (p *plot) local(c color.RGBA, x0, y0, x1, y1 float32, shape func(z *vector.Rasterizer, ox, oy float32)) {
	r := image.Rect(int(x0)-1, int(y0)-1, int(x1)+2, int(y1)+2).Intersect(p.img.Bounds())
	if r.Empty() {
		return
	}
	z := vector.NewRasterizer(r.Dx(), r.Dy())
	shape(z, float32(r.Min.X), float32(r.Min.Y))
	z.Draw(p.img, r, image.NewUniform(c), image.Point{})
}

func (p *plot) dot(c color.RGBA, x, y, r float32) {
	const k = 0.5523 // of a circle by four cubic curves
	p.local(c, x-r, y-r, x+r, y+r, func(z *vector.Rasterizer, ox, oy float32) {
		x, y := x-ox, y-oy
		z.MoveTo(x+r, y)
		z.CubeTo(x+r, y+k*r, x+k*r, y+r, x, y+r)
		z.CubeTo(x-k*r, y+r, x-r, y+k*r, x-r, y)
		z.CubeTo(x-r, y-k*r, x-k*r, y-r, x, y-r)
		z.CubeTo(x+k*r, y-r, x+r, y-k*r, x+r, y)
		z.ClosePath()
	})
}

func face(ttf []byte, size float64) (font.Face, error) {
	f, err := opentype.Parse(ttf)
	if err != nil {
		return nil, fmt.Errorf("font: %w", err)
	}
	out, err := opentype.NewFace(f, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingNone})
	if err != nil {
		return nil, fmt.Errorf("font: %w", err)
	}
	return out, nil
}

// quantized keeps the picture small: a palette of the colours there are, of as many bits for each channel (edges stay smooth to the eye) as fit into one.
func quantized(img *image.RGBA) image.Image {
	for bits := 5; bits >= 4; bits-- {
		if out := paletted(img, bits); out != nil {
			return out
		}
	}
	return img
}

func paletted(img *image.RGBA, bits int) *image.Paletted {
	const none = -1
	drop := 8 - bits
	index := make([]int16, 1<<(3*bits))
	for i := range index {
		index[i] = none
	}
	var palette color.Palette
	out := image.NewPaletted(img.Bounds(), nil)
	for i := 0; i+3 < len(img.Pix); i += 4 {
		r, g, b := img.Pix[i]>>drop, img.Pix[i+1]>>drop, img.Pix[i+2]>>drop
		at := &index[int(r)<<(2*bits)|int(g)<<bits|int(b)]
		if *at == none {
			if len(palette) == 256 {
				return nil
			}
			*at = int16(len(palette))
			palette = append(palette, color.RGBA{r<<drop | r>>(2*bits-8), g<<drop | g>>(2*bits-8), b<<drop | b>>(2*bits-8), 0xff})
		}
		out.Pix[i/4] = uint8(*at)
	}
	out.Palette = palette
	return out
}
