"""Reads tables of the lake with one engine and prints what they come to, so that engines can be compared: read.py ENGINE ASK.json

Every figure is exact in any order of the rows: whole numbers, and doubles whose sums are multiples of 1/8. Times count in microseconds, sums of them from ask["base"] on.
"""

import json
import sys
import time

# What is asked of a column: n (rows with a value), min, max, sum, sum8 (eighths), floor3 (thousandths, rounded down), len (of a list).
TABLES = {
    "readings": [
        ("equipment_id", "n min max"), ("ts", "min max sum"), ("sensor", "n min max"), ("value", "n min max sum8"), ("quality", "n min max"), ("validity", "n min max"),
        ("disposition", "n min max"), ("late", "sum"), ("gateway_id", "n min max"), ("sequence", "min max sum"), ("sample", "min max sum"),
        ("log_append_time", "min max sum"), ("partition", "min max sum"), ("offset", "min max sum"),
    ],
    "windows": [
        ("equipment_id", "n min max"), ("window_start", "min max sum"), ("window_end", "min max sum"), ("sensor", "n min max"), ("window_id", "n min max"), ("revision", "min max sum"),
        ("count", "min max sum"), ("unusable", "sum"), ("mean", "n min max floor3"), ("stddev", "n min max"), ("score", "n min max"), ("learning", "sum"),
        ("closed_at", "min max sum"), ("offset", "min max sum"),
    ],
    "anomalies": [
        ("equipment_id", "n min max"), ("observed_at", "min max sum"), ("cause", "n min max"), ("severity", "n min max"), ("score", "n min max floor3"), ("summary", "n min max"),
        ("contributions", "len"), ("offset", "min max sum"),
    ],
    "alerts": [
        ("equipment_id", "n min max"), ("at", "min max sum"), ("event_id", "n min max"), ("transition", "n min max"), ("ended_at", "n"), ("labels", "n min max"),
        ("contributions", "len"), ("offset", "min max sum"),
    ],
    "findings": [
        ("equipment_id", "n min max"), ("began_at", "min max sum"), ("finding_id", "n min max"), ("revision", "min max sum"), ("severity", "n min max"), ("ended_at", "min max sum"),
        ("is_over", "sum"), ("metrics", "len"), ("contributions", "len"), ("producer", "n min max"), ("offset", "min max sum"),
    ],
    "readings_1m": [("equipment_id", "n min max"), ("ts", "min max sum"), ("sensor", "n min max"), ("count", "min max sum"), ("sum", "sum8"), ("min", "min"), ("max", "max")],
    "readings_1h": [("equipment_id", "n min max"), ("ts", "min max sum"), ("sensor", "n min max"), ("count", "min max sum"), ("sum", "sum8"), ("min", "min"), ("max", "max")],
}
TIMES = {"ts", "log_append_time", "window_start", "window_end", "closed_at", "observed_at", "at", "ended_at", "began_at"}
FLAGS = {"late", "learning", "is_over"}
FLOATS = {"value", "mean", "stddev", "score", "min", "max"}
ask = json.load(open(sys.argv[2]))
BASE = ask["base"]


def wanted(table):
    return [(c, op) for c, ops in TABLES[table] + [(c, "n") for c in ask.get("extra", {}).get(table, [])] for op in ops.split()]


def columns(table):
    return list(dict.fromkeys(c for c, _ in wanted(table)))


def result(table, row, groups=None):
    out = {"rows": int(row[0])}
    for (c, op), v in zip(wanted(table), row[1:]):
        if c in FLOATS and op in ("min", "max") and v is not None:
            v = float(v)  # an engine that answers in JSON says 1 for 1.0
        out[f"{op}({c})"] = v if isinstance(v, str) or v is None else float(v) if isinstance(v, float) else int(v)
    if groups is not None:
        out["groups"] = sorted([str(g[0]), str(g[1])] + [int(x or 0) for x in g[2:]] for g in groups)
    return out


# --- engines that speak SQL ---


class Dialect:
    def __init__(self, q, us, big, length):
        self.q, self.us, self.big, self.length = q, us, big, length

    def figure(self, c, op):
        x = self.q % c
        if c in TIMES and op != "n":
            x = self.us % x
        if c in FLAGS:
            x = f"CASE WHEN {x} THEN 1 ELSE 0 END"
        if op == "sum" and c in TIMES:
            return f"sum({x} - {BASE})"
        return {
            "n": f"count({x})", "min": f"min({x})", "max": f"max({x})", "sum": f"sum({x})", "sum8": f"sum({self.big % (x + ' * 8')})",
            "floor3": f"sum({self.big % f'floor({x} * 1000)'})", "len": f"sum({self.length % x})",
        }[op]

    def totals(self, table, source):
        return f"SELECT count(*), {', '.join(self.figure(c, op) for c, op in wanted(table))} FROM {source}"

    def groups(self, source):
        v, ts = self.big % (self.q % "value" + " * 8"), self.us % (self.q % "ts")
        return (
            f"SELECT equipment_id, sensor, count(*), count({self.q % 'value'}), sum({v}), sum({v} * ({self.q % 'sequence'} * 64 + {self.q % 'sample'} + 1)), sum({ts} - {BASE}) "
            f"FROM {source} GROUP BY equipment_id, sensor"
        )


def sql_engine(dialect, run, source):
    """run(sql) gives rows; source(table, files) gives what stands behind FROM."""
    out = {}
    for table, files in ask["tables"].items():
        src = source(table, files)
        if src is None:
            out[table] = {"rows": 0}
            continue
        row = list(run(dialect.totals(table, src)))[0]
        if int(row[0]) == 0:
            out[table] = {"rows": 0}
            continue
        out[table] = result(table, row, run(dialect.groups(src)) if table == "readings" else None)
    return out


def duckdb_files():
    import duckdb

    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'; SET memory_limit = '2GB'; SET threads = 2; SET preserve_insertion_order = false")
    d = Dialect('"%s"', "epoch_us(%s)", "CAST(%s AS BIGINT)", "len(%s)")

    def source(table, files):
        return f"read_parquet([{', '.join(repr(f) for f in files)}], union_by_name = true)" if files else None

    return sql_engine(d, lambda sql: con.execute(sql).fetchall(), source)


def chdb_files():
    """ClickHouse in this process."""
    from chdb import session

    s = session.Session()
    # As the lake's other tables: NULL stays NULL, and of files with and without a column the union.
    d = Dialect("`%s`", "toUnixTimestamp64Micro(%s)", "toInt64(%s)", "length(%s)")
    settings = "SETTINGS schema_inference_mode = 'union', max_threads = 2, max_memory_usage = 3000000000"

    def run(sql):
        text = str(s.query(sql + " " + settings, "JSONCompactEachRow"))
        return [json.loads(line) for line in text.splitlines() if line]

    def source(table, files):
        if not files:
            return None
        import os

        top = os.path.dirname(os.path.commonprefix(files))  # what stands before a brace must be a folder
        return "file('%s', Parquet)" % (top + "/{" + ",".join(f[len(top) + 1 :] for f in files) + "}" if len(files) > 1 else files[0])

    def whole(rows):  # 64-bit numbers come as text
        return [[int(x) if isinstance(x, str) and x.lstrip("-").isdigit() else x for x in r] for r in rows]

    return sql_engine(d, lambda sql: whole(run(sql)), source)


def spark():
    from pyspark.sql import SparkSession

    b = (
        SparkSession.builder.master("local[2]").appName("lake").config("spark.driver.memory", "2g").config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "4")
        .config("spark.jars", ",".join(ask["jars"]))
        .config("spark.sql.parquet.enableVectorizedReader", "false")  # which cannot read BYTE_STREAM_SPLIT
        .config("spark.sql.catalog.tocsin", "org.apache.iceberg.spark.SparkCatalog").config("spark.sql.catalog.tocsin.type", "jdbc")
        .config("spark.sql.catalog.tocsin.uri", "jdbc:sqlite:" + ask["catalog"]).config("spark.sql.catalog.tocsin.warehouse", ask["warehouse"])
    )
    s = b.getOrCreate()
    s.sparkContext.setLogLevel("ERROR")
    d = Dialect("`%s`", "unix_micros(%s)", "CAST(%s AS BIGINT)", "size(%s)")
    run = lambda sql: [list(r) for r in s.sql(sql).collect()]  # noqa: E731
    out = {}
    began = time.time()

    def source(table, files):
        if not files:
            return None
        s.read.option("mergeSchema", "true").parquet(*files).createOrReplaceTempView("files_" + table)
        return "files_" + table

    out["Spark, files"] = timed(began, sql_engine(d, run, source))
    began = time.time()
    here = {r[1] for r in s.sql("SHOW TABLES IN tocsin.tocsin").collect()}
    out["Spark, Iceberg"] = timed(began, sql_engine(d, run, lambda table, _: f"tocsin.tocsin.{table}" if table in here else None))
    s.stop()
    return out


# --- engines that give Arrow ---


def of_batches(table, batches):
    import pyarrow as pa
    import pyarrow.compute as pc

    figures, rows, groups = {}, 0, {}
    for t in batches:
        if t.num_rows == 0:
            continue
        rows += t.num_rows
        for c, op in wanted(table):
            if c not in t.column_names:
                t = t.append_column(c, pa.nulls(t.num_rows, pa.string()))
            x = t[c]
            if pa.types.is_dictionary(x.type):
                x = x.cast(x.type.value_type)
            if c in TIMES and op != "n":
                x = x.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
            if c in FLAGS:
                x = x.cast(pa.int64())
            if op == "sum" and c in TIMES:
                x = pc.subtract(x, BASE)
            v = {
                "n": lambda: len(x) - x.null_count, "min": lambda: pc.min(x).as_py(), "max": lambda: pc.max(x).as_py(), "sum": lambda: pc.sum(x).as_py(),
                "sum8": lambda: pc.sum(pc.multiply(x.cast(pa.float64()), 8).cast(pa.int64())).as_py(),
                "floor3": lambda: pc.sum(pc.floor(pc.multiply(x.cast(pa.float64()), 1000.0)).cast(pa.int64())).as_py(),
                "len": lambda: pc.sum(pc.list_value_length(x)).as_py(),
            }[op]()
            was = figures.get((c, op))
            join = {"min": min, "max": max}.get(op, lambda a, b: a + b)
            figures[c, op] = v if was is None else was if v is None else join(was, v)
        if table == "readings":
            v = pc.multiply(t["value"].cast(pa.float64()), 8).cast(pa.int64())
            at = pc.add(pc.add(pc.multiply(t["sequence"].cast(pa.int64()), 64), t["sample"].cast(pa.int64())), 1)
            ts = pc.subtract(t["ts"].cast(pa.int64()), BASE)
            g = pa.table({"e": t["equipment_id"], "s": t["sensor"], "v": v, "p": pc.multiply(v, at), "ts": ts})
            g = g.group_by(["e", "s"]).aggregate([([], "count_all"), ("v", "count"), ("v", "sum"), ("p", "sum"), ("ts", "sum")])
            cols = [g[c].to_pylist() for c in ("e", "s", "count_all", "v_count", "v_sum", "p_sum", "ts_sum")]
            for e, s, *f in zip(*cols):
                old = groups.setdefault((e, s), [0] * 5)
                for i, y in enumerate(f):
                    old[i] += y or 0
    if rows == 0:
        return {"rows": 0}
    row = [rows] + [figures[k] for k in wanted(table)]
    return result(table, row, [k + tuple(f) for k, f in groups.items()] if table == "readings" else None)


def pyarrow_files():
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    def batches(table, files):
        for f in files:  # each file has its own columns
            for b in ds.dataset(f, format="parquet").to_batches(columns=[c for c in columns(table) if c in pq.read_schema(f).names], batch_size=1 << 20):
                import pyarrow as pa

                yield pa.table(b)

    return {t: of_batches(t, batches(t, files)) for t, files in ask["tables"].items()}


def pyiceberg():
    import pyarrow as pa
    from pyiceberg.catalog import load_catalog
    from pyiceberg.exceptions import NoSuchTableError

    catalog = load_catalog("tocsin", type="sql", uri="sqlite:///" + ask["catalog"], init_catalog_tables="false")
    out = {}
    for t in ask["tables"]:
        try:
            scan = catalog.load_table("tocsin." + t).scan(selected_fields=tuple(columns(t)))
        except NoSuchTableError:
            out[t] = {"rows": 0}
            continue
        out[t] = of_batches(t, (pa.table(b) for b in scan.to_arrow_batch_reader()))
    return out


def timed(began, tables):
    return {"seconds": round(time.time() - began, 1), "tables": tables}


ENGINES = {"DuckDB": duckdb_files, "pyarrow": pyarrow_files, "ClickHouse": chdb_files, "pyiceberg": pyiceberg}
if sys.argv[1] == "Spark":
    answer = spark()
else:
    start = time.time()
    answer = {sys.argv[1]: timed(start, ENGINES[sys.argv[1]]())}
print(json.dumps(answer))
