// Package worker runs each query in a process of its own, which ends with it.
//
// The process is the limit that an engine inside ours could not give: what a query has taken is gone when it is over, whatever it was; one that takes too much, too long or that brings
// the engine down is one process less and an answer that says so. It holds no credentials and, but for the files that it is told, nothing to read.
//
// Protocol, over stdin and stdout, messages of a type byte, a length (4 bytes, big endian) and a body: the parent asks ('A'); the child says which tables the query
// reads ('T'); the parent gives their files ('F'); the child sends the answer in pieces ('D') and its end ('E'), which may come at any time and then holds the error. A
// child whose stdin ends stops: its parent is gone.
package worker

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Ask is a query and what it may take.
type Ask struct {
	SQL  string   `json:"sql"`
	Args []string `json:"args,omitempty"` // of a query of our own
	// Trusted queries are our own: they are not checked.
	Trusted bool     `json:"trusted,omitempty"`
	Tables  []string `json:"tables"` // those there are; of a trusted query those it reads
	Filter  Filter   `json:"filter"`
	Format  string   `json:"format"` // json, csv, arrow
	Limits  Limits   `json:"limits"`
}

// Filter is the machines that may be seen.
type Filter struct {
	All      bool     `json:"all,omitempty"`
	Exact    []string `json:"exact,omitempty"`
	Prefixes []string `json:"prefixes,omitempty"`
}

// Limits of one query.
type Limits struct {
	Rows    int           `json:"rows"`
	Bytes   int64         `json:"bytes"`  // of the answer
	Memory  int64         `json:"memory"` // bytes
	Threads int           `json:"threads"`
	Timeout time.Duration `json:"timeout"`
}

// Table is where a table's rows are.
type Table struct {
	Files []string `json:"files"`
	// Columns of a table without files: names and DuckDB's types.
	Columns []Column `json:"columns"`
	Time    string   `json:"time,omitempty"` // the column of event time
}

// Column of a table or an answer.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Files is what the tables of a query consist of.
type Files struct {
	Root   string           `json:"root"` // folder of all files
	Tables map[string]Table `json:"tables"`
	// Event time that is asked for, microseconds since 1970 UTC; 0: open.
	FromUS int64 `json:"from_us,omitempty"`
	ToUS   int64 `json:"to_us,omitempty"`
	// Machines that are asked for; none: all.
	Machines []string `json:"machines,omitempty"`
}

// Kind of failure.
type Kind string

// Kinds.
const (
	Refused  Kind = "refused"  // may not run
	Invalid  Kind = "invalid"  // cannot run: a column that there is not, a division of a text
	TooMuch  Kind = "too_much" // more memory or a larger answer than it may take
	TimedOut Kind = "timed_out"
	Crashed  Kind = "crashed"
	Broken   Kind = "broken" // not the query's fault
)

// Error is how a query failed.
type Error struct {
	Kind   Kind   `json:"kind"`
	Reason string `json:"reason"`
}

func (e *Error) Error() string { return e.Reason }

// End is what the last message says.
type End struct {
	Error     *Error   `json:"error,omitempty"`
	Columns   []Column `json:"columns,omitempty"`
	Rows      int      `json:"rows"`
	Truncated bool     `json:"truncated,omitempty"`
}

// Types of messages.
const (
	msgAsk    = 'A'
	msgTables = 'T'
	msgFiles  = 'F'
	msgData   = 'D'
	msgEnd    = 'E'
)

// maxMessage bounds what is read into memory at once: file lists of a large lake are some megabytes.
const maxMessage = 256 << 20

func send(w io.Writer, typ byte, body []byte) error {
	head := [5]byte{typ}
	binary.BigEndian.PutUint32(head[1:], uint32(len(body)))
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}

func sendJSON(w io.Writer, typ byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return send(w, typ, b)
}

// receive reads the next message. io.EOF: the other side is gone.
func receive(r io.Reader) (typ byte, body []byte, err error) {
	var head [5]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxMessage {
		return 0, nil, fmt.Errorf("message of %d bytes", n)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return head[0], body, err
}

func unmarshal(body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return &Error{Broken, fmt.Sprintf("message of the engine: %v", err)}
	}
	return nil
}
