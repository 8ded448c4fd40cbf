// Command benchwide measures how fast frames of 25,000 features are judged, beside the memory bandwidth of the same run.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/benchwide"
)

func main() {
	out := flag.String("out", "out/wide.json", "where the result is written")
	rounds := flag.Int("rounds", 200, "rounds of all loops; medians count")
	flag.Parse()
	if err := benchwide.Run(os.Stdout, *out, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "benchwide:", err)
		os.Exit(1)
	}
}
