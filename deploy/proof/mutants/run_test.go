//go:build mutants

package mutants

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Report is what out/mutants.json holds.
type Report struct {
	Date       time.Time      `json:"date"`
	Commit     string         `json:"commit"`
	Go         string         `json:"go"`
	Cores      int            `json:"cores"`
	Seconds    float64        `json:"seconds"`
	Mutants    int            `json:"mutants"`
	Caught     int            `json:"caught"`
	ByKind     map[string]int `json:"by_kind"`
	Results    []Result       `json:"results"`
	Equivalent []Equivalent   `json:"equivalent"`
}

// Equivalent is a mutant that cannot be told from the original.
type Equivalent struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// TestMutants runs every mutant; see `make mutants`. Environment: MUTANT chooses those whose name holds it, or one of several with commas between, MUTANTS_PARALLEL how many at once
// (one more than cores), MUTANTS_ALL=1 asks everything that a mutant names, MUTANTS_OUT is the file to write.
func TestMutants(t *testing.T) {
	began := time.Now()
	parallel := runtime.NumCPU() + 1 // building and playing wait for disk and pipes now and then
	if n, err := strconv.Atoi(os.Getenv("MUTANTS_PARALLEL")); err == nil {
		parallel = n
	}
	rep := Report{Date: began.UTC().Truncate(time.Second), Commit: commit(t), Go: runtime.Version(), Cores: runtime.NumCPU(), ByKind: map[string]int{}}
	var todo []Mutant
	for _, m := range All() {
		switch {
		case !chosen(m.Name, os.Getenv("MUTANT")):
		case m.Equivalent != "":
			rep.Equivalent = append(rep.Equivalent, Equivalent{m.Name, m.Equivalent})
		default:
			todo = append(todo, m)
		}
	}
	if len(todo) == 0 {
		t.Fatalf("no mutant has %q in its name", os.Getenv("MUTANT"))
	}
	r := &Runner{Root: root(t), Work: t.TempDir(), Timeout: 3 * time.Minute, All: os.Getenv("MUTANTS_ALL") == "1"}
	rep.Results = make([]Result, len(todo))
	var mu sync.Mutex
	each(len(todo), parallel, func(i int) {
		res, err := r.Run(t.Context(), &todo[i])
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Error(err)
		}
		rep.Results[i] = res
		rep.ByKind[res.Kind]++
		word := "SURVIVED"
		if res.Caught {
			rep.Caught++
			word = "caught"
		} else {
			t.Errorf("%s survived: %+v", res.Name, res.Tried)
		}
		fmt.Printf("%-9s%-52s %5.1fs  %s: %s\n", word, res.Name, res.Seconds, res.By, res.Finding)
	})
	rep.Mutants, rep.Seconds = len(todo), time.Since(began).Seconds()
	fmt.Printf("\n%d of %d mutants caught, by %v, in %s; %d more cannot change what is seen\n", rep.Caught, rep.Mutants, rep.ByKind, time.Since(began).Round(time.Second), len(rep.Equivalent))
	if to := os.Getenv("MUTANTS_OUT"); to != "" {
		b, err := json.MarshalIndent(rep, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// chosen tells whether a name holds one of the words; none: every name does.
func chosen(name, words string) bool {
	for word := range strings.SplitSeq(words, ",") {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// commit that is checked out; with a mark when files differ from it.
func commit(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// each calls do for 0..n-1, so many at a time.
func each(n, parallel int, do func(int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, max(1, parallel))
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(i)
		})
	}
	wg.Wait()
}
