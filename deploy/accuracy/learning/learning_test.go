package learning

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func engine(unit, cycles string) string {
	line := ""
	for _, c := range strings.Fields(cycles) {
		line += unit + " " + c + strings.Repeat(" 1.5", 24) + "  \n"
	}
	return line
}

// A dev engine is cut, and nothing of it is learned from; official test engines leave all runs to learn from.
func TestLifeLearnsFromOtherEngines(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"train_FD001.txt": engine("1", "1 2 3") + engine("2", "1 2 3 4"), "dev_FD001.csv": "unit,cut_cycle,rul\n2,3,1\n"})
	train, test, truth, err := loadLife(dir, "FD001")
	if err != nil {
		t.Fatal(err)
	}
	if len(train.rows) != 3 || train.rows[0][0] != "1" || train.rows[0][26] != "2" || train.rows[2][26] != "0" || len(test.rows) != 3 || len(test.names) != 26 || truth["2"] != 1 {
		t.Errorf("%v\n%v\n%v", train.rows, test.rows, truth)
	}
	write(t, dir, map[string]string{"test_FD001.txt": engine("1", "1 2"), "RUL_FD001.txt": "77\n"})
	train, test, truth, err = loadLife(dir, "FD001")
	if err != nil || len(train.rows) != 7 || len(test.rows) != 2 || truth["1"] != 77 || len(truth) != 1 {
		t.Errorf("%v %v %v %v", train.rows, test.rows, truth, err)
	}
	write(t, dir, map[string]string{"dev_FD001.csv": "unit,cut_cycle,rul\n2,3,2\n"})
	if err := os.Remove(filepath.Join(dir, "RUL_FD001.txt")); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := loadLife(dir, "FD001"); err == nil {
		t.Error("a remaining life that the run does not have is taken")
	}
}

func TestRunsAreStretchesOfOneCondition(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{"profile.txt": "3 100 0 130 1\n3 100 0 130 0\n3 90 0 130 0\n3 90 0 130 0\n", "cycle.txt": "1\n2\n3\n7\n"}
	for _, c := range channels() {
		files[c+".txt"] = strings.Repeat("1.5\t2.5\n", 4)
	}
	write(t, dir, files)
	got, err := loadConditions(dir)
	if err != nil {
		t.Fatal(err)
	}
	var runs []string
	for _, r := range got.rows {
		runs = append(runs, r[0])
	}
	if !slices.Equal(runs, []string{"1", "1", "2", "3"}) || len(got.names) != 1+4+2*8 || got.names[5] != "TS1.0" || got.rows[0][2] != "100" {
		t.Errorf("%q\n%q", runs, got.names)
	}
}

func TestConfusion(t *testing.T) {
	var c confusion
	for _, r := range [][2]bool{{true, true}, {true, false}, {false, true}, {true, true}, {false, false}} {
		c.add(r[0], r[1])
	}
	if v := c.values(); v["f1"] != 2.0/3 || v["precision"] != 2.0/3 || v["recall"] != 2.0/3 {
		t.Error(v)
	}
	if v := new(confusion).values(); v["f1"] != 0 {
		t.Error(v)
	}
}

func TestMissingFilesAreSaidBeforeAnythingIsStarted(t *testing.T) {
	for _, s := range All() {
		if _, err := s.Judge(context.Background(), "/nowhere/tocsin", t.TempDir()); !errors.Is(err, ErrMissing) {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}

func TestAProcessThatEndsAtOnceIsNamed(t *testing.T) {
	path, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := start(t.Context(), path); err == nil || !strings.Contains(err.Error(), "ended at once") {
		t.Error(err)
	}
}
