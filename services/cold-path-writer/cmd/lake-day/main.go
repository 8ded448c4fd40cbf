// Command lake-day makes a day of a simulated fleet as the writer would store it, merges it, and asks the historical-api about it: docs/LAKE.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/lakeday"
)

func main() {
	o := lakeday.Options{Scale: lakeday.Scale{Hours: 24}, Say: os.Stdout}
	flag.IntVar(&o.Scale.Machines, "machines", 10_000, "machines")
	flag.IntVar(&o.Scale.Sensors, "sensors", 10, "sensors of a machine")
	flag.DurationVar(&o.Scale.Every, "every", time.Minute, "time between two samples of a machine")
	flag.IntVar(&o.Scale.Partitions, "partitions", 12, "partitions of the topic")
	flag.StringVar(&o.Dir, "dir", "out/lake-day", "folder for the lake, removed afterwards")
	flag.BoolVar(&o.Keep, "keep", false, "leave the lake there")
	flag.BoolVar(&o.Reuse, "reuse", false, "ask about the lake that an earlier run has left there")
	flag.StringVar(&o.Program, "historical-api", "bin/historical-api", "the program that answers, with sql-worker beside it")
	flag.IntVar(&o.Times, "times", 7, "how often each question is asked")
	flag.StringVar(&o.Out, "out", "out/lake-day.json", "file for the result")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := lakeday.Run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "lake-day:", err)
		os.Exit(1)
	}
}
