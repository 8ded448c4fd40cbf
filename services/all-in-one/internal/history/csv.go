package history

import (
	"errors"
	"fmt"
	"os"

	"github.com/tocsin-io/tocsin/services/all-in-one/internal/csvfile"
)

// csvRows reads a CSV file.
type csvRows struct {
	f     *os.File
	size  int64
	count csvfile.Counter
	r     *csvfile.Reader
}

func openCSV(path string, opt csvfile.Options) (_ rows, err error) {
	c := &csvRows{}
	if c.f, err = os.Open(path); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.f.Close())
		}
	}()
	st, err := c.f.Stat()
	if err != nil {
		return nil, err
	}
	c.size, c.count.R = st.Size(), c.f
	opt.Strict = true
	if c.r, err = csvfile.NewReader(&c.count, opt); err != nil {
		return nil, err
	}
	if c.r.TimeColumn == "" {
		return nil, errors.New("no column holds times: name one with --time-column")
	}
	return c, nil
}

func (c *csvRows) sensors() []string    { return c.r.Sensors }
func (c *csvRows) read() (int64, int64) { return min(c.count.N, c.size), c.size }
func (c *csvRows) close() error         { return c.f.Close() }

func (c *csvRows) next() (row, error) {
	r, err := c.r.Read()
	if err != nil {
		return row{}, err
	}
	return row{machine: r.Equipment, at: r.Time, values: r.Values, where: fmt.Sprintf("line %d", r.Line)}, nil
}
