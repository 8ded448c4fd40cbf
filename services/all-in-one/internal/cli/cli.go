// Package cli is the command line of the tocsin binary.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tocsin-io/tocsin/pkg/launch"
)

// exit carries an exit code up to Main.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string { return e.err.Error() }
func (e *exit) Unwrap() error { return e.err }

func badConfig(err error) error { return &exit{launch.ExitConfig, err} }

// Main runs the command line and returns the exit code: 0 done, 1 failed, 2 wrong configuration or usage.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once
	}()
	root := &cobra.Command{
		Use:   "tocsin",
		Short: "Watches industrial machines and calls the right human within 30 seconds of a fault",
		Long: `Tocsin watches industrial machines through their sensors and calls the right human within 30 seconds of a fault,
with the reason in the call.

  tocsin run --simulate 20 --faults demo     everything in one process, with a fleet that develops faults
  tocsin run                                 the services and an embedded broker; send frames to http://127.0.0.1:8081
  tocsin simulate --machines 50 --faults auto
  tocsin replay --input history.csv          send recorded data through the gateway
  tocsin backtest --input history.csv --output scores.csv
  tocsin replay-alert pump-1/behaviour/1772344800000000    judge an alert again: the same, bit by bit?
  tocsin alerts list                         what stands; alerts ack, shelve, verdict say what you do about it
  tocsin dlq list                            what could not be processed, and why; dlq retry gives it back
  tocsin sql "FROM alerts ORDER BY at DESC LIMIT 10"    ask the lake
  tocsin validate --config tocsin.yaml`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       launch.Version(),
	}
	root.AddCommand(runCommand(), simulateCommand(), replayCommand(), backtestCommand(), replayAlertCommand(), validateCommand(), doctorCommand(), dlqCommand(), lakeCommand(), modelsCommand(), sqlCommand(), referenceCommand(), versionCommand())
	root.AddCommand(alertsCommand())
	started := false
	onStart(root, func() { started = true })
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return launch.ExitOK
	}
	fmt.Fprintf(stderr, "tocsin: %v\n", err)
	var e *exit
	switch {
	case errors.As(err, &e):
		return e.code
	case errors.Is(err, context.Canceled):
		return 130 // as a shell reports a command ended by Ctrl-C
	case !started:
		return launch.ExitConfig // an unknown command or flag, or one that is missing
	default:
		return launch.ExitFailed
	}
}

// onStart has f called when a command's own work begins: what fails before is the command line.
func onStart(cmd *cobra.Command, f func()) {
	if work := cmd.RunE; work != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			f()
			return work(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		onStart(c, f)
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "tocsin", launch.Version()) },
	}
}
