package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// LoadRow is what a scenario of package load has measured, in a run of its own: poison pills, a hot machine, a cold restore.
type LoadRow struct {
	Scenario string    `json:"scenario"`
	Promise  string    `json:"promise"`
	OK       bool      `json:"ok"`
	Broken   []string  `json:"broken,omitempty"`
	Began    time.Time `json:"began"`
	Seconds  float64   `json:"seconds"`
}

// maxLoadFile bounds what is read of one result.
const maxLoadFile = 16 << 20

// AddLoad takes the results of package load in dir into the board, those that are there.
func (b *Board) AddLoad(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "load-*.json"))
	if err != nil {
		return err
	}
	for _, file := range files {
		st, err := os.Stat(file)
		if err == nil && st.Size() > maxLoadFile {
			err = fmt.Errorf("%d bytes, more than %d", st.Size(), maxLoadFile)
		}
		var text []byte
		if err == nil {
			text, err = os.ReadFile(file)
		}
		var row LoadRow
		if err == nil {
			err = json.Unmarshal(text, &row)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		b.Load = append(b.Load, row)
	}
	if len(files) == 0 {
		b.NotShown = append(b.NotShown, "poison pills, hot machine, slow consumer, cold restore: no result of `make load` is there")
	}
	return nil
}

// notShown is what the design's scoreboard names and no plan of this package shows, or shows smaller.
func notShown() []string {
	return []string{
		"PostgreSQL outage: no service uses PostgreSQL yet",
		"disk full at a gateway's buffer: gateways keep none; shown are a full broker and a full store",
		"SMTP outage: the receiver is a webhook",
		"lost answers of EndTxn as such: here by one-way links, singly in the simulation",
		"the design's lengths: frozen for 9 s with sessions of 6 s, not 30 s; the store away for 1 min, not 10; people for 15 s, not 1 h; members for 1 min, not 30",
	}
}
