// Package backtest runs the production judge over a file and writes what it would have thought, row by row.
//
// It is strictly causal: a row's score rests on that row and those before it. The same file and configuration give the same bytes.
package backtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/services/all-in-one/internal/csvfile"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// Options of a backtest.
type Options struct {
	Input, Output string
	CSV           csvfile.Options
	Detection     streamprocessor.DetectionConfig
	Train         string // file whose rows are learned from before the first row of Input
	TrainRows     int    // rows of Input that are only learned from: never flagged
	Progress      func(done, total int64)
}

// Summary is what a backtest saw.
type Summary struct {
	Rows, Flagged, Sensors int
	TimeColumn             string
}

// Header of the scores file.
const Header = "timestamp,score,flag,severity,top_sensor,contributions\n"

// Run writes the scores file; a failure leaves no half of one.
func Run(ctx context.Context, opt Options) (sum Summary, err error) {
	in, size, err := open(opt.Input)
	if err != nil {
		return sum, err
	}
	defer func() { _ = in.Close() }()
	counted := &csvfile.Counter{R: in}
	rows, err := csvfile.NewReader(counted, opt.CSV)
	if err != nil {
		return sum, fmt.Errorf("%s: %w", opt.Input, err)
	}
	sum.Sensors, sum.TimeColumn = len(rows.Sensors), rows.TimeColumn
	judge := streamprocessor.NewJudge(&opt.Detection, "backtest", rows.Sensors)
	row, readErr := rows.Read()
	if opt.Train != "" && readErr == nil {
		if err := train(ctx, judge, rows.Sensors, row.Time, opt); err != nil {
			return sum, fmt.Errorf("%s: %w", opt.Train, err)
		}
	}
	tmp, err := os.CreateTemp(filepath.Dir(opt.Output), ".scores-*")
	if err != nil {
		return sum, err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	w := bufio.NewWriterSize(tmp, 1<<16)
	_, _ = w.WriteString(Header) // an error stays in w until Flush
	var line []byte
	for ; readErr == nil; row, readErr = rows.Read() {
		if sum.Rows%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return sum, err
			}
			if opt.Progress != nil {
				opt.Progress(counted.N, size)
			}
		}
		v := judge.Row(row.Time, row.Values)
		stamp := row.Stamp
		if stamp == "" {
			stamp = row.Time.Format("2006-01-02 15:04:05")
		}
		line = appendRow(line[:0], stamp, v, sum.Rows < opt.TrainRows)
		if v.Flag && sum.Rows >= opt.TrainRows {
			sum.Flagged++
		}
		_, _ = w.Write(line)
		sum.Rows++
	}
	if !errors.Is(readErr, io.EOF) {
		return sum, fmt.Errorf("%s: %w", opt.Input, readErr)
	}
	if opt.Progress != nil {
		opt.Progress(size, size)
	}
	if err := errors.Join(w.Flush(), tmp.Chmod(0o644), tmp.Close()); err != nil {
		return sum, fmt.Errorf("%s: %w", opt.Output, err)
	}
	return sum, os.Rename(tmp.Name(), opt.Output)
}

// train feeds another recording of the same sensors. Its times are moved so that it ends one second before the input begins:
// what is learned of hours and cadence holds, and whatever its dates, no row of the input is late.
func train(ctx context.Context, judge *streamprocessor.Judge, sensors []string, before time.Time, opt Options) error {
	var last time.Time
	if err := each(ctx, opt.Train, opt.CSV, func(_ []string, row *csvfile.Row) error {
		last = row.Time
		return nil
	}); err != nil {
		return err
	}
	shift := before.Add(-time.Second).Sub(last)
	values := make([]float32, len(sensors))
	return each(ctx, opt.Train, opt.CSV, func(names []string, row *csvfile.Row) error {
		for i, s := range sensors {
			at := slices.Index(names, s)
			if at < 0 {
				return fmt.Errorf("sensor %q of the input is not in it", s)
			}
			values[i] = row.Values[at]
		}
		judge.Row(row.Time.Add(shift), values)
		return nil
	})
}

func each(ctx context.Context, path string, opt csvfile.Options, do func(sensors []string, row *csvfile.Row) error) error {
	in, _, err := open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	rows, err := csvfile.NewReader(in, opt)
	for n := 0; err == nil; n++ {
		var row *csvfile.Row
		if row, err = rows.Read(); err == nil {
			err = do(rows.Sensors, row)
		}
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func open(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// appendRow writes one line. Numbers have six digits behind the point: enough to rank, and the same on every machine.
func appendRow(dst []byte, stamp string, v *streamprocessor.Verdict, training bool) []byte {
	dst = appendCSV(dst, stamp)
	dst = append(dst, ',')
	dst = strconv.AppendFloat(dst, v.Score, 'f', -1, 64)
	flag, severity, top := "0", "none", ""
	if v.Flag && !training {
		flag, severity = "1", severityName(v.Severity)
	}
	if len(v.Contributions) > 0 {
		top = v.Contributions[0].Sensor
	}
	dst = append(append(append(append(dst, ','), flag...), ','), severity...)
	dst = appendCSV(append(dst, ','), top)
	dst = append(dst, `,"{`...)
	for i, c := range v.Contributions {
		if i > 0 {
			dst = append(dst, ',')
		}
		// JSON inside CSV: quotes are doubled. Sensor names hold neither quotes nor backslashes nor control characters.
		dst = append(append(append(dst, `""`...), c.Sensor...), `"":`...)
		dst = strconv.AppendFloat(dst, c.Share, 'f', 6, 64)
	}
	return append(dst, "}\"\n"...)
}
