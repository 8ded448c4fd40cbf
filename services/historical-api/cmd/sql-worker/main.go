//go:build cgo

// Command sql-worker answers one query with DuckDB, over stdin and stdout, and ends. The historical-api starts it; it is no use to people.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/tocsin-io/tocsin/services/historical-api/internal/engine"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/worker"
)

func main() {
	if err := answer(); err != nil {
		fmt.Fprintln(os.Stderr, "sql-worker:", err)
		os.Exit(1)
	}
}

func answer() error {
	ctx := context.Background()
	e, err := engine.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }()
	return worker.Serve(ctx, os.Stdin, os.Stdout, e, worker.LimitMemory)
}
