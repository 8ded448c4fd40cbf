//go:build cgo

package engine

import (
	"context"
	"flag"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

var rewrite = flag.Bool("rewrite", false, "write the list of functions anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// telling are functions that say something of the engine, the process or the catalog, keep state, or take SQL as a text.
func telling(name string) bool {
	for _, p := range []string{
		"pg_", "duckdb_", "pragma_", "has_", "json_serialize", "json_deserialize", "json_execute", "current_", "current", "read_", "write_", "parse_duckdb", "txid_", "in_search_path",
		"getenv", "create_", "shobj_", "obj_", "col_desc", "inet_", "session_", "parquet_", "query", "getvariable", "finalize", "combine", "import_", "set_", "setseed", "nextval", "currval",
		"version", "user", "constant_or_null", "add_parquet_key", "invalidate", "remap_struct", "vector_type", "stats", "hash_partition", "alias", "format_type", "format_pg", "map_to_pg_oid",
		"get_block_size", "icu_collate", "__internal", "storage_", "test_", "which_secret", "force_", "sleep",
	} {
		if strings.HasPrefix(name, p) {
			return name != "current_date" && name != "current_timestamp" && name != "current_localtime" && name != "current_localtimestamp" && name != "current_time"
		}
	}
	return false
}

// What the engine has and the guard's list has not, but for what tells too much, is new: look at it, and run with -rewrite.
func TestFunctionsAreKnown(t *testing.T) {
	ctx := context.Background()
	e, err := Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	rows, err := e.conn.QueryContext(ctx, `SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE function_type IN ('scalar', 'aggregate', 'macro')
		UNION SELECT unnest(['row_number', 'rank', 'dense_rank', 'rank_dense', 'percent_rank', 'cume_dist', 'ntile', 'lead', 'lag', 'first_value', 'last_value', 'nth_value', 'fill', 'unnest', 'unlist', 'grouping', 'grouping_id', 'coalesce', 'case'])
		ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var have []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		if !telling(name) && !strings.ContainsAny(name, " \t") {
			have = append(have, name)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	const file = "../sqlguard/functions.txt"
	text := strings.Join(have, "\n") + "\n"
	if *rewrite {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != text {
		t.Errorf("the engine's functions are not those of %s: look at the new ones, and run with -rewrite", file)
	}
}
