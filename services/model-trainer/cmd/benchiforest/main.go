// Command benchiforest measures the isolation forest beside scikit-learn in one run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/tocsin-io/tocsin/services/model-trainer/internal/benchiforest"
)

func main() {
	python := flag.String("python", "out/venv/bin/python", "Python with scikit-learn")
	out := flag.String("out", "out/iforest.json", "where the result is written")
	turns := flag.Int("turns", 5, "turns of each side")
	flag.Parse()
	if err := benchiforest.Run(context.Background(), os.Stdout, *python, *out, *turns); err != nil {
		fmt.Fprintln(os.Stderr, "benchiforest:", err)
		os.Exit(1)
	}
}
