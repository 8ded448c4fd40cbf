package historicalapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/ipc"
)

func TestSQL(t *testing.T) { onStores(t, testSQL) }

func testSQL(t *testing.T, f *fixture) {
	f.hour(begin)
	r := start(t, f, nil)
	const q = `SELECT equipment_id, count(*) AS n, avg(value) AS mean, min(ts) AS first, sum(sequence) AS big, NULL AS nothing, 'NaN'::DOUBLE AS nan, [1, 2] AS list,
		{'a': 1} AS struct, 1.50::DECIMAL(9,2) AS dec, min(date) AS day FROM readings WHERE equipment_id LIKE 'line%' GROUP BY ALL ORDER BY 1`
	a := r.sql(adminToken, q)
	if a.status != 200 || len(a.Rows) != 2 || a.Truncated {
		t.Fatal(a.status, a.text)
	}
	want := `[line-a-1 360 24.5 2026-11-02T00:00:00Z 64620 <nil> NaN [1 2] map[a:1] 1.5 2026-11-02]`
	if got := fmt.Sprint(a.Rows[0]); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if len(a.Columns) != 11 || a.Columns[3].Type != "TIMESTAMPTZ" || a.Columns[10].Type != "DATE" {
		t.Error(a.Columns)
	}
	csv := r.ask(adminToken, "POST", "/v1/sql", map[string]any{"sql": q, "format": "csv"})
	if csv.status != 200 || !strings.Contains(csv.text, "\nline-a-2,360,24.5,2026-11-02T00:00:00Z,64620,,NaN,\"[1,2]\",\"{\"\"a\"\":1}\",1.5,2026-11-02\n") {
		t.Error(csv.text)
	}
	arrow := r.ask(adminToken, "POST", "/v1/sql", map[string]any{"sql": q, "format": "arrow"})
	reader, err := ipc.NewReader(bytes.NewReader([]byte(arrow.text)))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Release()
	if !reader.Next() || reader.RecordBatch().NumRows() != 2 {
		t.Fatal(reader.Err())
	}
	if got := fmt.Sprint(reader.RecordBatch().Column(3), reader.RecordBatch().Column(2), reader.RecordBatch().Column(4)); got != `[2026-11-02T00:00:00Z 2026-11-02T00:00:00Z] [24.5 24.5] [64620 64620]` && !strings.Contains(got, "24.5") {
		t.Error(got)
	}
	// What is more than may be given is left out, and said so.
	few := r.ask(adminToken, "POST", "/v1/sql", map[string]any{"sql": "SELECT value FROM readings ORDER BY ts", "max_rows": 7})
	if len(few.Rows) != 7 || !few.Truncated || few.header.Get("X-Truncated") != "true" || few.header.Get("X-Rows") != "7" {
		t.Error(few.text)
	}
	// Event time narrows what is read.
	part := r.ask(adminToken, "POST", "/v1/sql", map[string]any{"sql": "SELECT count(*) FROM readings", "from": begin.Add(30 * time.Minute).Format(time.RFC3339), "to": "2026-11-03"})
	if part.status != 200 || part.Rows[0][0] != 540.0 {
		t.Error(part.text)
	}
	// Tables without files have their columns.
	for _, table := range []string{"windows", "anomalies", "alerts", "findings", "readings_1m", "readings_1h"} {
		if a := r.sql(lineToken, "SELECT * FROM "+table); a.status != 200 || len(a.Rows) != 0 || len(a.Columns) < 8 {
			t.Error(table, a.status, a.text)
		}
	}
	if a := r.ask(lineToken, "GET", "/v1/tables", nil); a.status != 200 || !strings.Contains(a.text, `"name":"readings"`) {
		t.Error(a.text)
	}
	if status, _, _, err := r.do(context.Background(), "", "GET", "/openapi.yaml", nil); err != nil || status != 200 {
		t.Error(status, err)
	}
}

func TestRefusalsNameTheField(t *testing.T) {
	r := start(t, newLake(t), nil)
	for field, body := range map[string]map[string]any{
		"body":     {"sq": "SELECT 1"},
		"sql":      {"sql": "  "},
		"format":   {"sql": "SELECT 1", "format": "xml"},
		"from":     {"sql": "SELECT 1", "from": "yesterday"},
		"to":       {"sql": "SELECT 1", "from": "2026-11-02", "to": "2026-11-02"},
		"timeout":  {"sql": "SELECT 1", "timeout": "soon"},
		"max_rows": {"sql": "SELECT 1", "max_rows": -1},
		"id":       {"sql": "SELECT 1", "id": "../x"},
	} {
		if a := r.ask(adminToken, "POST", "/v1/sql", body); a.status != 400 || a.Field != field {
			t.Errorf("%v: %d %s", body, a.status, a.text)
		}
	}
	for q, says := range map[string]string{
		"SELEC 1":                 "syntax error",
		"SELECT x FROM readings":  `"x" not found`,
		"SELECT 1/0 + 'a'::INT":   "Could not convert",
		"SELECT * FROM no_table":  `no table "no_table"`,
		"SELECT ?":                "parameters",
		"SELECT 1; SELECT 2":      "exactly one",
		"":                        "missing",
		"-- nothing":              "0 statements",
		"DESCRIBE readings":       "GET /v1/tables",
		"EXPLAIN SELECT 1":        "only a query",
		"SELECT tocsin_query.a.b": "not found",
	} {
		if a := r.sql(adminToken, q); a.status < 400 || a.status >= 500 || a.Field != "sql" || !strings.Contains(a.Detail, says) {
			t.Errorf("%s: %d %s", q, a.status, a.text)
		}
	}
	for _, token := range []string{"", "0123456789-wrong"} {
		if a := r.sql(token, "SELECT 1"); a.status != 401 || a.header.Get("WWW-Authenticate") == "" {
			t.Error(a.status, a.text)
		}
	}
	big := r.ask(adminToken, "POST", "/v1/sql", map[string]any{"sql": "SELECT '" + strings.Repeat("x", 300<<10) + "'"})
	if big.status != http.StatusRequestEntityTooLarge {
		t.Error(big.status)
	}
}

// TestAttacks: what is more than reading the lake's rows is refused, and nothing of machines, files or settings that are not the asker's comes back.
func TestAttacks(t *testing.T) {
	f := newLake(t)
	f.hour(begin)
	if err := os.WriteFile(filepath.Join(f.dir, "other.csv"), []byte("a\n"+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var file string
	if err := filepath.WalkDir(f.dir, func(path string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(path, ".parquet") {
			file = path
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r := start(t, f, nil)
	out := filepath.Join(t.TempDir(), "out")
	attacks := []string{
		// Writing.
		"CREATE TABLE x AS SELECT 1", "INSERT INTO readings VALUES (1)", "DELETE FROM readings", "UPDATE readings SET value = 1", "DROP VIEW readings",
		"CREATE OR REPLACE VIEW readings AS SELECT 1", "COPY readings TO '" + out + "'", "COPY (SELECT 1) TO '" + out + "'", "EXPORT DATABASE '" + out + "'",
		"ATTACH '" + out + "' AS y", "SELECT 1; COPY (SELECT 1) TO '" + out + "'", "CREATE MACRO f(a) AS a", "BEGIN", "CHECKPOINT", "VACUUM", "PREPARE p AS SELECT 1",
		"WITH x AS (INSERT INTO readings VALUES (1) RETURNING 1) SELECT * FROM x", "CALL pragma_version()", "EXPLAIN ANALYZE SELECT 1", "LOAD httpfs", "INSTALL httpfs",
		"SET memory_limit = '100GB'", "PRAGMA memory_limit = '100GB'", "RESET threads", "USE temp", "DETACH memory", "COMMENT ON VIEW readings IS 'x'",
		// Files.
		"SELECT * FROM '" + file + "'", "SELECT * FROM \"" + file + "\"", "SELECT * FROM read_parquet('" + file + "')", "SELECT * FROM parquet_scan('" + file + "')",
		"SELECT * FROM read_csv('" + filepath.Join(f.dir, "other.csv") + "')", "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM read_blob('/etc/passwd')",
		"SELECT * FROM glob('" + f.dir + "/**')", "SELECT * FROM parquet_metadata('" + file + "')", "SELECT * FROM parquet_schema('" + file + "')", "FROM '/etc/passwd'",
		"SELECT * FROM sniff_csv('/etc/passwd')", "SELECT * FROM read_json('/etc/passwd')", "SELECT * FROM 'http://127.0.0.1:1/x.parquet'",
		"SELECT filename FROM readings", "SELECT file_row_number FROM readings", "SELECT * FROM query_table(['" + file + "'])", "SELECT * FROM query('FROM ''" + file + "''')",
		"WITH \"" + file + "\" AS (SELECT 1) SELECT * FROM \"" + file + "\"", "SELECT * FROM readings POSITIONAL JOIN '" + file + "'",
		"SELECT * FROM (PIVOT '" + file + "' ON sensor USING count(*))", "SELECT (SELECT count(*) FROM '" + file + "')", "SELECT 1 IN (FROM '" + file + "')",
		// What tells of files, settings and the process.
		"SELECT * FROM duckdb_views()", "SELECT * FROM duckdb_views", "SELECT sql FROM sqlite_master", "SELECT * FROM duckdb_settings()", "SELECT * FROM pragma_database_list",
		"SELECT * FROM information_schema.views", "SELECT * FROM pg_catalog.pg_views", "SELECT * FROM pg_views", "SELECT current_setting('allowed_directories')",
		"SELECT getenv('HOME')", "SHOW ALL TABLES", "SELECT * FROM (DESCRIBE readings)", "SUMMARIZE readings", "SELECT * FROM duckdb_logs", "SELECT * FROM duckdb_secrets()",
		"WITH duckdb_views AS (SELECT 1) SELECT * FROM (SELECT * FROM duckdb_views())", "WITH duckdb_views AS (SELECT 1) SELECT 1 UNION ALL SELECT * FROM duckdb_views",
		"SELECT * FROM system.main.duckdb_views", "SELECT * FROM memory.main.readings", "SELECT * FROM temp.tocsin_query", "SELECT * FROM tocsin_query",
		"SELECT 'allowed_directories'.current_setting()", "SELECT main.current_setting('temp_directory')", "SELECT system.main.current_setting('temp_directory')",
		"SELECT count(*) FILTER (WHERE current_setting('threads') = '1')", "SELECT sum(1) OVER (ORDER BY current_setting('threads'))", "SELECT pg_get_viewdef(1)",
		"SELECT * FROM range(current_setting('threads')::INT)", "SELECT json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
		"SELECT * FROM json_execute_serialized_sql('{}')", "FROM pragma_table_info('readings')", "SELECT list_transform([1], x -> current_setting('threads'))",
	}
	for i, q := range attacks {
		a := r.sql([]string{adminToken, lineToken, lineToken}[i%3], q)
		if a.status < 400 || a.status >= 500 {
			t.Errorf("%s: %d %s", q, a.status, a.text)
		}
		if strings.Contains(a.text, secret) || strings.Contains(a.text, "root:") {
			t.Errorf("%s: tells %s", q, a.text)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("something was written")
	}
}

// TestOtherGroups: rows of machines that are not the asker's are not there: they do not come, are not counted, and no condition sees them.
func TestOtherGroups(t *testing.T) { onStores(t, testOtherGroups) }

func testOtherGroups(t *testing.T, f *fixture) {
	f.hour(begin)
	r := start(t, f, nil)
	for q, want := range map[string]string{
		"SELECT count(*), count(DISTINCT equipment_id) FROM readings":                                                                                           "[[720 2]]",
		"SELECT count(*) FROM readings WHERE equipment_id = 'vault-1'":                                                                                          "[[0]]",
		"SELECT count(*) FROM readings WHERE true OR equipment_id = 'vault-1'":                                                                                  "[[720]]",
		"SELECT count(*) FROM readings RIGHT JOIN (SELECT 'vault-1' AS equipment_id) v USING (equipment_id)":                                                    "[[1]]",
		"SELECT count(*) FROM readings WHERE CASE WHEN equipment_id = 'vault-1' THEN error('seen') ELSE true END":                                               "[[720]]",
		"SELECT count(*) FROM readings WHERE CASE WHEN sensor = '" + secret + "' THEN error(sensor) ELSE true END":                                              "[[720]]",
		"SELECT count(*) FROM readings WHERE CASE WHEN sensor NOT LIKE 'temp%' THEN sensor::INT > 1 ELSE true END":                                              "[[720]]",
		"SELECT count(*) FROM readings WHERE CASE WHEN contains(sensor, 'koh') THEN 1/(value-value)::INT > 0 AND error('x') ELSE true END":                      "[[720]]",
		"SELECT max(sensor), min(sensor) FROM readings":                                                                                                         "[[temperature temperature]]",
		"SELECT DISTINCT sensor FROM readings a WHERE EXISTS (FROM readings b WHERE b.sensor > a.sensor OR b.sensor < a.sensor)":                                "[]",
		"SELECT count(*) FROM (FROM readings TABLESAMPLE 100%)":                                                                                                 "[[720]]",
		"WITH readings AS (SELECT * FROM readings) SELECT count(*) FROM readings":                                                                               "error",
		"WITH r AS MATERIALIZED (FROM readings) SELECT count(*) FROM r WHERE ts < '2030-01-01' AND (equipment_id <> 'line-a-1' AND error('e') OR true)":         "any",
		"SELECT count(*) FROM readings WHERE ts >= '2026-11-02 00:59:50+00' AND value >= 0 AND error(CASE WHEN equipment_id='vault-1' THEN sensor END) IS NULL": "any",
	} {
		a := r.sql(lineToken, q)
		if strings.Contains(a.text, secret) || strings.Contains(a.text, "seen") {
			t.Errorf("%s: tells %s", q, a.text)
		}
		if got := fmt.Sprint(a.Rows); want != "any" && want != "error" && got != want {
			t.Errorf("%s: %d %s, want %s: %s", q, a.status, got, want, a.Detail)
		}
	}
	if a := r.sql(adminToken, "SELECT count(*) FROM readings WHERE sensor = '"+secret+"'"); fmt.Sprint(a.Rows) != "[[360]]" {
		t.Error(a.text)
	}
}

// children are the processes that this one has started, and the memory that they hold.
func children(t *testing.T) (n int, resident int64) {
	t.Helper()
	self := strconv.Itoa(os.Getpid())
	dirs, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		b, err := os.ReadFile(d)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(fields) > 21 && fields[1] == self && fields[0] != "Z" {
			pages, _ := strconv.ParseInt(fields[21], 10, 64)
			n++
			resident += pages * int64(os.Getpagesize())
		}
	}
	return n, resident
}

// TestCancel: a query that is ended, by name or by hanging up, gives all its memory back.
func TestCancel(t *testing.T) {
	f := newLake(t)
	f.hour(begin)
	r := start(t, f, nil)
	// It gathers groups without end, some 100 MB a second.
	const hungry = "SELECT count(*) FROM (SELECT a.range * 100000000 + b.range AS k, count(*) FROM range(100000000) a, range(100000000) b GROUP BY k)"
	for _, how := range []string{"by name", "hanging up"} {
		t.Run(how, func(t *testing.T) {
			ctx, hangUp := context.WithCancel(context.Background())
			defer hangUp()
			done := make(chan int, 1)
			go func() {
				status, _, _, _ := r.do(ctx, lineToken, "POST", "/v1/sql", map[string]any{"sql": hungry, "id": "hungry"})
				done <- status
			}()
			const grown = 200 << 20
			eventually(t, "hungry", func() bool { _, resident := children(t); return resident > grown })
			if a := r.ask(adminToken, "GET", "/v1/sql", nil); !strings.Contains(a.text, `"hungry"`) || !strings.Contains(a.text, `"bo"`) {
				t.Error(a.text)
			}
			if how == "by name" {
				if a := r.ask(lineToken, "DELETE", "/v1/sql/hungry", nil); a.status != http.StatusNoContent {
					t.Error(a.status, a.text)
				}
				if status := <-done; status != http.StatusConflict {
					t.Error(status)
				}
			} else {
				hangUp()
				<-done
			}
			// The one that waits for the next query is all that is left.
			eventually(t, "given back", func() bool { n, resident := children(t); return n <= 1 && resident < grown })
			eventually(t, "off the list", func() bool { return strings.Contains(r.ask(adminToken, "GET", "/v1/sql", nil).text, `"queries":[]`) })
		})
	}
	if a := r.ask(lineToken, "DELETE", "/v1/sql/none", nil); a.status != http.StatusNotFound {
		t.Error(a.status)
	}
}

// TestBombs: a query that wants too much ends with an answer that says so, and its neighbours never notice.
func TestBombs(t *testing.T) {
	f := newLake(t)
	f.hour(begin)
	r := start(t, f, func(c *Config) {
		c.Queries.MemoryBytes = 64 << 20
		c.Queries.Timeout = 20 * time.Second
		c.Queries.MaxBytes = 1 << 20
		c.Queries.MaxRows = 1 << 20
	})
	for name, q := range map[string]string{
		"groups":         "SELECT count(*) FROM (SELECT range AS k, count(*) FROM range(1000000000) GROUP BY k)",
		"sort":           "SELECT * FROM (SELECT range, hash(range) AS h FROM range(1000000000) ORDER BY h) OFFSET 100000000",
		"texts":          "SELECT max(length(repeat('x', 1000000000 + range))) FROM range(1000)",
		"one text":       "SELECT length(repeat(repeat('x', 1000000000), 4))",
		"lists":          "SELECT length(list(a.range)) FROM range(1000000) a, range(10000) b",
		"large answer":   "SELECT repeat('x', 1000) FROM range(100000)",
		"recursion":      "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r, range(1000)) SELECT count(*) FROM r",
		"without end":    "SELECT count(*) FROM range(100000) a, range(100000) b, range(100000) c WHERE (a.range + b.range * c.range) % 1000003 = 7",
		"deep":           "SELECT " + strings.Repeat("(", 20000) + "1" + strings.Repeat(")", 20000),
		"deep selects":   strings.Repeat("SELECT * FROM (", 2000) + "SELECT 1" + strings.Repeat(")", 2000),
		"many operators": "SELECT 1" + strings.Repeat("+1", 60000),
		"nested with":    strings.Repeat("WITH a AS (", 200) + "SELECT 1" + strings.Repeat(") SELECT * FROM a", 200),
	} {
		t.Run(name, func(t *testing.T) {
			timeout := "20s"
			if name == "without end" || name == "recursion" {
				timeout = "1s"
			}
			a := r.ask(lineToken, "POST", "/v1/sql", map[string]any{"sql": q, "timeout": timeout})
			if a.status < 400 || a.status >= 500 {
				t.Errorf("%d %.300s", a.status, a.text)
			}
			t.Log(a.status, a.Kind, a.Detail)
		})
	}
	if a := r.sql(lineToken, "SELECT count(*) FROM readings"); a.status != 200 {
		t.Error(a.text)
	}
	eventually(t, "all ended", func() bool { n, _ := children(t); return n <= 1 })
}

func TestCacheFollowsTheLake(t *testing.T) { onStores(t, testCacheFollowsTheLake) }

func testCacheFollowsTheLake(t *testing.T, f *fixture) {
	f.hour(begin)
	r := start(t, f, nil)
	ask := func(token, q string) (string, string) {
		a := r.sql(token, q)
		if a.status != 200 {
			t.Fatal(a.text)
		}
		return fmt.Sprint(a.Rows), a.header.Get("X-Cache")
	}
	const q = "SELECT count(*) FROM readings"
	for i, want := range []struct{ rows, cache string }{{"[[1080]]", "miss"}, {"[[1080]]", "hit"}} {
		if rows, cache := ask(adminToken, q); rows != want.rows || cache != want.cache {
			t.Errorf("%d: %s %s", i, rows, cache)
		}
	}
	if rows, cache := ask(lineToken, q); rows != "[[720]]" || cache != "miss" {
		t.Error("another's answer", rows, cache)
	}
	store(f, "windows", begin, []struct {
		EquipmentID string `parquet:"equipment_id"`
	}{{"line-a-1"}})
	if rows, cache := ask(adminToken, q); rows != "[[1080]]" || cache != "hit" {
		t.Error("a table that it does not read", rows, cache)
	}
	f.hour(begin.Add(time.Hour))
	if rows, cache := ask(adminToken, q); rows != "[[2160]]" || cache != "miss" {
		t.Error(rows, cache)
	}
	for range 2 {
		if _, cache := ask(adminToken, "SELECT now()"); cache != "miss" {
			t.Error("kept what is never the same")
		}
	}
}

// TestColumnsAreAdded: files of before and after a column was added are one table.
func TestColumnsAreAdded(t *testing.T) { onStores(t, testColumnsAreAdded) }

func testColumnsAreAdded(t *testing.T, f *fixture) {
	type before struct {
		EquipmentID string `parquet:"equipment_id"`
		At          int64  `parquet:"at,timestamp(microsecond)"`
	}
	type after struct {
		EquipmentID string  `parquet:"equipment_id"`
		At          int64   `parquet:"at,timestamp(microsecond)"`
		Place       *string `parquet:"place,optional"`
	}
	place := "hall 3"
	store(f, "alerts", begin, []before{{"line-a-1", begin.UnixMicro()}})
	store(f, "alerts", begin.Add(time.Hour), []after{{"line-a-1", begin.UnixMicro(), &place}, {"vault-1", begin.UnixMicro(), &place}})
	type finding struct {
		EquipmentID string   `parquet:"equipment_id"`
		BeganAt     int64    `parquet:"began_at,timestamp(microsecond)"`
		Metrics     []string `parquet:"metrics,list"`
	}
	type newer struct {
		EquipmentID string   `parquet:"equipment_id"`
		BeganAt     int64    `parquet:"began_at,timestamp(microsecond)"`
		Metrics     []string `parquet:"metrics,list"`
		Place       *string  `parquet:"place,optional"`
	}
	store(f, "findings", begin, []finding{{"line-a-1", begin.UnixMicro(), []string{"orders", "calls"}}})
	store(f, "findings", begin.Add(time.Hour), []newer{{"line-a-1", begin.UnixMicro(), []string{}, &place}, {"vault-1", begin.UnixMicro(), nil, &place}})
	r := start(t, f, nil)
	for token, want := range map[string]string{adminToken: "[[<nil> 1] [hall 3 2]]", lineToken: "[[<nil> 1] [hall 3 1]]"} {
		if a := r.sql(token, "SELECT place, count(*) FROM alerts GROUP BY ALL ORDER BY place NULLS FIRST"); fmt.Sprint(a.Rows) != want {
			t.Error(a.status, a.text)
		}
		if a := r.sql(token, "SELECT place, count(*) FROM findings GROUP BY ALL ORDER BY place NULLS FIRST"); fmt.Sprint(a.Rows) != want {
			t.Error(a.status, a.text)
		}
		if a := r.sql(token, "SELECT metrics FROM findings WHERE place IS NULL"); fmt.Sprint(a.Rows) != "[[[orders calls]]]" {
			t.Error(a.status, a.text)
		}
	}
}
