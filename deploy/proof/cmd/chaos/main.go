// Command chaos breaks the real stack under load and prints the scoreboard. Run it at the repository's root: make chaos.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/deploy/proof/chaos"
)

func main() {
	plan := flag.String("plan", "full", "full or slice, or a section's name")
	out := flag.String("out", "out/chaos.json", "where the scoreboard is kept as JSON")
	dir := flag.String("dir", "", "folder for data and logs; empty: the system's for temporary files")
	repo := flag.String("repo", ".", "the repository's root")
	bin := flag.String("bin", "", "folder of the services' binaries; empty: bin/")
	verbose := flag.Bool("v", false, "show what the stack does, too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, *plan, *out, chaos.Options{Repo: *repo, Dir: *dir, Bin: *bin, Verbose: *verbose}))
}

func run(ctx context.Context, plan, out string, o chaos.Options) int {
	sections, err := chaos.Plan(plan)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 2
	}
	o.Plan, o.Progress, o.Log = sections, os.Stderr, zap.NewNop()
	if o.Verbose {
		o.Log = zap.Must(zap.NewDevelopment())
	}
	board, err := chaos.Run(ctx, o)
	if board == nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 1
	}
	for _, e := range []error{err, board.AddLoad(filepath.Dir(out)), board.WriteTable(os.Stdout), board.WriteFile(out)} {
		if e != nil {
			fmt.Fprintln(os.Stderr, "chaos:", e)
			err = e
		}
	}
	if err != nil || !board.Pass() {
		fmt.Fprintln(os.Stderr, "chaos: FAILED")
		return 1
	}
	return 0
}
