// Command invariants writes docs/INVARIANTS.md and checks that the tests it names have run. Call it in the repository's root; see package invariants.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/tocsin-io/tocsin/deploy/proof/invariants"
)

func main() {
	run := flag.String("run", "", "JSON output of a test run (gotestsum --jsonfile): fail unless every test of the page passed in it")
	flag.Parse()
	if err := do(*run); err != nil {
		fmt.Fprintln(os.Stderr, "invariants:", err)
		os.Exit(1)
	}
}

func do(run string) error {
	reg, err := invariants.Load("deploy/proof/invariants/registry.yaml")
	if err != nil {
		return err
	}
	page, err := invariants.Make(reg, ".")
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := page.WriteTo(&b); err != nil {
		return err
	}
	if err := os.WriteFile("docs/INVARIANTS.md", b.Bytes(), 0o644); err != nil {
		return err
	}
	if len(page.Broken) > 0 {
		return fmt.Errorf("recorded runs in which a promise did not hold: %s", strings.Join(page.Broken, ", "))
	}
	if run == "" {
		return nil
	}
	f, err := os.Open(run)
	if err != nil {
		return err
	}
	if err := errors.Join(reg.CheckRun(f), f.Close()); err != nil {
		return err
	}
	fmt.Printf("invariants: %d tests of %s passed in %s\n", len(reg.Tests()), "docs/INVARIANTS.md", run)
	return nil
}
