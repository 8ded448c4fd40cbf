package table

import "context"

// Summer tells what rows a record gives without making a file of them: their number and the sum of their hashes, as Encode would find
// them.
type Summer interface {
	// Sum of one record. Errors are those of Rows.
	Sum(ctx context.Context, rec Record) (rows int64, hash uint64, err error)
}

// Sum implements Summer.
func (t *rowTable[T]) Sum(ctx context.Context, rec Record) (int64, uint64, error) {
	rows, err := t.decode(ctx, nil, rec)
	if err != nil {
		return 0, 0, err
	}
	var hash uint64
	for i := range rows {
		hash += t.hash(&rows[i])
	}
	return int64(len(rows)), hash, nil
}

// Sum implements Summer.
func (r *readings) Sum(ctx context.Context, rec Record) (int64, uint64, error) {
	b := r.pool.Get().(*batch)
	defer func() {
		b.reset()
		r.pool.Put(b)
	}()
	if err := b.add(ctx, rec, r.schemas); err != nil {
		return 0, 0, err
	}
	b.sort()
	defer b.columns.w.Reset()
	return b.rows, b.write(), nil
}
