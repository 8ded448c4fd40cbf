"""Reads one table with pyiceberg (through the catalog), with DuckDB over what pyiceberg plans, and with pyarrow over the lake's own list of files; prints
each one's sums. A result that differs is a table that cannot be trusted."""

import json
import sys

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
from pyiceberg.catalog import load_catalog

ask = json.loads(sys.argv[1])
props = {"type": "sql", "uri": ask["catalog"].replace("postgres://", "postgresql+psycopg2://"), "init_catalog_tables": "false"}
fs = pafs.LocalFileSystem()
strip = len("file://")
if ask["endpoint"]:
    props |= {
        "s3.endpoint": ask["endpoint"], "s3.access-key-id": ask["access"], "s3.secret-access-key": ask["secret"], "s3.region": "us-east-1",
    }
    fs = pafs.S3FileSystem(endpoint_override=ask["endpoint"], access_key=ask["access"], secret_key=ask["secret"], region="us-east-1")
    strip = len("s3://")

COLUMNS = ["equipment_id", "ts", "value", "offset", "contributions"]
table = load_catalog("tocsin", **props).load_table("tocsin.readings")


def of_arrow(t):
    parts = pc.list_flatten(t["contributions"])
    return {
        "rows": t.num_rows,
        "offsets": pc.sum(t["offset"]).as_py(),
        "values": pc.sum(t["value"].cast(pa.float64())).as_py(),
        "nulls": t["value"].null_count,
        "shares": pc.sum(pc.struct_field(parts, "share")).as_py(),
        "last": pc.max(t["ts"].cast(pa.int64())).as_py(),
    }


def of_duckdb(relation):
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.register("t", relation)
    r = con.execute(
        """SELECT count(*), sum("offset")::BIGINT, sum(value::DOUBLE), count(*) FILTER (value IS NULL),
                  (SELECT sum(c.share) FROM (SELECT unnest(contributions) AS c FROM t)), epoch_us(max(ts)) FROM t"""
    ).fetchone()
    return {"rows": r[0], "offsets": r[1], "values": r[2], "nulls": r[3], "shares": r[4], "last": r[5]}


iceberg = table.scan(selected_fields=tuple(COLUMNS)).to_arrow()
plain = pa.concat_tables(ds.dataset(f[strip:], filesystem=fs, format="parquet").to_table(columns=COLUMNS) for f in sorted(ask["files"]))
result = {"pyiceberg": of_arrow(iceberg), "pyarrow": of_arrow(plain), "duckdb": of_duckdb(iceberg), "duckdb over the files": of_duckdb(plain)}
if not ask["endpoint"]:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    names = [f[strip:] for f in ask["files"]]
    result["duckdb's own reader"] = of_duckdb(con.read_parquet(names, union_by_name=True).select(*(f'"{c}"' for c in COLUMNS)).arrow().read_all())
planned = sum(task.file.record_count for task in table.scan().plan_files())
assert planned == iceberg.num_rows, (planned, iceberg.num_rows)
print(json.dumps(result))
