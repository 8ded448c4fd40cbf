package mutants

const (
	topologyDir  = "services/stream-processor/internal/topology/"
	machineDir   = "services/stream-processor/internal/machine/"
	processorPkg = "services/stream-processor"
	topologyPkg  = "services/stream-processor/internal/topology"
	kafkaDir     = "pkg/kafka/"
	kafkaPkg     = "pkg/kafka"
)

// processor breaks what the stream-processor does while it judges.
func processor() []Mutant {
	return []Mutant{
		{
			Name: "processor-no-rollback-after-abort",
			Rule: "An aborted transaction throws away the states of all partitions of the instance and restores them.",
			Edits: []Edit{{
				topologyDir + "transaction.go",
				"\t\tt.rollback(sess.Client())\n",
				"",
			}},
			Scenarios: []string{"processor-cannot-commit-its-offsets", "processor-cannot-write"},
			Tests:     []Tests{{processorPkg, "TestAbortedTransactionsLeaveNoTrace"}},
		},
		{
			Name: "processor-no-rollback-after-abort-unguarded",
			Rule: "An aborted transaction throws away the states of all partitions of the instance and restores them. (And nothing notices that records come again.)",
			Edits: []Edit{
				{topologyDir + "transaction.go", "\t\tt.rollback(sess.Client())\n", ""},
				{topologyDir + "topology.go", "\t\t\t\t\tif r.Offset < p.next {\n\t\t\t\t\t\treturn fmt.Errorf(\"%s: offset %d came after %d was applied\", p, r.Offset, p.next-1)\n\t\t\t\t\t}\n", ""},
			},
			Scenarios: []string{"processor-cannot-commit-its-offsets", "processor-cannot-write"},
			Tests:     []Tests{{processorPkg, "TestAbortedTransactionsLeaveNoTrace"}},
		},
		{
			Name:  "processor-coordinator-is-believed",
			Rule:  "What a partition still has open of a transaction that its coordinator calls complete is ended there as it was decided.",
			Edits: []Edit{{kafkaDir + "outcome.go", "\tif err != nil || len(left) == 0 {\n", "\tif err != nil || len(left) >= 0 {\n"}},
			Tests: []Tests{{kafkaPkg, "TestUnendedTransactionIsEnded"}},
		},
		{
			Name:  "processor-aborts-whatever-is-open",
			Rule:  "What a partition still has open of a transaction that its coordinator calls complete is ended there as it was decided.",
			Edits: []Edit{{kafkaDir + "outcome.go", "Commit: v == committed, Topics: in}", "Topics: in}"}},
			Tests: []Tests{{kafkaPkg, "TestUnendedTransactionIsEnded"}},
		},
		{
			Name: "processor-produce-errors-ignored",
			Rule: "One transaction holds the outputs of its records: when one of them could not be written, it is aborted.",
			Edits: []Edit{{
				topologyDir + "transaction.go",
				"kgo.TransactionEndTry(judged == nil && abort.Err() == nil)",
				"kgo.TransactionEndTry(judged == nil)",
			}},
			Scenarios: []string{"processor-cannot-write"},
			Tests:     []Tests{{processorPkg, "TestAbortedTransactionsLeaveNoTrace"}},
		},
		{
			Name: "processor-unknown-end-taken-as-committed",
			Rule: "An error from ending a transaction is not retried: nobody can tell here whether it stands. The process leaves.",
			Edits: []Edit{{
				topologyDir + "transaction.go",
				"\tcase err != nil:\n\t\treturn fmt.Errorf(\"end of transaction: %w\", err)\n\tcase !committed && permanent(abort.Err()):",
				"\tcase err != nil:\n\tcase !committed && permanent(abort.Err()):",
			}},
			Scenarios: []string{"processor-does-not-learn-how-its-transaction-ended", "end-request-lost", "broker-away"},
		},
		{
			Name: "processor-offsets-before-transaction",
			Rule: "The group's offsets are part of the transaction. (Here they are committed before it; and restore does not compare them with the state.)",
			Edits: []Edit{
				{
					topologyDir + "transaction.go",
					"\tabort := kgo.AbortingFirstErrPromise(sess.Client())\n",
					"\tabort := kgo.AbortingFirstErrPromise(sess.Client())\n\tsess.Client().CommitOffsetsSync(ctx, sess.Client().UncommittedOffsets(), nil)\n",
				},
				noMetaCheck(),
			},
			Scenarios: []string{"processor-killed-in-its-transaction", "killed-before-the-end"},
		},
		{
			Name: "processor-state-outside-transaction",
			Rule: "The snapshots are part of the transaction.",
			Edits: []Edit{{
				topologyDir + "transaction.go",
				"\t\t\tp.snapshot(t.cfg.Snapshot, emit)\n",
				"\t\t\tp.snapshot(t.cfg.Snapshot, func(r *kgo.Record) { t.plain.ProduceSync(work, r) })\n",
			}},
			Scenarios: []string{"processor-killed-in-its-transaction", "processor-cannot-commit-its-offsets"},
			Tests:     []Tests{{processorPkg, "TestAbortedTransactionsLeaveNoTrace"}},
		},
		{
			Name: "processor-outputs-outside-transaction",
			Rule: "Readings, windows and anomalies are part of the transaction.",
			Edits: []Edit{
				{
					topologyDir + "transaction.go",
					"\temit := func(r *kgo.Record) { sess.Produce(work, r, abort.Promise()) }\n",
					"\temit := func(r *kgo.Record) {\n\t\tif r.Topic != \"processor.state.v1\" {\n\t\t\tt.plain.ProduceSync(work, r)\n\t\t\treturn\n\t\t}\n\t\tsess.Produce(work, r, abort.Promise())\n\t}\n",
				},
			},
			Scenarios: []string{"processor-killed-in-its-transaction", "processor-cannot-commit-its-offsets"},
			Tests:     []Tests{{processorPkg, "TestAbortedTransactionsLeaveNoTrace|TestInstancesJoinAndLeave"}},
		},
		{
			Name: "processor-fetch-error-drops-records",
			Rule: "Errors and records may stand in the same fetch: the records are judged all the same.",
			Edits: []Edit{{
				topologyDir + "topology.go",
				"\t\t\tt.metrics.fetchErrors.Inc()\n",
				"\t\t\tt.metrics.fetchErrors.Inc()\n\t\t\tfetches = nil\n",
			}},
			Scenarios: []string{"fetch-errors-beside-records"},
		},
		{
			Name: "processor-missing-offset-jumps-to-latest",
			Rule: "There is no offset reset: a partition without a committed offset is judged from its beginning.",
			Edits: []Edit{{
				topologyDir + "topology.go",
				"\t\t\tstart, err := startOf(ctx, t.adm, topic.Frames, id)\n",
				"\t\t\tends, err := t.adm.ListEndOffsets(ctx, topic.Frames)\n\t\t\tend, _ := ends.Lookup(topic.Frames, id)\n\t\t\tstart := end.Offset\n",
			}},
			Scenarios: []string{"processors-begin-late"},
			Tests:     []Tests{{processorPkg, "TestEachFrameIsJudgedOnceThroughRestarts"}},
		},
		{
			Name: "processor-lost-offset-jumps-to-latest",
			Rule: "There is no offset reset: an offset that has left the log stops the process instead of jumping.",
			Edits: []Edit{{
				topologyDir + "topology.go",
				"\t\tkgo.ConsumeResetOffset(kgo.NoResetOffset()),\n",
				"\t\tkgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()),\n",
			}},
			Scenarios: []string{"retention-passes-the-processor"},
		},
		{
			Name: "processor-judges-by-its-own-clock",
			Rule: "Partition state is a function of the records and their broker times. Nothing in it reads a clock.",
			Edits: []Edit{
				{topologyDir + "partition.go", "\tms := r.Timestamp.UnixMilli()\n\tp.next = r.Offset + 1\n", "\tms := time.Now().UnixMilli()\n\tp.next = r.Offset + 1\n"},
				{topologyDir + "partition.go", "\t\"strconv\"\n", "\t\"strconv\"\n\t\"time\"\n"},
			},
			Scenarios: []string{"processor-killed-after-its-commit"},
			Tests:     []Tests{{topologyPkg, "TestARestoreIsTheSamePartition"}, {processorPkg, "TestRestartsChangeNothingThatIsSaid"}},
		},
		{
			Name: "processor-silent-revocation-unnoticed",
			Rule: "Whoever takes over a partition reads what is true: a partition that was taken while no transaction ended is not judged any more.",
			Edits: []Edit{
				{topologyDir + "topology.go", "\t\tcase t.revoked.Load():\n", "\t\tcase false:\n"},
				{topologyDir + "topology.go", "\t\tt.reconcile(cl)\n", ""},
			},
			Scenarios: []string{"partitions-move-between-processors", "rebalance-storm", "double-handover"},
			Tests:     []Tests{{topologyPkg, "TestAPartitionTakenInSilenceIsDropped"}},
		},
		{
			Name: "processor-goes-on-when-forgotten",
			Rule: "No offset is committed under another member id than the one under which its partition was taken over.",
			Edits: []Edit{{
				"pkg/kafka/membership.go",
				"\tif was := m.took[partition]; was != member {\n",
				"\tif was := m.took[partition]; false && was != member {\n",
			}},
			Scenarios: []string{"forgotten-processor"},
			Tests:     []Tests{{"pkg/kafka", "TestMembership"}},
		},
		{
			Name: "processor-repeats-are-judged",
			Rule: "A repeat gives no reading and is counted.",
			Edits: []Edit{{
				machineDir + "machine.go",
				"\tcase repeated:\n\t\tout.Duplicate = true\n\t\treturn\n",
				"\tcase repeated:\n",
			}},
			Scenarios: []string{"repeats-across-restarts"},
			Tests:     []Tests{{machinePkg, "."}},
		},
	}
}

const machinePkg = "services/stream-processor/internal/machine"

// noMetaCheck lets a restore go on when state and committed offset disagree.
func noMetaCheck() Edit {
	return Edit{topologyDir + "restore.go", "\tcase s.meta.NextOffset != committed:\n", "\tcase false:\n"}
}
