package maintain

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// Policy says what to do with the lake.
type Policy struct {
	MinAge     time.Duration `mapstructure:"min_age" doc:"An hour's files are merged when the hour has ended so long ago, a day's when the day has. What comes later is merged again."`
	Days       bool          `mapstructure:"days" doc:"Merge the files of a day's hours into files of the day, in which a machine's rows stand together."`
	TargetRows int64         `mapstructure:"target_rows" doc:"Rows of a merged file, at most. Files of half as many are left alone, but for the merge of a day."`
	InputBytes int64         `mapstructure:"input_bytes" doc:"Memory that the files merged at once may need: about 12 MB a file. A day has 24 of them."`
	Rollups    bool          `mapstructure:"rollups" doc:"Keep readings_1m and readings_1h. The same in all processes that maintain a lake. Readings are merged and removed only when they are in there."`
	Grace      time.Duration `mapstructure:"grace" doc:"Files that do not count any more stay so long for readers that have begun. Not less than iceberg_committer.iceberg.keep_snapshots, where that runs."`
	Keep       []Keep        `mapstructure:"keep" doc:"How long rows are kept. Tables that are not named are kept for ever."`
}

// Keep is how long a table's rows are kept.
type Keep struct {
	Table string        `mapstructure:"table" doc:"Table of the lake."`
	For   time.Duration `mapstructure:"for" doc:"Rows are removed an hour (merged days: a day) at a time, when the hour in which they came has ended so long ago."`
}

// DefaultPolicy removes no rows.
func DefaultPolicy() Policy {
	return Policy{MinAge: 2 * time.Hour, Days: true, TargetRows: 8_000_000, InputBytes: 512 << 20, Rollups: true, Grace: 24 * time.Hour}
}

// Validate names the first field that is wrong.
func (p Policy) Validate() error {
	switch {
	case p.MinAge < 0:
		return errors.New("min_age: must not be negative")
	case p.TargetRows < 1000 || p.TargetRows > 64_000_000:
		return fmt.Errorf("target_rows: %d is not in 1000..64000000", p.TargetRows)
	case p.InputBytes < 32<<20:
		return errors.New("input_bytes: must be 32 MiB or more")
	case p.Grace < 0:
		return errors.New("grace: must not be negative")
	}
	for i, k := range p.Keep {
		if !slices.ContainsFunc(table.Kept(), func(t table.Merger) bool { return t.Name() == k.Table }) {
			return fmt.Errorf("keep[%d].table: there is no table %q", i, k.Table)
		}
		if k.For < time.Hour {
			return fmt.Errorf("keep[%d].for: must be 1h or more", i)
		}
	}
	return nil
}
