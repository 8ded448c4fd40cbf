package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/topic"
	coldpathwriter "github.com/tocsin-io/tocsin/services/cold-path-writer"
)

// lakeCheck holds the rows that the topics' records give against the files of the lake.
type lakeCheck struct {
	w     *World
	rows  *coldpathwriter.Rows
	parts map[lakePart]*shelf
	// poison are the records that give no rows but a dead letter: true once the letter was seen.
	poison map[letterOf]bool
}

// letterOf names the record that a letter is of.
type letterOf struct {
	topic             string
	partition, offset string
}

type lakePart struct {
	topic     string
	partition int32
}

// shelf is one partition's files, by their first offsets, and what its records give.
type shelf struct {
	files []tally
	open  []*tally // that cover the present offset
	next  int      // the first file not begun yet
	// claim: every row below stands in a file.
	claim int64
	tail  *coldpathwriter.Cutter // nil: not asked
	owed  string                 // where a chunk ended that no commit covers yet; empty: nowhere
}

// tally is what the records of a file's interval give.
type tally struct {
	file coldpathwriter.LakeFile
	rows int64
	hash uint64
}

// openLake lists the files. Memory: some 300 bytes per file.
func openLake(ctx context.Context, w *World, committed map[string]map[int32]position, ids map[string]kadm.TopicID) (*lakeCheck, error) {
	l := &lakeCheck{w: w, rows: coldpathwriter.NewRows(w.Schemas), parts: map[lakePart]*shelf{}, poison: map[letterOf]bool{}}
	for topicName, table := range l.rows.Tables() {
		for f, err := range coldpathwriter.LakeFiles(ctx, w.Lake, table) {
			if err != nil {
				return nil, fmt.Errorf("lake: %w", err)
			}
			if f.Topic != topicName || f.TopicID != ids[topicName] {
				continue // of a topic that is no more; Audit looks at it
			}
			l.shelf(topicName, f.Partition).files = append(l.shelf(topicName, f.Partition).files, tally{file: f})
		}
		for id, p := range committed[topicName] {
			s := l.shelf(topicName, id)
			s.claim = claimOf(p)
		}
	}
	for _, s := range l.parts {
		s.sort()
	}
	return l, nil
}

func (s *shelf) sort() {
	slices.SortFunc(s.files, func(x, y tally) int {
		return cmp.Or(cmp.Compare(x.file.First, y.file.First), cmp.Compare(x.file.End, y.file.End))
	})
}

func (l *lakeCheck) shelf(topicName string, id int32) *shelf {
	p := lakePart{topicName, id}
	if l.parts[p] == nil {
		l.parts[p] = &shelf{}
	}
	return l.parts[p]
}

// record takes the next record of a partition.
func (l *lakeCheck) record(ctx context.Context, rep *Report, r *kgo.Record) error {
	s := l.shelf(r.Topic, r.Partition)
	rows, hash, err := l.rows.Of(ctx, r)
	if err != nil && !errors.Is(err, coldpathwriter.ErrPoison) {
		return fmt.Errorf("rows of %s: %w", at(r), err)
	}
	if err != nil && r.Offset < s.claim {
		l.poison[letterOf{r.Topic, fmt.Sprint(r.Partition), fmt.Sprint(r.Offset)}] = false
	}
	s.take(rep, r.Offset, at(r), rows, hash)
	if l.w.Chunk != nil && r.Offset >= s.claim {
		if s.tail == nil {
			s.tail = coldpathwriter.NewCutter(*l.w.Chunk, s.claim)
		}
		if s.tail.Ends(r, rows) && s.owed == "" {
			s.owed = at(r)
		}
	}
	return nil
}

// take adds a record's rows to the files that cover its offset.
func (s *shelf) take(rep *Report, offset int64, where string, rows int64, hash uint64) {
	s.open = slices.DeleteFunc(s.open, func(t *tally) bool { return t.file.End <= offset })
	for s.next < len(s.files) && s.files[s.next].file.First <= offset {
		if t := &s.files[s.next]; t.file.End > offset {
			s.open = append(s.open, t)
		}
		s.next++
	}
	for _, t := range s.open {
		t.rows += rows
		t.hash += hash
	}
	switch {
	case rows == 0:
	case len(s.open) > 1:
		rep.add(Duplicated, "lake", "the rows of %s stand in %d files, among them %s and %s", where, len(s.open), s.open[0].file.Key, s.open[1].file.Key)
	case len(s.open) == 0 && offset < s.claim:
		rep.add(Lost, "lake", "the rows of %s stand in no file, although the writer is at %d", where, s.claim)
	}
}

// finish tells which files hold other rows than their records give, and has the files themselves read.
func (l *lakeCheck) finish(ctx context.Context, rep *Report, b source) error {
	for _, s := range l.parts {
		s.end(rep)
	}
	if err := l.awaitOwed(ctx, rep, b); err != nil {
		return err
	}
	for name := range l.rows.Tables() {
		if err := l.letters(ctx, rep, b, name); err != nil {
			return err
		}
	}
	audit, err := coldpathwriter.Audit(ctx, l.w.Lake, coldpathwriter.AuditOptions{MaxFindings: 10 * keptPerKind})
	if err != nil {
		return fmt.Errorf("lake: %w", err)
	}
	for _, t := range audit.Tables {
		rep.Counts["lake_files"] += int(t.Files)
		rep.Counts["lake_rows"] += int(t.Rows)
	}
	kinds := map[coldpathwriter.FindingKind]string{
		coldpathwriter.FindingGap: Lost, coldpathwriter.FindingOverlap: Duplicated, coldpathwriter.FindingContent: Wrong,
		coldpathwriter.FindingMetadata: Wrong, coldpathwriter.FindingForeign: Invented,
	}
	for _, f := range audit.Findings {
		rep.add(cmp.Or(kinds[f.Kind], Wrong), "lake audit", "%s %s: %s", f.Kind, cmp.Or(f.Key, f.Source), f.Detail)
	}
	return nil
}

// awaitOwed gives the writer time to store the chunks that had ended when the commits were read: a file is made after its chunk's end, not with it.
func (l *lakeCheck) awaitOwed(ctx context.Context, rep *Report, b source) error {
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for until := time.Now().Add(l.w.patience()); ; {
		var owed []lakePart
		for p, s := range l.parts {
			if s.owed != "" {
				owed = append(owed, p)
			}
		}
		if len(owed) == 0 {
			return nil
		}
		committed, err := b.committed(ctx, l.w.Groups.Writer)
		if err != nil {
			return err
		}
		late := time.Now().After(until)
		for _, p := range owed {
			s := l.parts[p]
			switch {
			case claimOf(committed[p.topic][p.partition]) > s.claim:
				s.owed = ""
			case late:
				rep.add(Lost, "lake", "%s: the chunk from offset %d on ended there or before, and the writer has committed nothing beyond", s.owed, s.claim)
				s.owed = ""
			}
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

const lookAgain = 100 * time.Millisecond

// claimOf is the first offset that a commit of the writer's does not say to be stored.
func claimOf(p position) int64 {
	if _, first, ok := coldpathwriter.Claim(p.metadata); ok {
		return first
	}
	return p.at
}

func (s *shelf) end(rep *Report) {
	for i := range s.files {
		t := &s.files[i]
		if t.rows != t.file.Rows || t.hash != t.file.Hash {
			rep.add(Wrong, "lake", "%s holds %d rows with hash %016x; its records give %d with %016x", t.file.Key, t.file.Rows, t.file.Hash, t.rows, t.hash)
		}
	}
}

// letters holds the writer's dead letters of a topic against the records that give no rows. A letter may come twice.
func (l *lakeCheck) letters(ctx context.Context, rep *Report, b source, name string) error {
	bounds, err := b.bounds(ctx, topic.DLQ(name))
	if err != nil {
		return err
	}
	for id, in := range bounds {
		_, err := b.read(ctx, topic.DLQ(name), id, in, func(r *kgo.Record) error {
			if topic.Header(r, dlq.HeaderConsumer) != dlq.Writer {
				return nil
			}
			rep.Counts["lake_dead_letters"]++
			of := letterOf{name, topic.Header(r, dlq.HeaderPartition), topic.Header(r, dlq.HeaderOffset)}
			if _, ok := l.poison[of]; ok {
				l.poison[of] = true
			} else if p, err := strconv.ParseInt(of.partition, 10, 32); err != nil || !l.beyond(name, int32(p), of.offset) {
				rep.add(Invented, topic.DLQ(name), "%s, whose rows can be told", nameOf(r))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for of, seen := range l.poison {
		if of.topic == name && !seen {
			rep.add(Lost, topic.DLQ(name), "no dead letter of %s[%s]@%s, which gives no rows", name, of.partition, of.offset)
		}
	}
	return nil
}

// beyond says that the writer has not claimed the offset: it may have written the letter and died.
func (l *lakeCheck) beyond(name string, id int32, offset string) bool {
	n, err := strconv.ParseInt(offset, 10, 64)
	return err == nil && n >= l.shelf(name, id).claim
}
