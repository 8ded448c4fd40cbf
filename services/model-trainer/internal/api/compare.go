package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/services/model-trainer/internal/comparison"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/registry"
)

// compared is what champions and shadows did in the stream.
type compared struct {
	book    *comparison.Book
	ready   func() error
	machine string // URL
}

// errNotRead: the log was not read to its end yet.
var errNotRead = errors.New("what champions and shadows said in the stream is not known")

// Compares has the API answer GET /v1/comparison from book, once ready says nil. machine is the URL of a machine's page with {equipment_id}, or empty. Before requests come.
func (a *API) Compares(book *comparison.Book, ready func() error, machine string) {
	a.compared = compared{book, ready, machine}
}

// defaultSpan is the time that is compared when nobody says which.
const defaultSpan = 24 * time.Hour

func (a *API) compare(r *http.Request) (int, any, error) {
	if a.compared.book == nil {
		return 0, nil, errNotRead
	}
	if err := a.compared.ready(); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errNotRead, err)
	}
	q := r.URL.Query()
	name := q.Get("model")
	if name != "" {
		if err := registry.CheckName(name); err != nil {
			return 0, nil, &fieldError{"model", err.Error()}
		}
	}
	from, to, err := spanOf(q)
	if err != nil {
		return 0, nil, err
	}
	pairs, until := a.compared.book.Compare(name, from, to, func(id string) string {
		return strings.ReplaceAll(a.compared.machine, "{equipment_id}", url.PathEscape(id))
	})
	if pairs == nil {
		pairs = []comparison.Pair{}
	}
	return http.StatusOK, struct {
		From  time.Time         `json:"from"`
		To    time.Time         `json:"to"`
		Until *time.Time        `json:"counted_until"`
		Pairs []comparison.Pair `json:"pairs"`
	}{from.UTC(), to.UTC(), known(until), pairs}, nil
}

// spanOf is the time that a request asks for.
func spanOf(q url.Values) (from, to time.Time, err error) {
	to = time.Now()
	from = to.Add(-defaultSpan)
	for field, at := range map[string]*time.Time{"from": &from, "to": &to} {
		if text := q.Get(field); text != "" {
			t, err := time.Parse(time.RFC3339, text)
			if err != nil {
				return from, to, &fieldError{field, "no time of RFC 3339"}
			}
			*at = t
		}
	}
	if !from.Before(to) {
		return from, to, &fieldError{"from", "not before to"}
	}
	return from, to, nil
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
