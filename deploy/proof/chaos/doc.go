// Package chaos runs the real stack (Apache Kafka, an S3 server, PostgreSQL, VictoriaMetrics, each service a process of its own) under load,
// breaks it in every way the scoreboard names, and has the history checked at the end.
//
//   - world.go, supervisor.go: a stack, and the orchestrator that starts dead services again
//   - fleet.go, receiver.go: the edges that send and note what was acknowledged; the webhook that notes who was told
//   - watch.go: when a fault's effect is over, seen from outside
//   - fault.go and the files named after what they break: what is done, for how long, and what must come back
//   - plan.go: which faults make a run; board.go: the scoreboard
//
// A section is one world with its faults and one check of its whole history. A row of the scoreboard belongs to one section, and its counts of lost
// and doubled are the section's.
package chaos
