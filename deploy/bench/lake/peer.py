"""pyarrow's side of make bench-lake: the same file again and again; then all files compared."""

import io
import json
import resource
import sys

import pyarrow as pa
import pyarrow.parquet as pq

STRINGS = ["equipment_id", "sensor", "quality", "validity", "disposition", "gateway_id"]
DELTA = ["ts", "sequence", "sample", "log_append_time", "offset"]


def cpu_ns():
    r = resource.getrusage(resource.RUSAGE_SELF)
    return int((r.ru_utime + r.ru_stime) * 1e9)


def main(path, output, value):
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    table = pq.read_table(path, read_dictionary=STRINGS, use_threads=False).combine_chunks()
    dictionary = STRINGS + ["partition"] + (["value"] if value == "dictionary" else [])
    encoding = {c: "DELTA_BINARY_PACKED" for c in DELTA}
    if value != "dictionary":
        encoding["value"] = "BYTE_STREAM_SPLIT"
    kept = False
    for line in sys.stdin:
        words = line.split()
        if words[0] == "compare":
            tables = [pq.read_table(p, page_checksum_verification=True, use_threads=False) for p in words[1:]]
            plain = [t.cast(pa.schema([pa.field(f.name, pa.string() if f.name in STRINGS else f.type, f.nullable) for f in tables[0].schema])) for t in tables]
            answer = {"equal": all(plain[0].equals(t) for t in plain[1:])}
        else:
            sink = io.BytesIO()
            before = cpu_ns()
            pq.write_table(
                table, sink, row_group_size=128 << 10, compression="zstd", compression_level=1, use_dictionary=dictionary, column_encoding=encoding,
                data_page_version="2.0", write_page_index=True, write_page_checksum=True, store_schema=False,
                sorting_columns=pq.SortingColumn.from_ordering(table.schema, [("equipment_id", "ascending"), ("ts", "ascending"), ("sensor", "ascending")]),
            )
            answer = {"cpu_ns": cpu_ns() - before, "bytes": sink.tell(), "rows": table.num_rows}
            if not kept:
                kept = True
                with open(output, "wb") as f:
                    f.write(sink.getvalue())
        print(json.dumps(answer), flush=True)


main(*sys.argv[1:])
