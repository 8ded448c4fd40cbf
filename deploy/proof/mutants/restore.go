package mutants

// processorRestore breaks how the stream-processor takes over a partition, and what it saves for that.
func processorRestore() []Mutant {
	return []Mutant{
		{
			Name:      "processor-restore-to-last-stable-offset",
			Rule:      "The state topic is read up to the end that an uncommitted reader would see. The last stable offset is not enough.",
			Edits:     []Edit{toLastStableOffset()},
			Scenarios: []string{"processors-take-over-while-markers-are-late", "killed-at-the-end"},
		},
		{
			Name: "processor-restore-to-last-stable-offset-unchecked",
			Rule: "The state topic is read up to the end that an uncommitted reader would see. (And what was missed is neither noticed nor replayed.)",
			Edits: []Edit{
				toLastStableOffset(),
				noMetaCheck(),
				{topologyDir + "restore.go", "\terr = t.replay(ctx, r, p, committed, prog)\n", "\terr = t.replay(ctx, r, p, s.meta.NextOffset, prog)\n"},
			},
			Scenarios: []string{"processors-take-over-while-markers-are-late", "killed-at-the-end"},
		},
		{
			Name: "processor-state-reused-across-reassignment",
			Rule: "Taking over a partition: what memory holds of it is thrown away.",
			Edits: []Edit{
				{
					topologyDir + "topology.go", "\t\tt.begin(id, committed, fresh)\n\t}\n\treturn at, nil\n",
					"\t\tt.mu.Lock()\n\t\told := t.slots[id]\n\t\tt.mu.Unlock()\n\t\tif old != nil && old.part != nil {\n\t\t\tcontinue\n\t\t}\n\t\tt.begin(id, committed, fresh)\n\t}\n\treturn at, nil\n",
				},
				{topologyDir + "topology.go", "\t\t\ts.cancel()\n\t\t\tdelete(t.slots, id)\n", "\t\t\ts.cancel()\n"},
				{topologyDir + "topology.go", "zap.Int32(\"partition\", id))\n\t\t\t\tdelete(t.slots, id)\n", "zap.Int32(\"partition\", id))\n"},
			},
			Scenarios: []string{"partitions-move-between-processors", "there-and-back"},
			Tests:     []Tests{{processorPkg, "TestInstancesJoinAndLeave"}},
		},
		{
			Name: "processor-older-restore-adopted",
			Rule: "A restore that was begun for an earlier assignment is cancelled, and its outcome thrown away.",
			Edits: []Edit{
				{topologyDir + "topology.go", "\t\t\told.cancel()\n", "\t\t\t_ = old\n"},
				{topologyDir + "topology.go", "\t\t\tcurrent := t.slots[r.id] == r.slot\n", "\t\t\tcurrent := t.slots[r.id] != nil\n"},
				{topologyDir + "topology.go", "\t\t\t\tr.slot.part, r.slot.inForce, r.slot.machines = r.part, r.part.in, len(r.part.machines)\n", "\t\t\t\ts := t.slots[r.id]\n\t\t\t\ts.part, s.inForce, s.machines = r.part, r.part.in, len(r.part.machines)\n"},
			},
			Scenarios: []string{"aborts-while-partitions-are-restored", "rebalance-storm"},
			Tests:     []Tests{{topologyPkg, "TestAnOlderRestoreIsThrownAway"}},
		},
		{
			Name: "processor-replay-says-it-again",
			Rule: "Input from replay_from to the committed offset is applied with outputs suppressed.",
			Edits: []Edit{{
				topologyDir + "restore.go",
				"\t\terr := p.apply(ctx, rec, nil)\n",
				"\t\terr := p.apply(ctx, rec, func(r *kgo.Record) { t.plain.ProduceSync(ctx, r) })\n",
			}},
			Scenarios: []string{"processor-killed-after-its-commit"},
			Tests:     []Tests{{processorPkg, "TestEachFrameIsJudgedOnceThroughRestarts"}},
		},
		{
			Name: "processor-no-replay",
			Rule: "Input from replay_from to the committed offset is applied.",
			Edits: []Edit{{
				topologyDir + "restore.go",
				"\terr = t.replay(ctx, r, p, committed, prog)\n",
				"\tp.next = committed\n\terr = t.replay(ctx, r, p, committed, prog)\n",
			}},
			Scenarios: []string{"processor-killed-after-its-commit"},
			Tests:     []Tests{{processorPkg, "TestEachFrameIsJudgedOnceThroughRestarts|TestRestartsChangeNothingThatIsSaid"}},
		},
		{
			Name: "processor-replay-applies-twice",
			Rule: "A snapshot knows the offset up to which it is complete; a machine ignores what it holds already.",
			Edits: []Edit{{
				topologyDir + "partition.go",
				"\tif r.Offset <= e.applied {\n",
				"\tif false {\n",
			}},
			Scenarios: []string{"a-machine-of-many-gateways"},
			Tests:     []Tests{{topologyPkg, "TestARestoreIsTheSamePartition"}, {processorPkg, "TestRestartsChangeNothingThatIsSaid"}},
		},
		{
			Name: "processor-replayed-ticks-apply-twice",
			Rule: "Ticks obey the same rule.",
			Equivalent: "A machine does nothing at a tick that is not later than what it knows (Machine.Tick), and its deadline falls only by a frame, which makes it know that " +
				"frame's time. So a tick that its snapshot holds either is not later than that, or comes before its deadline. Broker time would have to step back by more than detection.idle_flush " +
				"between the two. The check spares the look at machines that were restored ahead of the replay.",
			Edits: []Edit{{
				topologyDir + "partition.go",
				"\t\tif offset <= e.applied {\n",
				"\t\tif false {\n",
			}},
		},
		{
			Name: "processor-applied-offset-off-by-one",
			Rule: "A snapshot knows the offset up to which it is complete.",
			Edits: []Edit{{
				topologyDir + "state.go",
				"AppliedOffset: p.next - 1,",
				"AppliedOffset: p.next,",
			}},
			Scenarios: []string{"processor-killed-after-its-commit"},
			Tests:     []Tests{{topologyPkg, "TestARestoreIsTheSamePartition"}, {processorPkg, "TestEachFrameIsJudgedOnceThroughRestarts"}},
		},
		{
			Name: "processor-meta-check-skipped",
			Rule: "The meta record's next_offset must be the committed offset.",
			Edits: []Edit{
				noMetaCheck(),
				{topologyDir + "restore.go", "\terr = t.replay(ctx, r, p, committed, prog)\n", "\terr = t.replay(ctx, r, p, s.meta.NextOffset, prog)\n"},
			},
			Tests: []Tests{{topologyPkg, "TestStateAndOffsetsMustAgree"}},
		},
		{
			Name:  "processor-state-without-offset-is-taken",
			Rule:  "State without offset, or offset without state, stops it too: judging without memory would count repeats again.",
			Edits: []Edit{{topologyDir + "restore.go", "\tcase s.meta == nil && !fresh:\n", "\tcase false:\n"}},
			Tests: []Tests{{topologyPkg, "TestOffsetsWithoutStateAreRefused"}},
		},
		{
			Name:  "processor-state-hash-unchecked",
			Rule:  "The hash of the snapshots must be that of the meta record.",
			Edits: []Edit{{topologyDir + "state.go", "\tif p.hash != s.meta.StateHash {\n", "\tif false {\n"}},
			Tests: []Tests{{topologyPkg, "TestASnapshotThatIsMissingIsNoticed|TestDamagedStateIsRefused"}},
		},
		{
			Name:      "processor-dead-letters-forgotten",
			Rule:      "A record that became a dead letter left no trace in the state, and a replay passes it over.",
			Edits:     []Edit{{topologyDir + "partition.go", "\tif emit == nil && p.dead.has(r.Offset) {\n", "\tif false {\n"}},
			Scenarios: []string{"poison-across-restarts"},
			Tests:     []Tests{{topologyPkg, "TestADeadLetterStaysOneWhenItsSchemaIsRegisteredLater|TestADeadLetterStaysOneWhenTheQuotaGrows"}},
		},
		{
			Name: "processor-repeats-forgotten-by-snapshot",
			Rule: "This memory (of what came) is part of the saved state.",
			Edits: []Edit{{
				machineDir + "snapshot.go",
				"\tm.sequences.restoreState(r)\n",
				"\tm.sequences.restoreState(r)\n\tm.sequences = sequences{}\n",
			}},
			Scenarios: []string{"repeats-across-restarts", "processor-killed-after-its-commit"},
			Tests:     []Tests{{machinePkg, "."}},
		},
		{
			Name:      "processor-snapshot-claims-too-much",
			Rule:      "replay_from is the smallest offset whose effect is in no snapshot.",
			Edits:     []Edit{{topologyDir + "state.go", "ReplayFrom: from,", "ReplayFrom: p.next,"}},
			Scenarios: []string{"processor-killed-after-its-commit"},
			Tests:     []Tests{{topologyPkg, "TestARestoreIsTheSamePartition"}, {processorPkg, "TestEachFrameIsJudgedOnceThroughRestarts"}},
		},
		{
			Name: "processor-dirty-queue-loses-a-machine",
			Rule: "Snapshots of machines, those first that have been unsaved longest: a machine stays in the queue until it is saved.",
			Edits: []Edit{{
				topologyDir + "state.go",
				"\t\tp.dirty.pop()\n\t}\n\tfrom :=",
				"\t\tp.dirty.pop()\n\t\tif lost := p.dirty.head(); lost != nil {\n\t\t\tlost.firstDirty = -1\n\t\t\tp.dirty.pop()\n\t\t}\n\t}\n\tfrom :=",
			}},
			Scenarios: []string{"processor-killed-after-its-commit"},
			Tests:     []Tests{{topologyPkg, "TestARestoreIsTheSamePartition"}, {processorPkg, "TestEachFrameIsJudgedOnceThroughRestarts"}},
		},
	}
}

func toLastStableOffset() Edit {
	return Edit{topologyDir + "restore.go", "\tends, err := t.adm.ListEndOffsets(ctx, topic.State)\n", "\tends, err := t.adm.ListCommittedOffsets(ctx, topic.State)\n"}
}
