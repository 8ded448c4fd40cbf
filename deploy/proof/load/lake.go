package load

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// lakeRow is what is read of a row of the table readings.
type lakeRow struct {
	EquipmentID string `parquet:"equipment_id,dict"`
	GatewayID   string `parquet:"gateway_id,dict"`
	Sequence    int64  `parquet:"sequence,delta"`
}

// lakeReadings calls each for every row of the table readings, and returns how many files there are.
func (w *World) lakeReadings(each func(*lakeRow) error) (files int, err error) {
	root := filepath.Join(w.lakeDir(), "tocsin", "readings")
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".parquet") {
			return err
		}
		files++
		return lakeFile(path, each)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return files, err
}

func lakeFile(path string, each func(*lakeRow) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	reader := parquet.NewGenericReader[lakeRow](f)
	defer func() { _ = reader.Close() }()
	rows := make([]lakeRow, 4096)
	for {
		n, err := reader.Read(rows)
		for i := range rows[:n] {
			if err := each(&rows[i]); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
}
