// Package stack runs Tocsin's real parts as host processes on loopback, without containers: Apache Kafka (KRaft),
// VictoriaMetrics and vmalert, an S3 server, PostgreSQL, and one process per Tocsin service.
//
// A Stack is a folder. Everything that it needs to be found again stands there: ports and secrets in stack.json, one
// record per process under run/, logs under logs/, data under data/. So a stack that one program brought up, another
// program (or the stack command) can stop. A process is recognised by pid, start time and boot, never by name:
// nothing is signalled that this folder did not start.
//
// Order: Up starts the stores at once and then the services at once, each awaited until it answers its health check.
// Each component has a lock file, so several programs may work on one stack; within a program a Stack is safe for
// concurrent use.
//
// End-to-end tests use it so:
//
//	s, err := stack.New(stack.Options{Dir: t.TempDir(), PortOffset: stack.AutoPorts, Only: []string{"kafka"}, Ephemeral: true})
//	if err := s.Up(ctx); errors.As(err, &missing) { ... skip loudly ... }
//	defer s.Down(context.WithoutCancel(ctx))
//	s.Kill("stream-processor", syscall.SIGKILL); s.Start(ctx, "stream-processor")
package stack
