package message

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"image/color"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message/sparkline"
)

//go:embed page.gohtml
var pageTemplate string

// html/template escapes for the place each value stands in: text, attribute, URL or style.
var page = template.Must(template.New("page").Funcs(template.FuncMap{"accent": accent}).Parse(pageTemplate))

// Colours by severity: dark enough for white letters on them (contrast of 4.5 at least).
var (
	red   = color.RGBA{0xc4, 0x26, 0x2e, 0xff}
	amber = color.RGBA{0xa8, 0x5a, 0x00, 0xff}
	blue  = color.RGBA{0x1f, 0x5f, 0xbf, 0xff}
	green = color.RGBA{0x1d, 0x7a, 0x45, 0xff}
)

// Accent is the colour of a severity, or of what is over.
func Accent(severity string, over bool) color.RGBA {
	switch {
	case over:
		return green
	case severity == "critical":
		return red
	case severity == "info":
		return blue
	default:
		return amber
	}
}

func accent(severity string, over bool) template.CSS {
	c := Accent(severity, over)
	return template.CSS(fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B)) //nolint:gosec // made of three numbers
}

// Picture is an image that the HTML refers to by its content id.
type Picture struct {
	ContentID string
	Alt       string
	PNG       []byte
}

type htmlPage struct {
	P                            *Page
	Accent                       template.CSS
	Word, Again, Preview, Footer string
	Count                        string
	Alerts                       []htmlAlert
	Tail                         []namedURL
}

type namedURL struct{ Name, URL string }

type htmlAlert struct {
	*Alert
	Accent template.CSS
	Image  template.URL
	Alt    string
	Rows   []Fact
	Bars   []htmlSensor
	Ask    bool // for a verdict on this alert
}

type htmlSensor struct {
	*Sensor
	Expected string
	Percent  int
}

// HTML is the page for a mail program: tables and inline styles, which is what all of them understand; nothing is loaded from elsewhere. Pictures are those that
// Pictures made, to be sent along.
func HTML(p *Page, pictures []Picture) ([]byte, error) {
	v := htmlPage{
		P: p, Accent: accent(p.Severity, p.Over()), Word: strings.ToUpper(p.Severity), Again: p.Again, Preview: preview(p), Footer: Footer(p), Count: Count(p),
	}
	switch {
	case p.Over():
		v.Word = "RESOLVED"
	case p.Reason == "not_acknowledged_in_time":
		v.Word = "ESCALATED"
	}
	for i := range p.Alerts {
		v.Alerts = append(v.Alerts, newHTMLAlert(p, i, pictures))
	}
	if u := p.Links.Runbook; u != "" {
		v.Tail = append(v.Tail, namedURL{"Runbook", u})
	}
	if u := p.Links.Silence; u != "" {
		v.Tail = append(v.Tail, namedURL{"Silence", u})
	}
	var buf bytes.Buffer
	if err := page.Execute(&buf, &v); err != nil {
		return nil, fmt.Errorf("html: %w", err)
	}
	return buf.Bytes(), nil
}

func newHTMLAlert(p *Page, i int, pictures []Picture) htmlAlert {
	a := &p.Alerts[i]
	out := htmlAlert{Alert: a, Accent: accent(a.Severity, a.Over()), Ask: p.Single() || len(p.Alerts) > 1}
	if id := contentID(i); len(a.Sensors) > 0 {
		for _, pic := range pictures {
			if pic.ContentID == id {
				out.Image = template.URL("cid:" + id) //nolint:gosec // made by contentID
				out.Alt = pic.Alt
			}
		}
	}
	row := func(name, value string) {
		if value != "" {
			out.Rows = append(out.Rows, Fact{name, value})
		}
	}
	row("Since", a.Since)
	row("How sure", a.Sure)
	row("The judge", a.Summary)
	out.Rows = append(out.Rows, a.Facts...)
	for j := range a.Sensors {
		s := &a.Sensors[j]
		bar := htmlSensor{Sensor: s}
		if s.Expected != "" {
			bar.Expected = expected(a.Cause) + " " + s.Expected
			if s.Departure != "" {
				bar.Expected += "; " + s.Departure
			}
		}
		bar.Percent = percent(s.Share)
		out.Bars = append(out.Bars, bar)
	}
	return out
}

func percent(share string) int {
	n := 0
	for _, r := range strings.TrimSuffix(share, " %") {
		if r < '0' || r > '9' {
			return 1
		}
		n = n*10 + int(r-'0')
	}
	return min(max(n, 1), 100)
}

// preview is what lists of mails show after the subject.
func preview(p *Page) string {
	a := p.Lead()
	return Clean(strings.TrimSpace(a.Odd+" "+a.Sure), maxText)
}

func contentID(i int) string { return fmt.Sprintf("chart-%d@tocsin", i+1) }

// Pictures draws the first sensor of each alert told in full, where there is a series. A picture that cannot be drawn is left out: the words say it all.
func Pictures(p *Page, zone *time.Location) []Picture {
	var out []Picture
	for i := range p.Alerts {
		a := &p.Alerts[i]
		if len(a.Sensors) == 0 || len(a.Sensors[0].Series) < 2 {
			continue
		}
		s := &a.Sensors[0]
		c := sparkline.Chart{Low: s.Low, High: s.High, Title: s.Name, Value: s.Observed, Accent: Accent(a.Severity, a.Over()), Zone: zone, Began: a.began}
		for _, pt := range s.Series {
			c.Points = append(c.Points, sparkline.Point{At: pt.At, Value: pt.Value})
		}
		if s.Expected != "" {
			c.Band = expected(a.Cause) + " " + s.Expected
		}
		png, err := sparkline.PNG(c)
		if err != nil {
			continue
		}
		alt := s.Name + " lately: now " + s.Observed
		if s.Expected != "" {
			alt += ", " + expected(a.Cause) + " " + s.Expected
		}
		out = append(out, Picture{ContentID: contentID(i), Alt: alt, PNG: png})
	}
	return out
}
