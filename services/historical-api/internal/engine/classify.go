//go:build cgo

package engine

import (
	"errors"
	"strings"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/tocsin-io/tocsin/services/historical-api/internal/worker"
)

// classify says whose fault an error of the engine is. Its text loses the folders that files lie in.
func classify(err error, root string) error {
	if err == nil {
		return nil
	}
	var own *worker.Error
	if errors.As(err, &own) {
		return own
	}
	var d *duckdb.Error
	if !errors.As(err, &d) {
		return err
	}
	reason := d.Msg
	if root != "" {
		reason = strings.ReplaceAll(reason, root, "")
	}
	kind := worker.Invalid
	switch d.Type {
	case duckdb.ErrorTypeOutOfMemory:
		kind, reason = worker.TooMuch, "the query needs more memory than it may take"
	case duckdb.ErrorTypePermission:
		kind = worker.Refused
	case duckdb.ErrorTypeIO, duckdb.ErrorTypeInternal, duckdb.ErrorTypeFatal, duckdb.ErrorTypeHTTP:
		kind = worker.Broken
	case duckdb.ErrorTypeInterrupt:
		kind, reason = worker.TimedOut, "cancelled"
	}
	return &worker.Error{Kind: kind, Reason: reason}
}

// unwrapView takes from a message what our own view has added to the query.
func unwrapView(err error) error {
	var d *duckdb.Error
	if errors.As(err, &d) {
		msg := strings.Replace(d.Msg, "CREATE TEMP VIEW tocsin_query AS ", "", 1)
		return &duckdb.Error{Type: d.Type, Msg: msg}
	}
	return err
}
