package icebergtable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// file is a file that counts. end is the offset behind a raw file.
type file struct {
	entry  lake.Entry
	source string
	end    int64
}

// fresh are the files that count and that the table does not have, oldest of each source first, and how far the table is with them.
//
// A listing is no snapshot of a store: a file may be put into a folder that was listed before, and its successor into one that is listed after. Files of a partition are
// put one after the other; so if one seems to be missing, a second listing, begun after its successor was seen, has it, or it does not exist.
func (c *Committer) fresh(ctx context.Context, st *tableState, view *lake.View, p progress) ([]file, map[string]int64, error) {
	from := time.Time{}
	if p.any && time.Since(st.listed) < fullEvery && !st.newest.IsZero() {
		from = st.newest.Add(-lookBack)
	}
	for again := false; ; again = true {
		began := time.Now()
		files, err := c.list(ctx, st, view, from)
		if err != nil {
			return nil, nil, err
		}
		if from.IsZero() {
			st.listed = began
		}
		out, next, doubt, gap, err := c.behind(ctx, view, files, p)
		if err != nil {
			return nil, nil, err
		}
		if !doubt || again {
			if gap != "" {
				c.log.Warn("iceberg: offsets that no file covers (the audit shows them)", zap.String("table", view.Table), zap.String("at", gap))
			}
			return out, next, nil
		}
		from = time.Time{}
	}
}

// all are the files that count, and how far they reach.
func (c *Committer) all(ctx context.Context, view *lake.View, st *tableState) ([]file, map[string]int64, error) {
	return c.fresh(ctx, &tableState{newest: st.newest}, view, progress{})
}

func (c *Committer) list(ctx context.Context, st *tableState, view *lake.View, from time.Time) ([]lake.Entry, error) {
	to := time.Time{}
	if !from.IsZero() {
		to = time.Now().Add(lookBack) // brokers' clocks may be ahead
	}
	var out []lake.Entry
	for e, err := range view.Files(ctx, from, to) {
		if err != nil {
			return nil, err
		}
		if e.Hour.After(st.newest) {
			st.newest = e.Hour
		}
		out = append(out, e)
	}
	return out, nil
}

// behind picks the files behind p out of entries. doubt: a file may have been missed. gap names offsets that are missing before one.
func (c *Committer) behind(ctx context.Context, view *lake.View, entries []lake.Entry, p progress) (out []file, next map[string]int64, doubt bool, gap string, err error) {
	next = maps.Clone(p.offsets)
	if next == nil {
		next = map[string]int64{}
	}
	covered := view.Manifest.Covered()
	bySource := map[string][]lake.Entry{}
	for _, e := range entries {
		if e.Merged {
			if !p.any { // later ones come by reconcile
				out = append(out, file{entry: e})
			}
			continue
		}
		src := lake.SourceName(e.Raw.Source)
		if at, known := p.offsets[src]; known && e.Raw.First < at {
			continue
		}
		bySource[src] = append(bySource[src], e)
	}
	for src, spans := range covered {
		if _, known := p.offsets[src]; !known && len(spans) > 0 {
			next[src] = spans[len(spans)-1].End
		}
	}
	for _, src := range slices.Sorted(maps.Keys(bySource)) {
		list := bySource[src]
		slices.SortFunc(list, func(a, b lake.Entry) int { return cmp.Compare(a.Raw.First, b.Raw.First) })
		at, known := p.offsets[src]
		for i, e := range list {
			for end, ok := covered.Holds(src, at); ok; end, ok = covered.Holds(src, at) {
				at = end
			}
			begins := !known && i == 0 && at == 0
			doubt = doubt || e.Raw.First > at
			if e.Raw.First > at && !begins { // where the log began is not known
				gap = fmt.Sprintf("%s [%d,%d)", src, at, e.Raw.First)
			}
			end, err := c.end(ctx, e)
			if errors.Is(err, objstore.ErrNotFound) {
				return nil, nil, false, "", fmt.Errorf("%s vanished: merged meanwhile, trying again later", e.Key)
			}
			if err != nil {
				return nil, nil, false, "", err
			}
			out = append(out, file{entry: e, source: src, end: end})
			at, next[src] = end, max(next[src], end)
		}
	}
	return out, next, doubt, gap, nil
}

// end is the offset behind a raw file.
func (c *Committer) end(ctx context.Context, e lake.Entry) (int64, error) {
	info, err := c.bucket.Head(ctx, e.Key)
	if err != nil {
		return 0, err
	}
	o, err := e.Raw.WithMetadata(info.Metadata)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", e.Key, err)
	}
	return o.End, nil
}
