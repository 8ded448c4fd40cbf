package main

import (
	"fmt"
	"io"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
)

// root makes the command line; results go to stdout, progress to stderr.
func root(stdout, stderr io.Writer) *cobra.Command {
	opts := stack.Options{Progress: stderr}
	cmd := &cobra.Command{
		Use:           "stack",
		Short:         "Tocsin's real parts as host processes on loopback, without containers",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&opts.Dir, "dir", "", "`FOLDER` that holds everything the stack keeps (default <repository>/.stack)")
	f.StringVar(&opts.Repo, "repo", "", "the repository's root `FOLDER` (default: the nearest one above that holds go.work)")
	f.StringVar(&opts.Bin, "bin", "", "`FOLDER` with the services' binaries (default <repository>/bin)")
	f.IntVar(&opts.PortOffset, "port-offset", 0, "added to each documented port; -1 picks free ones; kept by the folder")
	f.IntVar(&opts.Brokers, "brokers", 0, "Kafka brokers, 1 or 3; kept by the folder (default 1)")
	f.DurationVar(&opts.HealthTimeout, "health-timeout", time.Minute, "how long one component may take to become healthy")
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	open := func() (*stack.Stack, error) { return stack.New(opts) }
	cmd.AddCommand(up(open, &opts), down(open), start(open), stop(open), restart(open), kill(open), status(open), logs(open), env(open), fetch(open))
	return cmd
}

type opener func() (*stack.Stack, error)

func up(open opener, opts *stack.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start what does not run, and wait until all of it is healthy",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			return s.Up(cmd.Context())
		},
	}
	cmd.Flags().StringSliceVar(&opts.Only, "only", nil,
		"components or groups (kafka, infra, services) to start, with what they need")
	return cmd
}

func down(open opener) *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop everything that this folder started, and nothing else",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			if err := s.Down(cmd.Context()); err != nil || !purge {
				return err
			}
			return s.Purge()
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "delete data, logs and settings too")
	return cmd
}

// each makes a command that does f to the components or groups that are named.
func each(use, short string, open opener, f func(cmd *cobra.Command, s *stack.Stack, name string) error) *cobra.Command {
	return &cobra.Command{
		Use:   use + " NAME...",
		Short: short,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := f(cmd, s, name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func start(open opener) *cobra.Command {
	return each("start", "Start components and wait until they are healthy", open,
		func(cmd *cobra.Command, s *stack.Stack, name string) error { return s.Start(cmd.Context(), name) })
}

func stop(open opener) *cobra.Command {
	return each("stop", "Stop components gracefully", open,
		func(cmd *cobra.Command, s *stack.Stack, name string) error { return s.Stop(cmd.Context(), name) })
}

func restart(open opener) *cobra.Command {
	return each("restart", "Stop components gracefully and start them again", open,
		func(cmd *cobra.Command, s *stack.Stack, name string) error {
			if err := s.Stop(cmd.Context(), name); err != nil {
				return err
			}
			return s.Start(cmd.Context(), name)
		})
}

func kill(open opener) *cobra.Command {
	var name string
	var nine bool
	cmd := each("kill", "Send a signal to components: kill -9 stream-processor, kill -s STOP kafka", open,
		func(_ *cobra.Command, s *stack.Stack, component string) error {
			if nine {
				return s.Kill(component, syscall.SIGKILL)
			}
			sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG"))
			if sig == 0 {
				return fmt.Errorf("no signal is called %q", name)
			}
			return s.Kill(component, sig)
		})
	cmd.Flags().StringVarP(&name, "signal", "s", "TERM", "the signal's `NAME`")
	cmd.Flags().BoolVarP(&nine, "kill", "9", false, "SIGKILL, as kill(1) writes it")
	return cmd
}

func status(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "What runs, where, since when, and how much memory it takes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			all, err := s.Status(cmd.Context())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "COMPONENT\tSTATE\tADDRESS\tPID\tUPTIME\tMEMORY\tREASON")
			for _, st := range all {
				if st.PID == 0 {
					fmt.Fprintf(w, "%s\t%s\t%s\t\t\t\t\n", st.Name, st.State, st.Addr)
					continue
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%d MB\t%s\n", st.Name, st.State, st.Addr, st.PID,
					st.Uptime.Truncate(time.Second), st.Resident/1e6, st.Reason)
			}
			return w.Flush()
		},
	}
}

func logs(open opener) *cobra.Command {
	var lines int
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "The last lines that a component wrote",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			return s.Logs(cmd.Context(), cmd.OutOrStdout(), args[0], lines, follow)
		},
	}
	cmd.Flags().IntVarP(&lines, "lines", "n", 50, "how many")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what it writes until interrupted")
	return cmd
}

func env(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "env",
		Short: "Shell assignments that let clients reach the stack, passwords included: eval \"$(stack env)\"",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			for _, e := range s.Env() {
				key, value, _ := strings.Cut(e, "=")
				fmt.Fprintf(cmd.OutOrStdout(), "export %s='%s'\n", key, strings.ReplaceAll(value, "'", `'\''`))
			}
			return nil
		},
	}
}

func fetch(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "fetch",
		Short: "Download Kafka's jars now, if they are not there, rather than at the first start",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			return s.Fetch(cmd.Context())
		},
	}
}
