package lake

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// Span is the offsets [First, End).
type Span struct{ First, End int64 }

// MarshalJSON writes it as a pair.
func (s Span) MarshalJSON() ([]byte, error) { return json.Marshal([2]int64{s.First, s.End}) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Span) UnmarshalJSON(b []byte) error {
	var v [2]int64
	err := json.Unmarshal(b, &v)
	s.First, s.End = v[0], v[1]
	return err
}

// Spans are offsets of partitions, by SourceName; sorted, apart and not empty.
type Spans map[string][]Span

// SourceName is how a source is called in a manifest: topic/topic id/partition.
func SourceName(s Source) string {
	return fmt.Sprintf("%s/%s/%d", s.Topic, hex.EncodeToString(s.TopicID[:]), s.Partition)
}

// Add joins more offsets of a source to the spans.
func (s Spans) Add(source string, more ...Span) {
	all := slices.Concat(s[source], more)
	slices.SortFunc(all, func(a, b Span) int { return int(max(-1, min(1, a.First-b.First))) })
	out := all[:0]
	for _, sp := range all {
		if n := len(out); n > 0 && sp.First <= out[n-1].End {
			out[n-1].End = max(out[n-1].End, sp.End)
			continue
		}
		out = append(out, sp)
	}
	s[source] = out
}

// Merge joins all of other.
func (s Spans) Merge(other Spans) {
	for src, list := range other {
		s.Add(src, list...)
	}
}

// Holds tells whether offset lies in a span of source, and where that ends.
func (s Spans) Holds(source string, offset int64) (end int64, ok bool) {
	list := s[source]
	i, found := slices.BinarySearchFunc(list, offset, func(sp Span, at int64) int { return int(max(-1, min(1, sp.First-at))) })
	if !found {
		i--
	}
	if i < 0 || offset >= list[i].End {
		return 0, false
	}
	return list[i].End, true
}

// File is a file that maintenance made.
type File struct {
	Key   string `json:"key"`
	Rows  int64  `json:"rows"`
	Bytes int64  `json:"bytes"`
	Hash  string `json:"hash"` // of its rows, as FormatHash writes it
	// What its rows lie within, ends included, so that who looks for one machine or an event time need not open the file; zero: not known.
	Machines [2]string `json:"machines,omitzero"`
	TimesUS  [2]int64  `json:"times_us,omitzero"`
}

// MayHold tells whether the file may have rows of the machines (in order; none: of any) and of the event times [fromUS, toUS); 0 is no bound.
func (f File) MayHold(machines []string, fromUS, toUS int64) bool {
	if f.TimesUS != [2]int64{} && (fromUS != 0 && f.TimesUS[1] < fromUS || toUS != 0 && f.TimesUS[0] >= toUS) {
		return false
	}
	if f.Machines[1] == "" || len(machines) == 0 {
		return true
	}
	i, _ := slices.BinarySearch(machines, f.Machines[0])
	return i < len(machines) && machines[i] <= f.Machines[1]
}

// Group is the files that stand for all raw files of some offsets in the folders of one hour, or of a day. Its files are one sorted run.
type Group struct {
	HourMS int64  `json:"hour_ms"`         // the folder's hour (a day's: the first), ms since 1970 UTC
	Hours  int    `json:"hours,omitempty"` // DayHours; 0: one
	Covers Spans  `json:"covers"`
	Rows   int64  `json:"rows"`
	Hash   string `json:"hash"` // sum of the hashes of the raw files' rows, which the files' must give; of a rollup, of its own rows
	Files  []File `json:"files"`
	// AtMS is when the group was made, by the clock of who made it.
	AtMS int64 `json:"at_ms"`
}

// Waste is a file that does not count any more. It stays for readers that have begun with an older version.
type Waste struct {
	Key     string `json:"key"`
	SinceMS int64  `json:"since_ms"`
}

// Action is a step of maintenance, for people and for the audit log.
type Action struct {
	Kind    string   `json:"kind"` // compact, retain or clean
	By      string   `json:"by"`
	HoursMS []int64  `json:"hours_ms,omitempty"`
	Rows    int64    `json:"rows"` // merged, or removed
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"` // these do not count any more; after kind clean they are gone
}

// Manifest is a version of what maintenance has made of a table. The highest version counts. A version is an object that never
// changes, and of several writers of the next one the store lets one win: that is all the locking there is.
type Manifest struct {
	Version int64  `json:"version"` // 0: there is none
	Table   string `json:"table"`
	AtMS    int64  `json:"at_ms"`
	// Action is what made this version of the one before.
	Action Action  `json:"action"`
	Groups []Group `json:"groups"` // by hour
	// Expired are offsets whose rows retention has removed.
	Expired Spans   `json:"expired"`
	Waste   []Waste `json:"waste"`
}

// Covered are all offsets that raw files do not count for any more.
func (m *Manifest) Covered() Spans {
	out := Spans{}
	out.Merge(m.Expired)
	for i := range m.Groups {
		out.Merge(m.Groups[i].Covers)
	}
	return out
}

// Files are the keys of all files that count by name.
func (m *Manifest) Files() map[string]File {
	out := map[string]File{}
	for i := range m.Groups {
		for _, f := range m.Groups[i].Files {
			out[f.Key] = f
		}
	}
	return out
}

// ManifestPrefix is what the keys of a table's manifests begin with.
func ManifestPrefix(table string) string { return Root + "/_manifest/" + table + "/" }

func manifestKey(table string, version int64) string {
	return fmt.Sprintf("%sv%0*d.json", ManifestPrefix(table), offsetDigits, version)
}

const (
	// maxManifest bounds what is read of one.
	maxManifest = 256 << 20
	// keptManifests are left when older ones are removed, for people who ask what happened.
	keptManifests = 20
)

// ErrStale: another version was made meanwhile. Load again, and decide again.
var ErrStale = errors.New("the manifest has a newer version")

// LoadManifest reads the highest version; one of version 0 when there is none. It lists the versions there are.
func LoadManifest(ctx context.Context, b objstore.Bucket, table string) (*Manifest, error) {
	for range 10 {
		versions, err := manifestVersions(ctx, b, table)
		if err != nil {
			return nil, err
		}
		if len(versions) == 0 {
			return &Manifest{Table: table, Expired: Spans{}}, nil
		}
		last := versions[len(versions)-1]
		data, _, err := b.Get(ctx, manifestKey(table, last), maxManifest)
		if errors.Is(err, objstore.ErrNotFound) {
			continue // removed since it was listed: there are newer ones
		}
		if err != nil {
			return nil, fmt.Errorf("manifest of %s: %w", table, err)
		}
		m := &Manifest{}
		if err := json.Unmarshal(data, m); err != nil {
			return nil, fmt.Errorf("manifest %d of %s: %w", last, table, err)
		}
		if m.Version != last || m.Table != table {
			return nil, fmt.Errorf("manifest %d of %s says that it is version %d of %s", last, table, m.Version, m.Table)
		}
		if m.Expired == nil {
			m.Expired = Spans{}
		}
		return m, nil
	}
	return nil, fmt.Errorf("manifest of %s: versions vanish as fast as they are listed", table)
}

func manifestVersions(ctx context.Context, b objstore.Bucket, table string) ([]int64, error) {
	var out []int64
	for info, err := range b.List(ctx, ManifestPrefix(table)) {
		if err != nil {
			return nil, fmt.Errorf("manifests of %s: %w", table, err)
		}
		digits, ok := strings.CutSuffix(strings.TrimPrefix(info.Key, ManifestPrefix(table)+"v"), ".json")
		n, err := strconv.ParseInt(digits, 10, 64)
		if !ok || err != nil || n < 1 {
			continue
		}
		out = append(out, n)
	}
	return out, nil // keys sort as numbers do
}

// Commit makes m the version after the one it was loaded as. ErrStale: somebody was faster, nothing has changed. On any other error it
// may or may not stand.
func (m *Manifest) Commit(ctx context.Context, b objstore.Bucket, now time.Time, action Action) error {
	next := *m
	next.Version, next.AtMS, next.Action = m.Version+1, now.UnixMilli(), action
	slices.SortStableFunc(next.Groups, func(x, y Group) int { return int(max(-1, min(1, x.HourMS-y.HourMS))) })
	data, err := json.Marshal(&next)
	if err != nil {
		return fmt.Errorf("manifest of %s: %w", m.Table, err)
	}
	err = b.PutIfAbsent(ctx, manifestKey(m.Table, next.Version), data, nil)
	if errors.Is(err, objstore.ErrExists) {
		// Ours, when an answer was lost; or another's.
		there, _, getErr := b.Get(ctx, manifestKey(m.Table, next.Version), maxManifest)
		if getErr != nil && !errors.Is(getErr, objstore.ErrNotFound) {
			return fmt.Errorf("manifest of %s: %w", m.Table, getErr)
		}
		if string(there) != string(data) {
			return fmt.Errorf("%w: %d of %s", ErrStale, next.Version, m.Table)
		}
		err = nil
	}
	if err != nil {
		return fmt.Errorf("manifest of %s: %w", m.Table, err)
	}
	// Old versions are removed, so the name may have been free because it was used and removed: then this is none.
	versions, err := manifestVersions(ctx, b, m.Table)
	if err != nil {
		return err
	}
	if len(versions) > 0 && versions[len(versions)-1] > next.Version+keptManifests/2 {
		return fmt.Errorf("%w: %d of %s is long past", ErrStale, next.Version, m.Table)
	}
	*m = next
	return nil
}

// LogPrefix is what the keys of a table's audit log begin with: an object for each version of the manifest, kept for ever.
func LogPrefix(table string) string { return Root + "/_maintenance/" + table + "/" }

// LogEntry is one of the audit log.
type LogEntry struct {
	Version int64  `json:"version"`
	AtMS    int64  `json:"at_ms"`
	Action  Action `json:"action"`
}

// WriteLog makes the entries of the audit log that a crash has left out: one for each version there is.
func WriteLog(ctx context.Context, b objstore.Bucket, table string) error {
	versions, err := manifestVersions(ctx, b, table)
	if err != nil {
		return err
	}
	for _, v := range versions {
		key := fmt.Sprintf("%sv%0*d.json", LogPrefix(table), offsetDigits, v)
		if _, err := b.Head(ctx, key); err == nil {
			continue
		} else if !errors.Is(err, objstore.ErrNotFound) {
			return err
		}
		data, _, err := b.Get(ctx, manifestKey(table, v), maxManifest)
		if errors.Is(err, objstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		var e struct {
			Version int64  `json:"version"`
			AtMS    int64  `json:"at_ms"`
			Action  Action `json:"action"`
		}
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("manifest %d of %s: %w", v, table, err)
		}
		line, err := json.Marshal(LogEntry(e))
		if err != nil {
			return err
		}
		if err := b.PutIfAbsent(ctx, key, line, nil); err != nil && !errors.Is(err, objstore.ErrExists) {
			return fmt.Errorf("audit log of %s: %w", table, err)
		}
	}
	return nil
}

// SweepManifests removes versions that are long past. WriteLog must have been called before.
func SweepManifests(ctx context.Context, b objstore.Bucket, table string) error {
	versions, err := manifestVersions(ctx, b, table)
	if err != nil {
		return err
	}
	for len(versions) > keptManifests {
		if err := b.Delete(ctx, manifestKey(table, versions[0])); err != nil {
			return fmt.Errorf("manifest %d of %s: %w", versions[0], table, err)
		}
		versions = versions[1:]
	}
	return nil
}

// DayHours is the hours of a day's file.
const DayHours = 24

// Names of files that maintenance makes begin with one of these.
const (
	mergedPrefix = "merged-"
	dayPrefix    = "day-"
)

// MergedKey names a file of hours (1, or DayHours: of the day that begins at hourMS) that is to count from version base+1 of the manifest on. Once that version is taken by others
// the file can never come to count, so it may be removed.
func MergedKey(table string, hourMS int64, hours int, base int64, id uint64, part int) string {
	t, prefix := time.UnixMilli(hourMS).UTC(), mergedPrefix
	if hours == DayHours {
		prefix = dayPrefix
	}
	return fmt.Sprintf("%sdate=%s/hour=%02d/%s%0*d-%016x-%04d.parquet", Prefix(table), t.Format(time.DateOnly), t.Hour(), prefix, offsetDigits, base, id, part)
}

// Merged is what the key of a file of maintenance tells.
type Merged struct {
	HourMS int64 // of its folder
	Hours  int   // 1 or DayHours
	Base   int64 // the version of the manifest that it was made after
}

// ParseMerged tells whether key is a merged file's.
func ParseMerged(key string) (Merged, bool) {
	hour, ok := ParseHour(key)
	m := Merged{HourMS: hour.UnixMilli(), Hours: 1}
	name, merged := strings.CutPrefix(path.Base(key), mergedPrefix)
	if !merged {
		name, merged = strings.CutPrefix(path.Base(key), dayPrefix)
		m.Hours = DayHours
	}
	if !ok || !merged || len(name) < offsetDigits {
		return Merged{}, false
	}
	base, err := strconv.ParseInt(name[:offsetDigits], 10, 64)
	m.Base = base
	return m, err == nil
}

// ParseHour is the hour of the folder that key lies in.
func ParseHour(key string) (time.Time, bool) {
	parts := strings.Split(key, "/")
	if len(parts) != 5 || parts[0] != Root {
		return time.Time{}, false
	}
	at, err := time.Parse("date=2006-01-02/hour=15", parts[2]+"/"+parts[3])
	return at, err == nil
}
