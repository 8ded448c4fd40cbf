package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/services/model-trainer/internal/drift"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/registry"
)

// watched is what models were given in the stream.
type watched struct {
	book  *drift.Book
	ready func() error
	last  atomic.Pointer[[]drift.Verdict] // of the last day, for the metrics
}

// Watches has the API answer GET /v1/drift from book, once ready says nil, and has the metrics say what Watch finds. Before requests come.
func (a *API) Watches(book *drift.Book, ready func() error, set *metrics.Set) {
	a.watched.book, a.watched.ready = book, ready
	set.RegisterMetricsWriter(a.watched.write)
}

// write writes the metrics: a few for each version of a model that the stream asks.
func (w *watched) write(to io.Writer) {
	last := w.last.Load()
	if last == nil {
		return
	}
	for i := range *last {
		v := &(*last)[i]
		name, version, err := registry.Split(v.Model)
		if err != nil || version == "" {
			continue
		}
		labels := fmt.Sprintf(`{model=%q,version=%q}`, name, version)
		metrics.WriteGaugeUint64(to, "tocsin_model_drift_windows"+labels, v.Windows)
		if v.Score == nil {
			continue // no reference: there is no figure
		}
		changed := uint64(0)
		for j := range v.Variables {
			if s := v.Variables[j].State; s == drift.Moved || s == drift.Drifted {
				changed++
			}
		}
		metrics.WriteGaugeFloat64(to, "tocsin_model_drift_psi"+labels, v.PSI)
		metrics.WriteGaugeUint64(to, "tocsin_model_drift_features"+labels, changed)
		metrics.WriteGaugeUint64(to, "tocsin_model_drifted"+labels, map[bool]uint64{true: 1}[v.State == drift.Drifted])
	}
}

// Watch judges the last day of every model for the metrics, every so often, until ctx ends.
func (a *API) Watch(ctx context.Context, every time.Duration) {
	if a.watched.book == nil {
		return
	}
	const soon = time.Second // while there is nothing to say yet
	for said := ""; ; {
		wait := soon
		if a.watched.ready() == nil {
			to := time.Now()
			found, err := a.verdicts(ctx, "", to.Add(-defaultSpan), to)
			switch {
			case err == nil:
				a.watched.last.Store(&found)
				if said = ""; len(found) > 0 {
					wait = every
				}
			case ctx.Err() == nil && err.Error() != said:
				said = err.Error()
				a.log.Warn("drift cannot be judged, trying again", zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (a *API) drift(r *http.Request) (int, any, error) {
	if a.watched.book == nil {
		return 0, nil, errNotRead
	}
	if err := a.watched.ready(); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errNotRead, err)
	}
	q := r.URL.Query()
	from, to, err := spanOf(q)
	if err != nil {
		return 0, nil, err
	}
	found, err := a.verdicts(r.Context(), q.Get("model"), from, to)
	switch {
	case errors.Is(err, registry.ErrName):
		return 0, nil, &fieldError{"model", err.Error()}
	case err != nil:
		return 0, nil, err
	}
	return http.StatusOK, struct {
		From   time.Time       `json:"from"`
		To     time.Time       `json:"to"`
		Until  *time.Time      `json:"counted_until"`
		Models []drift.Verdict `json:"models"`
	}{from.UTC(), to.UTC(), known(a.watched.book.Until()), found}, nil
}

// verdicts judges the models that the stream asked in [from, to): of one name, one name@version, or all; and those of the name that have a role, asked or not.
func (a *API) verdicts(ctx context.Context, of string, from, to time.Time) ([]drift.Verdict, error) {
	refs := a.watched.book.Models(of, from, to)
	if of != "" {
		name, version, err := registry.Split(of)
		if err != nil {
			return nil, err
		}
		roles, err := a.registry.Roles(ctx, name)
		if err != nil && !errors.Is(err, registry.ErrNotFound) {
			return nil, err
		}
		if version != "" {
			roles = registry.Roles{Champion: version}
		}
		for _, v := range []string{roles.Challenger, roles.Champion} { // the champion comes first
			if v == "" {
				continue
			}
			ref := name + "@" + v
			refs = slices.Insert(slices.DeleteFunc(refs, func(r string) bool { return r == ref }), 0, ref)
		}
	}
	out := []drift.Verdict{}
	for _, ref := range refs {
		v, err := a.verdict(ctx, ref, from, to)
		if errors.Is(err, registry.ErrNotFound) || errors.Is(err, registry.ErrName) {
			continue // the stream asks what another store holds
		}
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (a *API) verdict(ctx context.Context, ref string, from, to time.Time) (drift.Verdict, error) {
	name, version, err := registry.Split(ref)
	if err != nil {
		return drift.Verdict{}, err
	}
	m, err := a.registry.Load(ctx, name, version)
	if err != nil {
		return drift.Verdict{}, err
	}
	v := a.watched.book.Judge(&drift.Model{Ref: ref, Features: m.Features, Reference: m.Reference}, from, to)
	if v.State == drift.Moved || v.State == drift.Drifted {
		v.Retrain = drift.RetrainCommand(ref, m.Algorithm, m.Features, m.Parameters, v.From, v.To)
	}
	return v, nil
}
