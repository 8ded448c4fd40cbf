package checkstore

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/postgrestest"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/usage"
)

// place is where a store is.
type place struct{ url, dir string }

func (p place) open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), p.url, p.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// The same holds on SQLite and on PostgreSQL.
func TestStore(t *testing.T) {
	tests := map[string]func(*testing.T, place){"fencing": testFencing, "outbox": testOutbox, "pages": testPages}
	for name, test := range tests {
		t.Run(name+" on SQLite", func(t *testing.T) { test(t, place{dir: t.TempDir()}) })
	}
	t.Run("PostgreSQL", func(t *testing.T) {
		server := postgrestest.Start(t)
		for name, test := range tests {
			t.Run(name, func(t *testing.T) { test(t, place{url: server.Database(t)}) })
		}
	})
}

func finding(n int, at time.Time) Finding {
	return Finding{
		ID: fmt.Sprintf("shop-%d/check:orders:volume:orders/%d", n, at.UnixMicro()), Job: "orders", Entity: fmt.Sprintf("shop-%d", n), Metric: "orders",
		Finding: usage.Finding{Kind: usage.Volume, Severity: usage.Critical, From: at, To: at.Add(time.Hour), Z: 9}, Found: at.Add(time.Hour),
	}
}

var begin = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)

// testFencing: once another has the lease, nothing that the one before writes stands.
func testFencing(t *testing.T, p place) {
	one, two := p.open(t), p.open(t)
	if one.Name() != two.Name() {
		t.Fatal("two names")
	}
	ctx := t.Context()
	none, err := one.Lease(ctx)
	if err != nil || none != (Lease{}) {
		t.Fatal(none, err)
	}
	first, ok, err := one.Take(ctx, none, "one")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if _, ok, err := two.Take(ctx, none, "two"); ok || err != nil {
		t.Fatal("taken twice", err)
	}
	seen, err := two.Lease(ctx)
	if err != nil || seen.Holder != "one" {
		t.Fatal(seen, err)
	}
	if err := one.Beat(ctx, first); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := two.Take(ctx, seen, "two"); ok || err != nil {
		t.Fatal("taken from one that lives", err)
	}
	if seen, err = two.Lease(ctx); err != nil {
		t.Fatal(err)
	}
	second, ok, err := two.Take(ctx, seen, "two")
	if err != nil || !ok || second <= first {
		t.Fatal(second, ok, err)
	}
	late := []error{
		one.Beat(ctx, first),
		one.SaveJob(ctx, first, Job{Name: "orders"}),
		one.SaveSlot(ctx, first, Job{Name: "orders"}, []Finding{finding(1, begin)}, []Record{{Entity: "shop-1", Name: "x", Body: []byte("x")}}),
	}
	for i, err := range late {
		if !errors.Is(err, ErrFenced) {
			t.Error(i, err)
		}
	}
	if err := one.Release(ctx, first); err != nil {
		t.Error(err)
	}
	if l, err := two.Lease(ctx); err != nil || l.Token != second {
		t.Error("released by one that did not have it", l, err)
	}
	if got, err := two.Find(ctx, Wanted{Every: true, Limit: 10}); err != nil || len(got) != 0 {
		t.Error(got, err)
	}
	if n, _, err := two.Waiting(ctx); err != nil || n != 0 {
		t.Error(n, err)
	}
}

// testOutbox: numbers grow without gaps, across restarts; what is published is gone; a store that was put back goes on after what Kafka has.
func testOutbox(t *testing.T, p place) {
	s := p.open(t)
	ctx := t.Context()
	token, _, err := s.Take(ctx, Lease{}, "one")
	if err != nil {
		t.Fatal(err)
	}
	save := func(n int) {
		t.Helper()
		if err := s.SaveSlot(ctx, token, Job{Name: "orders", Done: begin}, []Finding{finding(n, begin)}, []Record{{Entity: "e", Name: fmt.Sprint(n, "a"), Body: []byte{1}}, {Entity: "e", Name: fmt.Sprint(n, "b"), Body: []byte{2}}}); err != nil {
			t.Fatal(err)
		}
	}
	seqs := func() (out []int64) {
		t.Helper()
		alerts, err := s.Outbox(ctx, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range alerts {
			out = append(out, a.Seq)
		}
		return out
	}
	save(1)
	save(2)
	if got := seqs(); !slices.Equal(got, []int64{1, 2, 3, 4}) {
		t.Error(got)
	}
	if err := s.Published(ctx, 3); err != nil {
		t.Fatal(err)
	}
	if got := seqs(); !slices.Equal(got, []int64{3, 4}) {
		t.Error(got)
	}
	// Kafka has 20 already: an earlier state of this store has given them. What waits is still to be sent.
	if err := s.Published(ctx, 21); err != nil {
		t.Fatal(err)
	}
	if got := seqs(); !slices.Equal(got, []int64{21, 22}) {
		t.Error(got)
	}
	save(3)
	if got := seqs(); !slices.Equal(got, []int64{21, 22, 23, 24}) {
		t.Error(got)
	}
	if next, err := s.Position(ctx); err != nil || next != 21 {
		t.Error(next, err)
	}
}

// testPages: each finding comes once, the latest first, of those that may be seen.
func testPages(t *testing.T, p place) {
	s := p.open(t)
	ctx := t.Context()
	token, _, err := s.Take(ctx, Lease{}, "one")
	if err != nil {
		t.Fatal(err)
	}
	var all []Finding
	for n := range 25 {
		all = append(all, finding(n, begin.Add(time.Duration(n/3)*time.Hour)))
	}
	if err := s.SaveFindings(ctx, token, all, nil); err != nil {
		t.Fatal(err)
	}
	w := Wanted{Every: true, Metric: "orders", Limit: 4}
	seen := map[string]bool{}
	for {
		page, err := s.Find(ctx, w)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, f := range page {
			if seen[f.ID] {
				t.Error("twice", f.ID)
			}
			seen[f.ID] = true
		}
		last := page[len(page)-1]
		w.BeforeMS, w.BeforeID = last.From.UnixMilli(), last.ID
	}
	if len(seen) != len(all) {
		t.Errorf("%d of %d", len(seen), len(all))
	}
	some, err := s.Find(ctx, Wanted{Exact: []string{"shop-3"}, Prefixes: []string{"shop-1"}, From: begin.Add(time.Hour), To: begin.Add(2 * time.Hour), Limit: 100})
	if err != nil || len(some) != 1 || some[0].Entity != "shop-3" || !some[0].From.Equal(begin.Add(time.Hour)) || some[0].Z != 9 {
		t.Error(some, err)
	}
	if none, err := s.Find(ctx, Wanted{Limit: 100}); err != nil || len(none) != 0 {
		t.Error(none, err)
	}
	open := finding(30, begin)
	open.Alert = AlertOpen
	if err := s.SaveFindings(ctx, token, []Finding{open}, nil); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Forget(ctx, token, begin.AddDate(0, 0, 90)); err != nil || n != 25 {
		t.Error(n, err)
	}
	if left, err := s.Open(ctx); err != nil || len(left) != 1 {
		t.Error(left, err)
	}
}
