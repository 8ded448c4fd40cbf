//go:build !cgo

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "sql-worker: built without cgo, which DuckDB needs: build it on a machine with a C compiler (CGO_ENABLED=1)")
	os.Exit(1)
}
