package coldpathwriter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/parquetfile"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// AuditOptions say what Audit looks at.
type AuditOptions struct {
	// Tables to audit; empty: all.
	Tables []string
	// Shallow leaves out reading the files: only the intervals in the metadata are compared.
	Shallow bool
	// MaxFindings stops the listing of findings (not their counting); 0 means 1000.
	MaxFindings int
}

// FindingKind says what is wrong.
type FindingKind string

// Kinds of findings.
const (
	// FindingGap: offsets that no file covers. Rows are missing (or a skip_lost stands behind it).
	FindingGap FindingKind = "gap"
	// FindingOverlap: offsets that two files cover. Rows may stand twice.
	FindingOverlap FindingKind = "overlap"
	// FindingContent: the file's rows are not those that its metadata tells of, or it cannot be read.
	FindingContent FindingKind = "content"
	// FindingMetadata: a file of the lake without its metadata.
	FindingMetadata FindingKind = "metadata"
	// FindingMissing: a file that the manifest names is not there.
	FindingMissing FindingKind = "missing"
	// FindingForeign: an object in a table's folder that the writer did not make.
	FindingForeign FindingKind = "foreign"
)

// Finding is one thing that is wrong.
type Finding struct {
	Kind   FindingKind `json:"kind"`
	Table  string      `json:"table"`
	Key    string      `json:"key,omitempty"`
	Source string      `json:"source,omitempty"` // topic, topic id and partition
	First  int64       `json:"first"`            // offsets [First, End)
	End    int64       `json:"end"`
	Detail string      `json:"detail"`
}

// TableAudit is what one table holds.
type TableAudit struct {
	Table string `json:"table"`
	Files int64  `json:"files"`
	Rows  int64  `json:"rows"`
	Bytes int64  `json:"bytes"`
	// Merged of the files are of maintenance.
	Merged int64 `json:"merged"`
	// Waste are files that do not count any more and are not deleted yet.
	Waste int64 `json:"waste"`
	// Partitions of topics' incarnations.
	Partitions int `json:"partitions"`
}

// AuditReport is the result of Audit.
type AuditReport struct {
	Tables   []TableAudit `json:"tables"`
	Findings []Finding    `json:"findings"`
	// Count is the number of findings, also of those beyond MaxFindings.
	Count int `json:"count"`
}

// OK tells whether the lake is whole.
func (r AuditReport) OK() bool { return r.Count == 0 }

// Audit proves a lake from its objects alone: per partition the offset intervals of the files that count tile, without gap or overlap, each file holds
// the rows that its metadata tells of, and merged files those that the raw ones held. What retention removed counts as covered. An error means that the store could not be asked; what is
// wrong in the lake are findings. It reads every file once unless shallow, and holds 32 bytes per file. It may run while writers do.
func Audit(ctx context.Context, bucket objstore.Bucket, opts AuditOptions) (AuditReport, error) {
	a := auditor{ctx: ctx, bucket: bucket, opts: opts}
	if a.opts.MaxFindings == 0 {
		a.opts.MaxFindings = 1000
	}
	known := map[string]table.Merger{}
	names := opts.Tables
	for _, t := range table.Kept() {
		known[t.Name()] = t
		if _, derived := t.(table.Rollup); len(opts.Tables) == 0 && (!derived || a.exists(t.Name())) {
			names = append(names, t.Name())
		}
	}
	slices.Sort(names)
	for _, n := range names {
		t, ok := known[n]
		if !ok {
			return a.report, fmt.Errorf("audit: no table %q", n)
		}
		if err := a.table(t); err != nil {
			return a.report, fmt.Errorf("audit %s: %w", n, err)
		}
	}
	return a.report, nil
}

type auditor struct {
	ctx    context.Context
	bucket objstore.Bucket
	opts   AuditOptions
	report AuditReport
}

// interval is a file, as little of it as its key can be made of again.
type interval struct {
	first, end, sinceMS int64
	merged              bool // by maintenance, or removed by it
}

func (a *auditor) found(f Finding) {
	a.report.Count++
	if len(a.report.Findings) < a.opts.MaxFindings {
		a.report.Findings = append(a.report.Findings, f)
	}
}

// exists tells whether a rollup has ever been made.
func (a *auditor) exists(name string) bool {
	m, err := lake.LoadManifest(a.ctx, a.bucket, name)
	return err != nil || m.Version > 0 // an error comes again, and is told then
}

func (a *auditor) table(t table.Merger) error {
	sum := TableAudit{Table: t.Name()}
	intervals := map[string][]interval{}
	m, err := lake.LoadManifest(a.ctx, a.bucket, t.Name())
	if err != nil {
		return err
	}
	view := lake.NewView(a.bucket, m)
	named := m.Files()
	for info, err := range a.bucket.List(a.ctx, lake.Prefix(t.Name())) {
		if err != nil {
			return err
		}
		entry, counts, err := view.Counts(info.Key)
		if err != nil {
			a.found(Finding{Kind: FindingForeign, Table: t.Name(), Key: info.Key, Detail: err.Error()})
			continue
		}
		if !counts {
			sum.Waste++
			continue
		}
		if entry.Merged {
			if err := a.merged(t, named[info.Key]); err != nil {
				return err
			}
			delete(named, info.Key)
			sum.Files++
			sum.Merged++
			sum.Bytes += info.Size
			continue
		}
		o, err := a.object(t, entry.Raw)
		if err != nil {
			return err
		}
		if o.End == 0 {
			continue // told already
		}
		sum.Files++
		sum.Bytes += info.Size
		sum.Rows += o.Rows
		src := lake.SourceName(o.Source)
		intervals[src] = append(intervals[src], interval{first: o.First, end: o.End, sinceMS: o.SinceMS})
	}
	for key := range named {
		a.found(Finding{Kind: FindingMissing, Table: t.Name(), Key: key, Detail: fmt.Sprintf("version %d of the manifest names it", m.Version)})
	}
	sum.Rows += a.groups(m, intervals)
	sum.Partitions = len(intervals)
	a.report.Tables = append(a.report.Tables, sum)
	r, derived := t.(table.Rollup)
	for src, list := range intervals {
		a.tiles(t.Name(), src, list, !derived)
	}
	if derived {
		if err := a.derived(r, m); err != nil {
			return err
		}
	}
	slices.SortStableFunc(a.report.Findings, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(x.Table, y.Table), cmp.Compare(x.Source, y.Source), cmp.Compare(x.First, y.First))
	})
	return nil
}

// object completes o by its metadata and compares it with its content. End stays 0 when the object is of no use.
func (a *auditor) object(t table.Merger, o lake.Object) (lake.Object, error) {
	key := o.Key()
	complain := func(kind FindingKind, err error) {
		a.found(Finding{Kind: kind, Table: t.Name(), Key: key, Source: lake.SourceName(o.Source), First: o.First, End: o.End, Detail: err.Error()})
	}
	var data []byte
	var info objstore.Info
	var err error
	if a.opts.Shallow {
		info, err = a.bucket.Head(a.ctx, key)
	} else {
		data, info, err = a.bucket.Get(a.ctx, key, 0)
	}
	if errors.Is(err, objstore.ErrNotFound) {
		return lake.Object{}, nil // removed since it was listed
	}
	if err != nil {
		return o, err
	}
	full, err := o.WithMetadata(info.Metadata)
	if err != nil {
		complain(FindingMetadata, err)
		return lake.Object{}, nil
	}
	o = full
	if o.Key() != key {
		complain(FindingMetadata, fmt.Errorf("metadata names the time %d, which is another folder", o.SinceMS))
	}
	if a.opts.Shallow {
		return o, nil
	}
	rows, hash, err := t.Inspect(data)
	if err != nil {
		complain(FindingContent, err)
		return o, nil
	}
	if rows != o.Rows || hash != o.Hash {
		complain(FindingContent, fmt.Errorf("%d rows with hash %s, metadata says %d with %s", rows, lake.FormatHash(hash), o.Rows, lake.FormatHash(o.Hash)))
	}
	footer, err := parquetfile.Metadata(data, slices.Collect(maps.Keys(info.Metadata))...)
	if err != nil || !maps.Equal(footer, o.Metadata()) {
		complain(FindingMetadata, fmt.Errorf("the file's own footer says otherwise: %v (%w)", footer, err))
	}
	return o, nil
}

// merged compares a file of maintenance with what the manifest says of it.
func (a *auditor) merged(t table.Merger, want lake.File) error {
	if a.opts.Shallow {
		return nil
	}
	data, _, err := a.bucket.Get(a.ctx, want.Key, 0)
	if errors.Is(err, objstore.ErrNotFound) {
		return nil // replaced since it was listed
	}
	if err != nil {
		return err
	}
	rows, hash, err := t.Inspect(data)
	if err == nil && (rows != want.Rows || lake.FormatHash(hash) != want.Hash) {
		err = fmt.Errorf("%d rows with hash %s, the manifest says %d with %s", rows, lake.FormatHash(hash), want.Rows, want.Hash)
	}
	if err != nil {
		a.found(Finding{Kind: FindingContent, Table: t.Name(), Key: want.Key, Detail: err.Error()})
	}
	return nil
}

// groups adds what groups and retention cover to the intervals, checks that a group's files hold what its raw files held, and gives the groups' rows.
func (a *auditor) groups(m *lake.Manifest, intervals map[string][]interval) (rows int64) {
	add := func(covers lake.Spans) {
		for src, spans := range covers {
			for _, s := range spans {
				intervals[src] = append(intervals[src], interval{first: s.First, end: s.End, merged: true})
			}
		}
	}
	for i := range m.Groups {
		g := &m.Groups[i]
		add(g.Covers)
		rows += g.Rows
		var n int64
		var sum uint64
		for _, f := range g.Files {
			hash, err := lake.ParseHash(f.Hash)
			if err != nil {
				a.found(Finding{Kind: FindingMetadata, Table: m.Table, Key: f.Key, Detail: err.Error()})
			}
			n, sum = n+f.Rows, sum+hash
		}
		if n != g.Rows || lake.FormatHash(sum) != g.Hash {
			a.found(Finding{Kind: FindingContent, Table: m.Table, Key: g.Files[0].Key, Detail: fmt.Sprintf(
				"the group has %d rows with hash %s, the raw files had %d with %s", n, lake.FormatHash(sum), g.Rows, g.Hash)})
		}
	}
	add(m.Expired)
	return rows
}

// derived checks that a rollup covers each file of its source whole or not at all. (Which it has not come to yet is no fault.)
func (a *auditor) derived(r table.Rollup, m *lake.Manifest) error {
	source, err := lake.LoadManifest(a.ctx, a.bucket, r.Source())
	if err != nil {
		return err
	}
	covered := m.Covered()
	for i := range source.Groups {
		in, out := false, false
		g := &source.Groups[i]
		for src, spans := range g.Covers {
			for _, s := range spans {
				end, ok := covered.Holds(src, s.First)
				in, out = in || ok, out || !ok || end < s.End
			}
		}
		if in && out {
			a.found(Finding{Kind: FindingContent, Table: r.Name(), Key: g.Files[0].Key, Detail: "only a part of this file's rows is in the rollup"})
		}
	}
	return nil
}

// tiles looks for gaps (where there may be none) and overlaps among one partition's files.
func (a *auditor) tiles(tableName, src string, list []interval, whole bool) {
	slices.SortFunc(list, func(x, y interval) int { return cmp.Or(cmp.Compare(x.first, y.first), cmp.Compare(x.end, y.end)) })
	reach := list[0].end
	for _, i := range list[1:] {
		f := Finding{Table: tableName, Source: src}
		switch {
		case i.first > reach && whole:
			f.Kind, f.First, f.End = FindingGap, reach, i.first
			f.Detail = fmt.Sprintf("no file covers offsets [%d,%d)", f.First, f.End)
			a.found(f)
		case i.first < reach:
			f.Kind, f.First, f.End = FindingOverlap, i.first, min(reach, i.end)
			f.Detail = fmt.Sprintf("two files cover offsets [%d,%d)", f.First, f.End)
			a.found(f)
		}
		reach = max(reach, i.end)
	}
}
