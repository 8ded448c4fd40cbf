// Command benchlake makes a file of recorded telemetry for each line that it reads: the writer's side of deploy/bench/lake.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/benchlake"
)

func main() {
	in := flag.String("in", "", "records, or with -generic a Parquet file")
	out := flag.String("out", "", "where the first file is kept")
	generic := flag.Bool("generic", false, "parquet-go's generic writer")
	flag.Parse()
	if err := benchlake.Serve(context.Background(), os.Stdin, os.Stdout, *in, *out, *generic); err != nil {
		fmt.Fprintln(os.Stderr, "benchlake:", err)
		os.Exit(1)
	}
}
