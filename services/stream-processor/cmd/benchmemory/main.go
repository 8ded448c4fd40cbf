// Command benchmemory says what 100,000 sensors take of the heap, and what for.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/benchmemory"
)

func main() {
	runtime.MemProfileRate = 1 // every allocation is counted; it must be set before the first
	out := flag.String("out", "out/memory.json", "where to write the figures")
	flag.Parse()
	if err := benchmemory.Run(os.Stdout, *out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
