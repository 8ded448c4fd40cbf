//go:build !cgo

// Package engine is DuckDB behind the worker's protocol. It needs cgo; without there is nothing in it.
package engine
