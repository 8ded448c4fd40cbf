// Command stack runs Tocsin's real parts as host processes on loopback; see package deploy/local/stack.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
)

// Exit codes: 1 for a failure, 3 when this machine lacks a part (what installs it is said).
const (
	exitFailed  = 1
	exitMissing = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root(os.Stdout, os.Stderr).ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	var missing *stack.MissingError
	if errors.As(err, &missing) {
		os.Exit(exitMissing)
	}
	os.Exit(exitFailed)
}
