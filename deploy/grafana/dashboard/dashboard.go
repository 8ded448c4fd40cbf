// Package dashboard writes Grafana dashboards: rows of panels that flow from left to right in a grid of 24 columns, as the JSON
// that Grafana's file provisioning and its import page read (schema 41, Grafana 11 and later).
//
// It holds the small part of the schema that Tocsin's dashboards use. What a panel asks, and in which unit, stands in Go; ids,
// places, refs and defaults follow from the order, so equal definitions give equal bytes.
package dashboard

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// DataSource is the uid of the data source variable that every panel asks, so that a reader may choose another VictoriaMetrics.
const DataSource = "${datasource}"

// Kind is Grafana's name of a visualisation.
type Kind string

// The visualisations in use.
const (
	TimeSeries Kind = "timeseries"
	Stat       Kind = "stat"
	Table      Kind = "table"
	BarGauge   Kind = "bargauge"
	Text       Kind = "text"
)

// Units, by Grafana's ids.
const (
	Seconds     = "s"
	Bytes       = "bytes"
	BytesSecond = "Bps"
	PerSecond   = "ops"
	Records     = "short"
	Percent     = "percentunit"
	Time        = "dateTimeAsIso"
)

// A Dashboard is one page. UID is what links and bookmarks hold: it never changes.
type Dashboard struct {
	UID         string
	Title       string
	Description string
	Variables   []Variable
	Rows        []Row
	// Refresh and From as Grafana writes them, such as 5s and now-1h.
	Refresh, From string
}

// A Variable is a choice above the panels, filled by a query.
type Variable struct {
	Name, Label string
	// Query as Grafana's Prometheus data source takes it: label_values(metric, label).
	Query string
	// Several lets a reader choose more than one value, or all.
	Several bool
}

// A Row groups panels under a title.
type Row struct {
	Title  string
	Panels []Panel
}

// A Panel shows the answers to its queries.
type Panel struct {
	Title       string
	Kind        Kind
	Description string
	// EmptyWhile says in which healthy state the panel has nothing to show. A panel without it must never be empty.
	EmptyWhile string
	Unit       string
	// Width of 24 columns and Height in rows of 30 pixels; by default 8 and 8, of a Stat 4 and 4.
	Width, Height int
	Queries       []Query
	// Steps colour a value by the thresholds that it has passed; the first has no lower bound.
	Steps []Step
	// Limit draws a line: the promise that the panel is held against. 0: none.
	Limit float64
	// Stacked adds the series up; Logarithmic draws powers of ten alike.
	Stacked, Logarithmic bool
	// Min and Max fix the axis where they are given.
	Min, Max *float64
	// LinkTo is opened by a click on a series or row.
	LinkTo *Link
	// Markdown is what a Text shows.
	Markdown string
}

// A Query is asked of VictoriaMetrics in MetricsQL.
type Query struct {
	Expr   string
	Legend string
	// Instant asks for the newest value only.
	Instant bool
}

// A Step is a threshold: from From on, Color.
type Step struct {
	From  float64
	Color string
}

// A Link leads on from a value, its URL may hold Grafana's ${__field.labels.x}.
type Link struct{ Title, URL string }

// JSON is the dashboard as Grafana reads it, indented and ended by a line feed.
func (d Dashboard) JSON() ([]byte, error) {
	doc := document{
		Annotations: annotations{List: []annotation{{
			BuiltIn: 1, DataSource: source{Type: "grafana", UID: "-- Grafana --"}, Enable: true, Hide: true,
			IconColor: "rgba(0, 211, 255, 1)", Name: "Annotations & Alerts", Type: "dashboard",
		}}},
		Description: d.Description, Editable: true, GraphTooltip: 1, Panels: []panel{}, Refresh: d.Refresh, SchemaVersion: 41,
		Links: []dashboardLink{{AsDropdown: true, IncludeVars: false, KeepTime: true, Tags: []string{tag}, Title: "Tocsin", Type: "dashboards"}},
		Tags:  []string{tag}, Time: span{From: d.From, To: "now"}, Timezone: "browser", Title: d.Title, UID: d.UID, Version: 1,
	}
	if doc.Refresh == "" {
		doc.Refresh = "10s"
	}
	if doc.Time.From == "" {
		doc.Time.From = "now-1h"
	}
	doc.Templating.List = []variable{{Name: "datasource", Label: "Data source", Type: "datasource", Query: "prometheus", Current: &current{Text: "VictoriaMetrics", Value: "victoria-metrics"}}}
	for _, v := range d.Variables {
		doc.Templating.List = append(doc.Templating.List, v.variable())
	}
	id, y := 1, 0
	for _, row := range d.Rows {
		doc.Panels = append(doc.Panels, panel{ID: id, Type: "row", Title: row.Title, GridPos: grid{H: 1, W: columns, X: 0, Y: y}, Panels: &[]panel{}})
		id, y = id+1, y+1
		x, tallest := 0, 0
		for _, p := range row.Panels {
			w, h := p.size()
			if x+w > columns {
				x, y, tallest = 0, y+tallest, 0
			}
			one, err := p.panel(id, grid{H: h, W: w, X: x, Y: y})
			if err != nil {
				return nil, fmt.Errorf("dashboard %s, row %q: %w", d.UID, row.Title, err)
			}
			doc.Panels = append(doc.Panels, one)
			id, x, tallest = id+1, x+w, max(tallest, h)
		}
		y += tallest
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // queries are read in reviews: > stays >
	e.SetIndent("", "  ")
	if err := e.Encode(doc); err != nil {
		return nil, fmt.Errorf("dashboard %s: %w", d.UID, err)
	}
	return b.Bytes(), nil
}

func (p Panel) size() (w, h int) {
	w, h = 8, 8
	if p.Kind == Stat {
		w, h = 4, 4
	}
	if p.Width > 0 {
		w = p.Width
	}
	if p.Height > 0 {
		h = p.Height
	}
	return w, h
}

func (v Variable) variable() variable {
	return variable{
		Name: v.Name, Label: v.Label, Type: "query", DataSource: &source{Type: "prometheus", UID: DataSource},
		Query: map[string]any{"query": v.Query, "refId": v.Name}, Refresh: 2, Sort: 1, Multi: v.Several, IncludeAll: v.Several,
	}
}

func (p Panel) panel(id int, at grid) (panel, error) {
	if p.Title == "" {
		return panel{}, fmt.Errorf("a panel without a title")
	}
	out := panel{ID: id, Type: string(p.Kind), Title: p.Title, Description: p.description(), GridPos: at}
	if p.Kind == Text {
		out.Options = map[string]any{"mode": "markdown", "content": p.Markdown}
		return out, nil
	}
	if len(p.Queries) == 0 || len(p.Queries) > 26 {
		return panel{}, fmt.Errorf("panel %q asks %d queries; 1 to 26 have refs", p.Title, len(p.Queries))
	}
	out.DataSource = &source{Type: "prometheus", UID: DataSource}
	for i, q := range p.Queries {
		t := target{DataSource: *out.DataSource, EditorMode: "code", Expr: q.Expr, LegendFormat: q.Legend, RefID: string(rune('A' + i)), Range: !q.Instant, Instant: q.Instant}
		if p.Kind == Table {
			t.Format = "table"
		}
		out.Targets = append(out.Targets, t)
	}
	field := fieldDefaults{Unit: p.Unit, Min: p.Min, Max: p.Max, Color: color{Mode: "palette-classic"}, Custom: map[string]any{}}
	if p.LinkTo != nil {
		field.Links = []dataLink{{Title: p.LinkTo.Title, URL: p.LinkTo.URL}}
	}
	steps := p.Steps
	if p.Limit > 0 {
		steps = []Step{{Color: "transparent"}, {From: p.Limit, Color: "red"}}
		field.Custom["thresholdsStyle"] = map[string]any{"mode": "line+area"}
	}
	if len(steps) > 0 {
		field.Thresholds = &thresholds{Mode: "absolute"}
		for i, s := range steps {
			one := threshold{Color: s.Color}
			if i > 0 {
				one.Value = &s.From
			}
			field.Thresholds.Steps = append(field.Thresholds.Steps, one)
		}
	}
	switch p.Kind {
	case TimeSeries:
		field.Custom["lineWidth"], field.Custom["fillOpacity"], field.Custom["showPoints"], field.Custom["spanNulls"] = 1, 8, "never", false
		if p.Stacked {
			field.Custom["stacking"], field.Custom["fillOpacity"] = map[string]any{"mode": "normal", "group": "A"}, 60
		}
		if p.Logarithmic {
			field.Custom["scaleDistribution"] = map[string]any{"type": "log", "log": 10}
		}
		out.Options = map[string]any{
			"legend":  map[string]any{"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": []string{"lastNotNull", "max"}},
			"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
		}
	case Stat, BarGauge:
		field.Color.Mode = "thresholds"
		out.Options = map[string]any{"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}, "orientation": "auto"}
		if p.Kind == Stat {
			out.Options["colorMode"], out.Options["graphMode"], out.Options["textMode"] = "value", "area", "auto"
		} else {
			out.Options["displayMode"], out.Options["orientation"] = "gradient", "horizontal"
		}
	case Table:
		field.Color.Mode = "thresholds"
		out.Options = map[string]any{"showHeader": true, "cellHeight": "sm"}
		out.Transformations = []transformation{{ID: "organize", Options: map[string]any{"excludeByName": map[string]bool{"Time": true}}}}
	default:
		return panel{}, fmt.Errorf("panel %q: kind %q is not known", p.Title, p.Kind)
	}
	out.FieldConfig = &fieldConfig{Defaults: field, Overrides: []any{}}
	return out, nil
}

// description is what a reader sees at the panel's (i).
func (p Panel) description() string {
	if p.EmptyWhile == "" {
		return p.Description
	}
	if p.Description == "" {
		return "Empty while " + p.EmptyWhile + "."
	}
	return p.Description + " Empty while " + p.EmptyWhile + "."
}
