package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Engine answers one query. It is opened before the query is known, so that who asks does not wait for that.
type Engine interface {
	// Tables tells which tables a query reads, or that it may not run.
	Tables(ctx context.Context, ask Ask) ([]string, error)
	// Run writes the answer to out.
	Run(ctx context.Context, ask Ask, files Files, out io.Writer) (End, error)
}

// Serve answers one query over in and out, and returns. It ends as well when in does. limit is called with the memory the query may take, before anything of it is looked at.
func Serve(ctx context.Context, in io.Reader, out io.Writer, engine Engine, limit func(memory int64) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var ask Ask
	if err := expect(in, msgAsk, &ask); err != nil {
		if errors.Is(err, io.EOF) {
			return nil // never asked
		}
		return err
	}
	if err := limit(ask.Limits.Memory); err != nil {
		return sendJSON(out, msgEnd, End{Error: &Error{Broken, fmt.Sprintf("limit of memory: %v", err)}})
	}
	tables, err := engine.Tables(ctx, ask)
	if err != nil {
		return sendJSON(out, msgEnd, End{Error: failure(err)})
	}
	if err := sendJSON(out, msgTables, tables); err != nil {
		return err
	}
	var files Files
	if err := expect(in, msgFiles, &files); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, in) // nothing more comes: it ends when the parent is gone
	}()
	end, err := engine.Run(ctx, ask, files, pieces{out})
	if err != nil {
		end = End{Error: failure(err)}
	}
	return sendJSON(out, msgEnd, end)
}

func failure(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Broken, err.Error()}
}

func expect(in io.Reader, want byte, v any) error {
	typ, body, err := receive(in)
	if err != nil {
		return err
	}
	if typ != want {
		return fmt.Errorf("message %q instead of %q", typ, want)
	}
	return json.Unmarshal(body, v)
}

// pieces sends what is written as data.
type pieces struct{ w io.Writer }

func (p pieces) Write(b []byte) (int, error) {
	if err := send(p.w, msgData, b); err != nil {
		return 0, err
	}
	return len(b), nil
}
