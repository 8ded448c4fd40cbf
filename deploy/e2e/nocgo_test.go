//go:build !cgo

package e2e

import (
	"os"
	"testing"
)

// Without a C compiler nothing here is tested, and that must not look like a pass.
func TestNeedsCompiler(t *testing.T) {
	const why = "NOT PROVEN HERE: the end-to-end tests read the lake with DuckDB, which needs cgo and a C compiler"
	if os.Getenv("TOCSIN_REQUIRE_REAL") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}
