// Command lakeproof shows that every engine finds each reading once in the lake, whatever was killed meanwhile: make lake-proof.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tocsin-io/tocsin/deploy/proof/lakeproof"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lakeproof:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	cfg := lakeproof.DefaultConfig()
	flags := flag.NewFlagSet("lakeproof", flag.ContinueOnError)
	out := flags.String("out", "out/lake-proof.json", "file for the report")
	jars := flags.String("jars", "", "Spark's jars, separated by commas")
	keep := flags.Bool("keep", false, "leave the run's folder")
	flags.StringVar(&cfg.Python, "python", "python3", "interpreter that has the engines")
	flags.StringVar(&cfg.Repo, "repo", ".", "the repository's root")
	flags.IntVar(&cfg.Sizes.Machines, "machines", cfg.Sizes.Machines, "machines; each sends 10,000 readings")
	flags.IntVar(&cfg.Sizes.Rate, "rate", cfg.Sizes.Rate, "readings sent a second; 0: as fast as they are taken")
	flags.IntVar(&cfg.Kills, "kills", cfg.Kills, "the writer is killed so often at least")
	flags.IntVar(&cfg.CommitterKills, "committer-kills", cfg.CommitterKills, "the committer is killed so often at least")
	flags.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "when who is killed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if cfg.Repo, err = filepath.Abs(cfg.Repo); err != nil {
		return err
	}
	if strings.ContainsRune(cfg.Python, filepath.Separator) {
		if cfg.Python, err = filepath.Abs(cfg.Python); err != nil {
			return err
		}
	}
	for jar := range strings.SplitSeq(*jars, ",") {
		abs, err := filepath.Abs(jar)
		if err != nil {
			return err
		}
		cfg.Jars = append(cfg.Jars, abs)
	}
	if cfg.Dir, err = os.MkdirTemp("", "tocsin-lakeproof-"); err != nil {
		return err
	}
	if !*keep {
		defer func() { err = errors.Join(err, os.RemoveAll(cfg.Dir)) }()
	}
	if err := os.Chmod(cfg.Dir, 0o755); err != nil {
		return err
	}
	began := time.Now()
	cfg.Progress = func(s string) { fmt.Fprintf(os.Stdout, "%7.1f s  %s\n", time.Since(began).Seconds(), s) }
	r, err := lakeproof.Run(ctx, cfg)
	if err != nil {
		return err
	}
	r.Print(os.Stdout)
	if err := r.Write(*out); err != nil {
		return err
	}
	if !r.OK {
		return fmt.Errorf("%d promises were broken", len(r.Broken))
	}
	return nil
}
