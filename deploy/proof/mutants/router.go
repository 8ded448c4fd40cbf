package mutants

const (
	streamDir   = "services/alert-router/internal/stream/"
	incidentDir = "services/alert-router/internal/incident/"
	routerPkg   = "services/alert-router"
	incidentPkg = "services/alert-router/internal/incident"
	holdFile    = lifecyclePkg + "/hold.go"

	lifecyclePkg = "services/alert-router/internal/lifecycle"
)

// router breaks the alert-router.
func router() []Mutant {
	return []Mutant{
		{
			Name: "router-forgets-who-may-have-been-told",
			Rule: "Who may have been told of an alert is told of its end.",
			Edits: []Edit{{
				"services/alert-router/internal/routing/notifier.go",
				"\tif err != nil && a.arrived(retry, err) {\n",
				"\tif false && err != nil && a.arrived(retry, err) {\n",
			}},
			Scenarios: []string{"pager-says-nothing"},
			Tests:     []Tests{{"services/alert-router/internal/routing", "TestTheEndOfWhatMayHaveArrivedIsTold"}},
		},
		{
			Name: "router-announces-before-commit",
			Rule: "The routing engine is told after the commit.",
			Edits: []Edit{{
				streamDir + "transact.go",
				"\treturn c.end(ctx, w, kgo.TryCommit)\n",
				"\tif err := c.announce(ctx, w.changes); err != nil {\n\t\treturn err\n\t}\n\treturn c.end(ctx, w, kgo.TryCommit)\n",
			}},
			Scenarios: []string{"router-killed-in-a-slow-transaction"},
			Tests:     []Tests{{routerPkg, "TestNobodyIsToldBeforeTheCommit"}},
		},
		{
			Name: "router-book-kept-after-abort",
			Rule: "After any doubt (abort, revocation seen late) the books touched are read again.",
			Edits: []Edit{{
				streamDir + "transact.go",
				"\t\tc.discard(w.touched)\n\t\treturn nil\n\t}\n\tw.finish(nil)\n",
				"\t\treturn nil\n\t}\n\tw.finish(nil)\n",
			}},
			Scenarios: []string{"router-cannot-commit-its-offsets"},
			Tests:     []Tests{{routerPkg, "TestBrokenCommit"}},
		},
		{
			Name: "router-unknown-end-taken-as-committed",
			Rule: "An error from the end of a transaction ends the process.",
			Edits: []Edit{{
				streamDir + "transact.go",
				"\t\tw.finish(err)\n\t\treturn fmt.Errorf(\"end transaction, outcome unknown: %w\", err)\n",
				"\t\tcommitted = true\n",
			}},
			Scenarios: []string{"router-does-not-learn-how-its-transaction-ended"},
			Tests:     []Tests{{routerPkg, "TestBrokenCommit"}},
		},
		{
			Name: "router-produce-errors-ignored",
			Rule: "One poll is one transaction: when an event could not be written, it is aborted.",
			Edits: []Edit{{
				streamDir + "transact.go",
				"\t\tc.log.Warn(\"produce failed, aborting\", zap.Error(produced))\n\t\treturn c.end(ctx, w, kgo.TryAbort)\n",
				"\t\tc.log.Warn(\"produce failed\", zap.Error(produced))\n",
			}},
			Scenarios: []string{"router-cannot-write"},
			Tests:     []Tests{{routerPkg, "TestBrokenCommit"}},
		},
		{
			Name: "router-book-begins-at-the-end",
			Rule: "The open alerts are rebuilt from alert.events.v1 itself when a partition is assigned; the commit's metadata says how far back the oldest open one lies.",
			Edits: []Edit{{
				streamDir + "restore.go",
				"\t\tstart, end := starts[p], ends[p]\n",
				"\t\tstart, end := ends[p], ends[p]\n\t\t_ = starts\n",
			}},
			Scenarios: []string{"router-killed-with-open-alerts"},
			Tests:     []Tests{{routerPkg, "TestRestartWithOpenAlerts"}},
		},
		{
			Name: "router-restore-mark-too-late",
			Rule: "The commit's metadata says how far back the oldest open one lies.",
			Edits: []Edit{{
				incidentDir + "book.go",
				"\t\t\tnext = min(next, e.offset)\n",
				"\t\t\tnext = max(next, e.offset)\n",
			}},
			Scenarios: []string{"router-killed-with-open-alerts"},
			Tests:     []Tests{{incidentPkg, "."}, {routerPkg, "TestRestoreMark|TestRestartWithOpenAlerts"}},
		},
		{
			Name: "router-restore-to-last-stable-offset",
			Rule: "Its reading goes to the end as an uncommitted reader sees it.",
			Edits: []Edit{{
				streamDir + "restore.go",
				"\thigh, err := c.adm.ListEndOffsets(ctx, topic.Alerts)\n",
				"\thigh, err := c.adm.ListCommittedOffsets(ctx, topic.Alerts)\n",
			}},
			Scenarios: []string{"routers-take-over-while-markers-are-late", "router-killed-at-the-end"},
			Tests:     []Tests{{routerPkg, "TestRestoreWaitsForOpenTransaction"}},
		},
		{
			Name: "router-restore-reads-uncommitted",
			Rule: "The book is rebuilt from committed events only.",
			Edits: []Edit{{
				streamDir + "restore.go",
				"\t\tkgo.FetchIsolationLevel(kgo.ReadCommitted()),\n",
				"",
			}},
			Scenarios: []string{"router-cannot-commit-its-offsets", "router-killed-in-its-transaction"},
			Tests:     []Tests{{routerPkg, "TestRestorePassesAbortedTransaction"}},
		},
		{
			Name: "router-offsets-before-transaction",
			Rule: "Alert events and offsets are one transaction.",
			Edits: []Edit{{
				streamDir + "transact.go",
				"\tproduced := c.produce(ctx, w.out)\n",
				"\tc.session.Client().CommitOffsetsSync(ctx, c.session.Client().UncommittedOffsets(), nil)\n\tproduced := c.produce(ctx, w.out)\n",
			}},
			Scenarios: []string{"router-killed-in-its-transaction"},
			Tests:     []Tests{{routerPkg, "TestBrokenCommit"}},
		},
		{
			Name: "router-closed-alerts-lost-at-restart",
			Rule: "A closed alert is remembered: a repeated report must not open it anew, and its resolution may still be owed after a restart.",
			Edits: []Edit{{
				incidentDir + "book.go",
				"\t\tif e.closedMS == 0 {\n\t\t\tb.ended(e, ev)\n\t\t}\n",
				"\t\tif e.closedMS == 0 {\n\t\t\tb.ended(e, ev)\n\t\t\tdelete(b.byID, e.id)\n\t\t}\n",
			}},
			Scenarios: []string{"router-killed-with-open-alerts"},
			Tests:     []Tests{{incidentPkg, "."}, {routerPkg, "TestOwedResolutionAfterRestart"}},
		},
		{
			Name: "router-reads-uncommitted",
			Rule: "Consumers read read_committed.",
			Edits: []Edit{{
				streamDir + "consumer.go",
				"\t\tkgo.FetchIsolationLevel(kgo.ReadCommitted()),\n",
				"",
			}},
			Scenarios: []string{"processor-killed-in-its-transaction", "processor-cannot-commit-its-offsets"},
		},
		{
			Name:  "router-lead-ends-alone",
			Rule:  "The lead's end is told when all of its incident are back.",
			Edits: []Edit{{holdFile, "\treturn n > 0\n}\n\n// Leads counts", "\treturn n > 1<<30\n}\n\n// Leads counts"}},
			Tests: []Tests{{lifecyclePkg, "TestTranscripts"}},
		},
		{
			Name:  "router-nobody-succeeds-the-lead",
			Rule:  "Should some not come back within the grace after the lead has, one of them leads and is told.",
			Edits: []Edit{{holdFile, "\tif j != nil && (j.closedMS == 0 || at.MS-j.closedMS < l.holds.rules.Grace.Milliseconds()) {\n\t\treturn\n", "\tif j != nil {\n\t\treturn\n"}},
			Tests: []Tests{{lifecyclePkg, "TestTranscripts"}},
		},
		{
			Name:  "router-group-incident-never-closes-its-door",
			Rule:  "What opens later than its group's time is by itself.",
			Edits: []Edit{{holdFile, "\treturn ok && a.OpenedMS-j.leadMS <= within.Milliseconds() && a.Severity <= lead.Severity\n", "\treturn ok && a.OpenedMS-j.leadMS < 1<<50 && within >= 0 && a.Severity <= lead.Severity\n"}},
			Tests: []Tests{{lifecyclePkg, "TestTranscripts"}},
		},
		{
			Name:  "router-graver-is-held",
			Rule:  "A graver alert than was told of is told.",
			Edits: []Edit{{holdFile, "\treturn !ok || a.Severity > lead.Severity\n", "\treturn !ok || a.Severity > lead.Severity+8\n"}},
			Tests: []Tests{{lifecyclePkg, "TestTranscripts"}},
		},
		{
			Name:  "router-cooldown-mutes-other-machines",
			Rule:  "No rule mutes another machine.",
			Edits: []Edit{{holdFile, "\tpaged := h.of(a.Key).paged\n", "\tvar paged []page\n\tfor _, p := range h.alarms {\n\t\tpaged = append(paged, p.paged...)\n\t}\n"}},
			Tests: []Tests{{lifecyclePkg, "TestTranscripts"}},
		},
		{
			Name:  "router-acknowledged-incident-pages-its-rest",
			Rule:  "To acknowledge the lead is to acknowledge all.",
			Edits: []Edit{{holdFile, "\tif j == nil || j.lead != lead.ID {\n\t\treturn\n", "\tif j == nil || j.lead != \"\" {\n\t\treturn\n"}},
			Tests: []Tests{{lifecyclePkg, "TestTranscripts"}},
		},
		{
			Name:  "router-held-is-forgotten",
			Rule:  "What waits is told when there is room, if it stands.",
			Edits: []Edit{{holdFile, "\t\tif why := l.limited(a, at.MS, true); why == \"\" {\n", "\t\tif why := l.limited(a, at.MS, true); why == \"never\" {\n"}},
			Tests: []Tests{{lifecyclePkg, "TestTranscripts"}},
		},
	}
}
