package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/pkg/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ladder is the schema of four releases: each has what the one before had.
var ladder = []struct{ file, sql string }{
	{"00001_parts.sql", "-- +goose Up\nCREATE TABLE parts (name TEXT PRIMARY KEY);\nINSERT INTO parts (name) VALUES ('first');\n"},
	{"00002_weight.sql", "-- +goose Up\nALTER TABLE parts ADD COLUMN weight INTEGER NOT NULL DEFAULT 7;\n"},
	{"00003_second.sql", "-- +goose Up\nINSERT INTO parts (name, weight) VALUES ('second', 9);\n"},
	{"00004_log.sql", "-- +goose Up\nCREATE TABLE log (id INTEGER PRIMARY KEY);\n-- +goose Down\nDROP TABLE log;\n"},
}

func release(n int) Options {
	files := fstest.MapFS{}
	for _, step := range ladder[:n] {
		files[step.file] = &fstest.MapFile{Data: []byte(step.sql)}
	}
	return Options{Name: "parts' store", Migrations: files, Table: "parts_schema", Pragmas: []string{"synchronous(FULL)"}}
}

// place is where a store is.
type place struct{ url, file string }

func (p place) try(t *testing.T, o Options) (*DB, error) {
	t.Helper()
	db, err := Open(t.Context(), p.url, p.file, o)
	if err == nil {
		t.Cleanup(func() { _ = db.Close() })
	}
	return db, err
}

func (p place) open(t *testing.T, o Options) *DB {
	t.Helper()
	db, err := p.try(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func names(t *testing.T, db *DB) (out []string) {
	t.Helper()
	err := Each(t.Context(), db, db.Bind("SELECT name FROM parts WHERE name <> $1 ORDER BY name"), []any{""}, func(r *sql.Rows) error {
		var name string
		err := r.Scan(&name)
		out = append(out, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The same holds on SQLite and on PostgreSQL.
func TestStore(t *testing.T) {
	tests := map[string]func(*testing.T, place){
		"each release's schema": testLadder, "a newer schema": testNewer, "a step that fails": testFailingStep, "many at once": testManyAtOnce, "transactions": testTransactions,
		"two stores in one place": testTwoStores,
	}
	for name, test := range tests {
		t.Run(name+" on SQLite", func(t *testing.T) { test(t, place{file: filepath.Join(t.TempDir(), "data", "parts ?.db")}) })
	}
	t.Run("PostgreSQL", func(t *testing.T) {
		server := postgrestest.Start(t)
		for name, test := range tests {
			t.Run(name, func(t *testing.T) { test(t, place{url: server.Database(t)}) })
		}
	})
}

// testLadder: from each release to each later one, with what was written before.
func testLadder(t *testing.T, p place) {
	for n := 1; n <= len(ladder); n++ {
		for range 2 { // an update, and a restart
			db := p.open(t, release(n))
			if db.Postgres() != (p.url != "") || db.Aside() != "" {
				t.Error(db.Postgres(), db.Aside())
			}
			want := []string{"first", "second"}[:min(1+n/3, 2)]
			if got := names(t, db); !slices.Equal(got, want) {
				t.Errorf("release %d has %q", n, got)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var weight int
	if err := p.open(t, release(len(ladder))).QueryRowContext(t.Context(), "SELECT weight FROM parts WHERE name = 'first'").Scan(&weight); err != nil || weight != 7 {
		t.Error(weight, err)
	}
}

// testNewer: a release before leaves alone what it does not know; the newer one goes on.
func testNewer(t *testing.T, p place) {
	newer := p.open(t, release(4))
	for n := 1; n < 4; n++ {
		_, err := p.try(t, release(n))
		if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "parts' store") || !strings.Contains(err.Error(), "version 4") {
			t.Errorf("release %d: %v", n, err)
		}
	}
	if got := names(t, newer); len(got) != 2 {
		t.Error(got)
	}
	p.open(t, release(4))
}

// testFailingStep: what came before it stands, nothing of it does, and the error says where; once it is mended it goes on.
func testFailingStep(t *testing.T, p place) {
	broken := release(3)
	broken.Migrations.(fstest.MapFS)["00002_weight.sql"] = &fstest.MapFile{Data: []byte(ladder[1].sql + "INSERT INTO nowhere (x) VALUES (1);\n")}
	if _, err := p.try(t, broken); err == nil || !strings.Contains(err.Error(), "version:2") || !strings.Contains(err.Error(), "nowhere") {
		t.Fatal(err)
	}
	if got := names(t, p.open(t, release(3))); len(got) != 2 {
		t.Error(got)
	}
}

// testManyAtOnce: each step is taken once, whoever comes first.
func testManyAtOnce(t *testing.T, p place) {
	const openers = 4
	errs := make(chan error, openers)
	for range openers {
		go func() {
			db, err := Open(t.Context(), p.url, p.file, release(4))
			if err == nil {
				err = db.Close()
			}
			errs <- err
		}()
	}
	for range openers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := names(t, p.open(t, release(4))); !slices.Equal(got, []string{"first", "second"}) {
		t.Error(got)
	}
}

func testTransactions(t *testing.T, p place) {
	db := p.open(t, release(4))
	insert := func(name string, then error) error {
		return db.In(t.Context(), func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(t.Context(), db.Bind("INSERT INTO parts (weight, name) VALUES ($2, $1)"), name, 3); err != nil {
				return err
			}
			return then
		})
	}
	if err := insert("third", nil); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("not this one")
	if err := insert("fourth", refused); !errors.Is(err, refused) || err.Error() != "parts' store: not this one" {
		t.Error(err)
	}
	if err := insert("third", nil); err == nil || !strings.HasPrefix(err.Error(), "parts' store: ") {
		t.Error("twice:", err)
	}
	if got := names(t, db); !slices.Equal(got, []string{"first", "second", "third"}) {
		t.Error(got)
	}
	enough := errors.New("enough")
	rows := 0
	if err := Each(t.Context(), db, "SELECT name FROM parts", nil, func(*sql.Rows) error { rows++; return enough }); !errors.Is(err, enough) || rows != 1 {
		t.Error(rows, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.In(gone, func(*sql.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// testTwoStores: tables of versions keep them apart.
func testTwoStores(t *testing.T, p place) {
	p.open(t, release(4))
	other := Options{Name: "tools' store", Table: "tools_schema", Migrations: fstest.MapFS{"00001_tools.sql": {Data: []byte("-- +goose Up\nCREATE TABLE tools (id INTEGER PRIMARY KEY);\n")}}}
	p.open(t, other)
	p.open(t, release(4))
}

// What can be had again is made anew where its file is damaged; nothing else ever is.
func TestDamagedFile(t *testing.T) {
	for name, damage := range map[string]func(file string) error{
		"not a database": func(file string) error { return os.WriteFile(file, []byte(strings.Repeat("rubbish ", 1000)), 0o600) },
		"torn": func(file string) error {
			info, err := os.Stat(file)
			if err != nil {
				return err
			}
			return os.Truncate(file, info.Size()/2/4096*4096)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := place{file: filepath.Join(t.TempDir(), "parts.db")}
			if err := p.open(t, release(4)).Close(); err != nil {
				t.Fatal(err)
			}
			if err := damage(p.file); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(p.file)
			if err != nil {
				t.Fatal(err)
			}
			if db, err := p.try(t, release(4)); err == nil {
				if err := db.Close(); err != nil { // damage that a look at the versions does not meet
					t.Fatal(err)
				}
			} else if !strings.Contains(err.Error(), p.file) {
				t.Error(err)
			}
			remade := release(4)
			remade.Remake = true
			db := p.open(t, remade)
			if got := names(t, db); len(got) != 2 {
				t.Error(got)
			}
			kept, err := os.ReadFile(db.Aside())
			if err != nil || !bytes.Equal(kept, before) {
				t.Errorf("%d bytes kept of %d: %v", len(kept), len(before), err)
			}
		})
	}
}

func TestFileThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(file, "parts.db"), filepath.Dir(file)} {
		o := release(4)
		o.Remake = true // a folder in the file's place is no damage
		if _, err := (place{file: path}).try(t, o); err == nil || !strings.HasPrefix(err.Error(), "parts' store: ") || !strings.Contains(err.Error(), filepath.Dir(file)) {
			t.Error(err)
		}
	}
}

func TestValidate(t *testing.T) {
	for address, want := range map[string]bool{"": true, "postgres://u:p@h/d": true, "postgresql://h": true, "mysql://h": false, "journal.db": false, "postgres://u:secret@h:bad/d": false} {
		err := Validate(address)
		if (err == nil) != want {
			t.Errorf("%q: %v", address, err)
		}
		if err == nil {
			continue
		}
		if _, opened := Open(t.Context(), address, "", release(1)); opened == nil || strings.Contains(err.Error()+opened.Error(), "secret") {
			t.Errorf("%v, %v shows the password", err, opened)
		}
	}
}
