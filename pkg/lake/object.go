// Package lake names the lake's objects, says what their metadata means, and which of them count: docs/LAKE.md.
//
// The writer makes raw files, each a function of the log. Maintenance merges and removes them; what it did stands in a table's manifest. Open
// gives the files that count.
package lake

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Root is the folder that all tables lie in.
const Root = "tocsin"

// Source is one partition of one incarnation of a topic: a topic made anew has another id, and offsets that begin again.
type Source struct {
	Table     string
	Topic     string
	TopicID   [16]byte
	Partition int32
}

// Object is one file of the lake: the rows of the offsets [First, End).
type Object struct {
	Source
	First, End int64
	// SinceMS is the broker's time (ms since 1970 UTC) of the first record that was no tick; it says the folder.
	SinceMS int64
	Rows    int64
	Hash    uint64
	// Config names the rules that the chunk was cut by.
	Config string
}

// offsetDigits holds every int64.
const offsetDigits = 19

// Prefix is what the keys of a table's objects begin with.
func Prefix(table string) string { return Root + "/" + table + "/" }

// Key is where the object is kept: `tocsin/<table>/date=YYYY-MM-DD/hour=HH/<topic>-<topic id>-<partition>-<first offset>.parquet`.
// It depends only on the partition, First and the first record's time, so of all attempts to write the
// chunk that begins there, one wins.
func (o Object) Key() string {
	t := time.UnixMilli(o.SinceMS).UTC()
	return fmt.Sprintf("%sdate=%s/hour=%02d/%s-%s-%05d-%0*d.parquet", Prefix(o.Table),
		t.Format(time.DateOnly), t.Hour(), o.Topic, hex.EncodeToString(o.TopicID[:]), o.Partition, offsetDigits, o.First)
}

// ErrForeign: the key is not one that Key makes.
var ErrForeign = errors.New("not an object of the lake")

// ParseKey undoes Key as far as a key can tell; End, Rows, Hash, Config are in the metadata, SinceMS is cut to the hour.
func ParseKey(key string) (Object, error) {
	var o Object
	rest, ok := strings.CutPrefix(key, Root+"/")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 4 {
		return o, fmt.Errorf("%w: %s", ErrForeign, key)
	}
	o.Table = parts[0]
	at, err := time.Parse("date=2006-01-02/hour=15", parts[1]+"/"+parts[2])
	if err != nil {
		return o, fmt.Errorf("%w: %s", ErrForeign, key)
	}
	o.SinceMS = at.UnixMilli()
	name, ok := strings.CutSuffix(parts[3], ".parquet")
	if !ok {
		return o, fmt.Errorf("%w: %s", ErrForeign, key)
	}
	fields := strings.Split(name, "-")
	if len(fields) < 4 {
		return o, fmt.Errorf("%w: %s", ErrForeign, key)
	}
	n := len(fields)
	o.Topic = strings.Join(fields[:n-3], "-")
	id, err1 := hex.DecodeString(fields[n-3])
	part, err2 := strconv.ParseInt(fields[n-2], 10, 32)
	first, err3 := strconv.ParseInt(fields[n-1], 10, 64)
	if errors.Join(err1, err2, err3) != nil || len(id) != len(o.TopicID) || part < 0 || first < 0 {
		return o, fmt.Errorf("%w: %s", ErrForeign, key)
	}
	copy(o.TopicID[:], id)
	o.Partition, o.First = int32(part), first
	if o.Key() != key {
		// Compared with the folder's hour only, so a re-made key differs in nothing but spelling.
		return o, fmt.Errorf("%w: %s", ErrForeign, key)
	}
	return o, nil
}

// Names of the metadata, on the object and, with the prefix "tocsin.", in the file's own footer.
const (
	metaFirst  = "first-offset"
	metaEnd    = "end-offset"
	metaRows   = "rows"
	metaHash   = "row-hash"
	metaConfig = "config"
	metaSince  = "since-ms"
)

// Metadata is what is stored with the object.
func (o Object) Metadata() map[string]string {
	return map[string]string{
		metaFirst:  strconv.FormatInt(o.First, 10),
		metaEnd:    strconv.FormatInt(o.End, 10),
		metaRows:   strconv.FormatInt(o.Rows, 10),
		metaHash:   FormatHash(o.Hash),
		metaConfig: o.Config,
		metaSince:  strconv.FormatInt(o.SinceMS, 10),
	}
}

// ErrNoMetadata: an object of the lake without its metadata, or with one that cannot be.
var ErrNoMetadata = errors.New("object has no metadata of the lake")

// WithMetadata completes what ParseKey found by the object's metadata and checks that the two agree.
func (o Object) WithMetadata(m map[string]string) (Object, error) {
	var errs [5]error
	first := int64(0)
	first, errs[0] = strconv.ParseInt(m[metaFirst], 10, 64)
	o.End, errs[1] = strconv.ParseInt(m[metaEnd], 10, 64)
	o.Rows, errs[2] = strconv.ParseInt(m[metaRows], 10, 64)
	o.Hash, errs[3] = ParseHash(m[metaHash])
	o.SinceMS, errs[4] = strconv.ParseInt(m[metaSince], 10, 64)
	o.Config = m[metaConfig]
	if err := errors.Join(errs[:]...); err != nil {
		return o, fmt.Errorf("%w: %w", ErrNoMetadata, err)
	}
	if first != o.First || o.End <= o.First || o.Rows < 1 {
		return o, fmt.Errorf("%w: key begins at %d, metadata says [%d,%d) with %d rows", ErrNoMetadata, o.First, first, o.End, o.Rows)
	}
	return o, nil
}

// FormatHash writes a fingerprint of rows as metadata shows it.
func FormatHash(sum uint64) string { return strconv.FormatUint(sum, 16) }

// ParseHash reads what FormatHash wrote.
func ParseHash(s string) (uint64, error) { return strconv.ParseUint(s, 16, 64) }
