// Package lakeproof shows that analysts may trust the lake: millions of readings go through the real stack while its writer and its Iceberg committer are killed all the time;
// then DuckDB, pyarrow, ClickHouse, Spark and pyiceberg each read the tables, as files and as Iceberg tables, and must find what was sent and agree on every figure: as written, after
// merges, after retention, and with a column more. make lake-proof runs it.
package lakeproof
