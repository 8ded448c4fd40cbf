package mutants

const (
	consumeDir = "services/cold-path-writer/internal/consume/"
	commitDir  = "services/cold-path-writer/internal/commit/"
	writerPkg  = "services/cold-path-writer"
)

// writer breaks the cold-path-writer.
func writer() []Mutant {
	return []Mutant{
		{
			Name: "writer-commits-before-upload",
			Rule: "The file is stored with \"only if absent\". Then the offset is committed.",
			Edits: []Edit{{
				consumeDir + "worker.go",
				"\tif span.Rows > 0 {\n\t\tfound, same, err := w.store(span)\n",
				"\tif span.Rows > 0 {\n\t\tif err := w.commit(span.End); err != nil {\n\t\t\treturn false, err\n\t\t}\n\t\tfound, same, err := w.store(span)\n",
			}},
			Scenarios: []string{"writer-killed-around-its-commit", "writer-killed-before-put"},
			Tests:     []Tests{{writerPkg, "TestStoreOutage|TestRandomRestarts"}},
		},
		{
			Name: "writer-chunk-ends-with-the-poll",
			Rule: "Where a file ends depends on rows, bytes and broker time of its records only. Never on a poll.",
			Edits: []Edit{{
				consumeDir + "worker.go",
				"\t\t\tif rewinding {\n\t\t\t\tbreak\n\t\t\t}\n\t\t}\n",
				"\t\t\tif rewinding {\n\t\t\t\tbreak\n\t\t\t}\n\t\t}\n\t\tif _, open := w.cut.Open(); open && w.cut.Fixed() < 0 {\n\t\t\tif _, err := w.finish(w.cut.Next()); err != nil {\n\t\t\t\treturn\n\t\t\t}\n\t\t}\n",
			}},
			Scenarios: []string{"writer-killed-around-its-commit"},
			Tests:     []Tests{{writerPkg, "TestDeterminism|TestRandomRestarts"}},
		},
		{
			Name: "writer-chunk-ends-by-the-clock",
			Rule: "Where a file ends depends on rows, bytes and broker time of its records only. Never on a clock.",
			Edits: []Edit{{
				consumeDir + "worker.go",
				"TimeMS: rec.Timestamp.UnixMilli(), Tick: idle}",
				"TimeMS: time.Now().UnixMilli(), Tick: idle}",
			}},
			Scenarios: []string{"writer-killed-around-its-commit"},
			Tests:     []Tests{{writerPkg, "TestDeterminism|TestRandomRestarts"}},
		},
		{
			Name: "writer-412-not-compared",
			Rule: "A file that is there already is compared: the same rows, another end, or a lake that differs from the log.",
			Edits: []Edit{{
				commitDir + "commit.go",
				"\t\tout, found, err = c.compare(ctx, o)\n\t\treturn err\n",
				"\t\tout = AlreadyStored\n\t\treturn nil\n",
			}},
			Scenarios: []string{"writers-cut-otherwise-after-a-kill"},
			Tests:     []Tests{{writerPkg, "TestAdoptsAnotherEnd|TestStopsWhenTheLakeDiffers"}},
		},
		{
			Name: "writer-other-end-not-adopted",
			Rule: "If a file with another end is there, the writer checks that the rows are these and goes on from its end.",
			Edits: []Edit{{
				commitDir + "commit.go",
				"\t\treturn OtherEnd, found, nil\n",
				"\t\treturn AlreadyStored, found, nil\n",
			}},
			Scenarios: []string{"writers-cut-otherwise-after-a-kill"},
			Tests:     []Tests{{writerPkg, "TestAdoptsAnotherEnd"}},
		},
		{
			Name: "writer-409-taken-as-stored",
			Rule: "409 says that somebody else is writing the object just now: it is tried again.",
			Edits: []Edit{{
				commitDir + "commit.go",
				"\t\tif !errors.Is(err, objstore.ErrExists) {\n",
				"\t\tif errors.Is(err, objstore.ErrConflict) {\n\t\t\tout = Stored\n\t\t\treturn nil\n\t\t}\n\t\tif !errors.Is(err, objstore.ErrExists) {\n",
			}},
			Scenarios: []string{"put-409", "the-store-fails"},
			Tests:     []Tests{{writerPkg, "TestConflictsBetweenWrites|TestStoreOutage"}},
		},
		{
			Name: "writer-store-errors-ignored",
			Rule: "The file is stored; then the offset is committed.",
			Edits: []Edit{{
				commitDir + "commit.go",
				"\t\tif !errors.Is(err, objstore.ErrExists) {\n\t\t\treturn err\n",
				"\t\tif !errors.Is(err, objstore.ErrExists) {\n\t\t\tout = Stored\n\t\t\treturn nil\n",
			}},
			Scenarios: []string{"the-store-fails", "store-away"},
			Tests:     []Tests{{writerPkg, "TestStoreOutage"}},
		},
		{
			Name: "writer-diverged-lake-accepted",
			Rule: "Anything else means that lake and log differ, and stops the service.",
			Edits: []Edit{{
				commitDir + "commit.go",
				"\tcase found.Hash == o.Hash && found.Rows == o.Rows:\n",
				"\tcase found.Rows >= 0:\n",
			}},
			Tests: []Tests{{writerPkg, "TestStopsWhenTheLakeDiffers"}},
		},
		{
			Name: "writer-commit-metadata-ignored",
			Rule: "A commit's metadata says the first offset that no file covers yet, so that a file keeps its name over a restart.",
			Edits: []Edit{{
				consumeDir + "offsets.go",
				"\tcase ok && first <= c.At:\n",
				"\tcase false:\n\t\t_ = first\n",
			}},
			Scenarios: []string{"writer-killed-while-rows-wait", "writer-killed-after-put"},
			Tests:     []Tests{{writerPkg, "TestTicksFlushIdlePartitions|TestRandomRestarts|TestCommitOfAFormerTopic"}},
		},
		{
			Name: "writer-former-topic-not-noticed",
			Rule: "The committed offset is taken when it is of this incarnation of the topic.",
			Edits: []Edit{{
				consumeDir + "offsets.go",
				" || ok && id != hex.EncodeToString(src.TopicID[:]):\n",
				":\n\t\t_ = id\n",
			}},
			Tests: []Tests{{writerPkg, "TestCommitOfAFormerTopic|TestTopicMadeAnew"}},
		},
		{
			Name: "writer-revoked-worker-goes-on",
			Rule: "A revoke waits for the worker's end, so that no record and no commit ever belongs to a former assignment.",
			Edits: []Edit{
				{consumeDir + "group.go", "\tfor _, w := range stopped {\n\t\tw.cancel()\n\t}\n\tfor _, w := range stopped {\n\t\tw.abandon()\n\t}\n\tcl.Resume", "\tcl.Resume"},
			},
			Scenarios: []string{"partitions-move-between-writers", "writer-there-and-back"},
			Tests:     []Tests{{writerPkg, "TestRevokedWorkerDoesNotCommit|TestRebalances"}},
		},
		{
			Name: "writer-ticks-committed-past-rows",
			Rule: "Only behind rows that are in the lake, or where there are only ticks, an offset is committed.",
			Edits: []Edit{{
				consumeDir + "worker.go",
				"\tif _, open := w.cut.Open(); open {\n\t\treturn nil\n\t}\n\tif w.idleMS == 0 {",
				"\tif w.idleMS == 0 {",
			}},
			Scenarios: []string{"writer-killed-while-rows-wait"},
			Tests:     []Tests{{writerPkg, "TestTicksCommitNothingPastOpenRows"}},
		},
		{
			Name: "writer-reads-uncommitted",
			Rule: "Consumers read read_committed.",
			Edits: []Edit{{
				consumeDir + "group.go",
				"\t\tkgo.FetchIsolationLevel(kgo.ReadCommitted()),\n",
				"",
			}},
			Scenarios: []string{"processor-cannot-commit-its-offsets", "processor-killed-in-its-transaction"},
		},
		{
			Name: "writer-restart-skips-the-open-chunk",
			Rule: "What was not yet stored is dropped and read again.",
			Edits: []Edit{{
				consumeDir + "worker.go",
				"\tif len(w.recs)+len(w.poison) > 0 {\n\t\tfrom = w.openAt\n\t}\n",
				"",
			}},
			Tests: []Tests{{writerPkg, "TestAdoptsAnotherEnd|TestIdlePartitionsGiveMemoryBack"}},
		},
	}
}
