package report

import (
	_ "embed" // the page
	"html/template"
	"os"

	"github.com/tocsin-io/tocsin/deploy/accuracy/sets"
)

//go:embed page.html
var page string

// WritePage saves the report as one HTML file that needs nothing else.
func (r *Report) WritePage(path string) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"number": func(m sets.Metric, v map[string]float64) string { return Number(&m, v) },
		"values": func(v Values) map[string]float64 { return v },
		"goal":   func(m sets.Metric) string { return goalText(&m) },
		"gap":    func(m sets.Metric, v Values) string { return gapText(&m, v) },
		"svg":    func(s string) template.HTML { return template.HTML(s) },      //nolint:gosec // made of numbers only, by Draw and Bars
		"bars":   func(s *Set) template.HTML { return template.HTML(s.Bars()) }, //nolint:gosec // text in it is escaped
	}).Parse(page)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := t.Execute(f, r); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
