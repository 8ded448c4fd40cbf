package coldpathwriter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

const (
	// importTopic stands in the names of imported files where others have their topic. No topic has it.
	importTopic = "import"
	// importGateway is the gateway_id of imported rows.
	importGateway = "import"
	importValues  = 1_000_000
	// importBytes of records bound a file too.
	importBytes = 64 << 20
)

// ImportSummary is what an import has written.
type ImportSummary struct {
	Rows   int64 `json:"rows"`   // of the input
	Values int64 `json:"values"` // rows of the table readings
	Files  int   `json:"files"`
	// There of the files were in the lake already, from an earlier import of the same.
	There int `json:"there"`
}

// Importer writes history into the table readings: rows that went through no topic, so no processor judges them and nobody is paged. An input is named by its content. Its rows, counted
// from 0, take the place of offsets; which of them make a file depends on nothing else, so what is imported twice, or was broken off and is begun again, stands there once. Audit, merges,
// rollups and retention treat its files as any others. Not safe for concurrent use; several importers of the same input do no harm.
type Importer struct {
	// FileValues of a file, at most one row of the input more. To be set before the first Add, and the same each time the input is imported.
	FileValues int64

	bucket   objstore.Bucket
	src      lake.Source
	covered  lake.Spans
	readings table.Table

	recs   []table.Record
	values int64
	bytes  int
	first  int64
	last   int64 // ms; the latest event time of the file
	sum    ImportSummary
}

// NewImporter imports the input whose content, and how it is read, id stands for.
func NewImporter(ctx context.Context, bucket objstore.Bucket, id [16]byte) (*Importer, error) {
	readings := table.All(nil)[0]
	m, err := lake.LoadManifest(ctx, bucket, readings.Name())
	if err != nil {
		return nil, err
	}
	return &Importer{FileValues: importValues, bucket: bucket, src: lake.Source{Table: readings.Name(), Topic: importTopic, TopicID: id}, covered: m.Covered(), readings: readings}, nil
}

// Add takes the next row of the input: values of sensors, NaN where there is none, of one machine at one time.
func (i *Importer) Add(ctx context.Context, machine string, at time.Time, sensors []string, values []float32) error {
	if err := frame.CheckID("equipment_id", []byte(machine)); err != nil {
		return err
	}
	if len(values) == 0 || len(values) != len(sensors) {
		return fmt.Errorf("%d values of %d sensors", len(values), len(sensors))
	}
	n := i.sum.Rows
	f := frame.New(machine, importGateway, uint64(n+1), at, sensors, values)
	v, err := proto.Marshal(&eventv1.Reading{
		Frame: f.AppendTo(nil), Partition: -1, Offset: n, LogAppendTimeMs: at.UnixMilli(), Dispositions: []eventv1.Disposition{eventv1.Disposition_DISPOSITION_ON_TIME},
	})
	if err != nil {
		return err
	}
	if len(i.recs) == 0 || at.UnixMilli() > i.last {
		i.last = at.UnixMilli()
	}
	i.recs = append(i.recs, table.Record{Offset: n, TimeMS: at.UnixMilli(), Value: v})
	i.values += int64(len(values))
	i.bytes += len(v)
	i.sum.Rows++
	i.sum.Values += int64(len(values))
	if i.values >= i.FileValues || i.bytes >= importBytes {
		return i.flush(ctx)
	}
	return nil
}

// Close writes what is left and tells what there is now. Without it the input's last rows are missing, which the next import of it mends.
func (i *Importer) Close(ctx context.Context) (ImportSummary, error) {
	err := i.flush(ctx)
	return i.sum, err
}

// flush writes a file. It lies in the folder of its latest event time: none of its rows is younger, which is what readers go by, and retention removes none too early.
func (i *Importer) flush(ctx context.Context) error {
	if len(i.recs) == 0 {
		return nil
	}
	o := lake.Object{Source: i.src, First: i.first, End: i.sum.Rows, SinceMS: i.last, Config: importTopic}
	defer func() { i.recs, i.values, i.bytes, i.first = i.recs[:0], 0, 0, i.sum.Rows }()
	i.sum.Files++
	if _, ok := i.covered.Holds(lake.SourceName(i.src), o.First); ok {
		i.sum.There++
		return nil // merged, or removed
	}
	f, err := i.readings.Encode(ctx, i.recs, func(rows int64, hash uint64) map[string]string {
		o.Rows, o.Hash = rows, hash
		return o.Metadata()
	})
	if err != nil {
		return err
	}
	err = i.bucket.PutIfAbsent(ctx, o.Key(), f.Data, o.Metadata())
	if !errors.Is(err, objstore.ErrExists) {
		return err
	}
	info, err := i.bucket.Head(ctx, o.Key())
	if err != nil {
		return err
	}
	there, err := o.WithMetadata(info.Metadata)
	if err != nil {
		return err
	}
	if there != o {
		return fmt.Errorf("%s stands in the lake with other rows: it was imported by a version that read this input otherwise", o.Key())
	}
	i.sum.There++
	return nil
}
