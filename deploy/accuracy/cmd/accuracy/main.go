// Command accuracy judges the detection on public data sets: make accuracy.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tocsin-io/tocsin/deploy/accuracy"
	"github.com/tocsin-io/tocsin/deploy/accuracy/report"
)

// Exit codes are those of the tocsin binary.
const (
	exitFailed = 1
	exitUsage  = 2
)

var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "accuracy:", err)
		if errors.Is(err, errUsage) {
			os.Exit(exitUsage)
		}
		os.Exit(exitFailed)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("accuracy", flag.ContinueOnError)
	opt := accuracy.Options{Data: os.Getenv("TOCSIN_DATA")}
	flags.StringVar(&opt.Data, "data", opt.Data, "root of the data sets; default: TOCSIN_DATA")
	only := flags.String("only", "", "sets to judge, with commas between: skab,nab,tep,batadal,smap_msl,synthetic,cmapss,ai4i2020,hydraulic; default: all")
	flags.IntVar(&opt.Files, "files", 0, "only the first `N` files of each set")
	flags.IntVar(&opt.Parallel, "parallel", 0, "files side by side; default: GOMAXPROCS")
	flags.StringVar(&opt.Runner.Binary, "tocsin", "bin/tocsin", "the `binary` to judge")
	flags.StringVar(&opt.Runner.Config, "config", "", "detection configuration `FILE` for all sets; default: the shipped one")
	flags.StringVar(&opt.Runner.Keep, "scores", "", "`FOLDER` where each file's scores stay")
	out := flags.String("out", "out", "`FOLDER` for accuracy.json and accuracy.html")
	compare := flags.String("compare", "", "an earlier accuracy.json `FILE`: what changed since")
	cases := flags.Bool("cases", false, "also each file's figures")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%w: %q is not understood", errUsage, flags.Arg(0))
	}
	if opt.Data == "" {
		return fmt.Errorf("%w: set TOCSIN_DATA (or -data) to the folder that holds the data sets; they are no part of the project:\n%s", errUsage, accuracy.Layouts())
	}
	if *only != "" {
		opt.Only = strings.Split(*only, ",")
	}
	// Read before it may be overwritten.
	var before *report.Report
	var err error
	if *compare != "" {
		if before, err = report.Read(*compare); err != nil {
			return err
		}
	}
	version, err := exec.CommandContext(ctx, opt.Runner.Binary, "version").Output() //nolint:gosec // the binary that was asked for
	if err != nil {
		return fmt.Errorf("%s: %w (make build)", opt.Runner.Binary, err)
	}
	show, done := progress(os.Stderr)
	opt.Progress = show
	r, err := accuracy.Run(ctx, opt)
	done()
	switch {
	case errors.Is(err, accuracy.ErrNoData):
		return fmt.Errorf("%w below %s:\n%s", err, opt.Data, accuracy.Layouts())
	case err != nil:
		return err
	}
	r.Binary, _, _ = strings.Cut(strings.TrimSpace(string(version)), "\n")
	if *cases {
		r.PrintCases(os.Stdout)
	}
	r.Print(os.Stdout)
	if before != nil {
		fmt.Println()
		r.Compare(os.Stdout, before)
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	if err := errors.Join(r.Write(filepath.Join(*out, "accuracy.json")), r.WritePage(filepath.Join(*out, "accuracy.html"))); err != nil {
		return err
	}
	fmt.Printf("%s/accuracy.json, %s/accuracy.html\n", *out, *out)
	return nil
}
