package answer

import (
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/tocsin-io/tocsin/services/historical-api/internal/worker"
)

// batchRows is how many rows one record batch has.
const batchRows = 16 << 10

// arrowWriter writes an IPC stream. Types without a plain counterpart (lists, structs, intervals, decimals) are texts, lists and structs as JSON.
type arrowWriter struct {
	w       *ipc.Writer
	build   *array.RecordBuilder
	columns []worker.Column
	set     []func(v any) error
	rows    int
}

func newArrow(w io.Writer, columns []worker.Column) (writer, error) {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: c.Name, Type: arrowType(c.Type), Nullable: true}
	}
	schema := arrow.NewSchema(fields, nil)
	a := &arrowWriter{
		w:     ipc.NewWriter(w, ipc.WithSchema(schema), ipc.WithAllocator(memory.NewGoAllocator())),
		build: array.NewRecordBuilder(memory.NewGoAllocator(), schema), columns: columns,
	}
	for i := range columns {
		a.set = append(a.set, setter(a.build.Field(i), columns[i].Type))
	}
	return a, nil
}

func arrowType(typ string) arrow.DataType {
	switch typ {
	case "BOOLEAN":
		return arrow.FixedWidthTypes.Boolean
	case "TINYINT", "SMALLINT", "INTEGER":
		return arrow.PrimitiveTypes.Int32
	case "BIGINT":
		return arrow.PrimitiveTypes.Int64
	case "UTINYINT", "USMALLINT", "UINTEGER":
		return arrow.PrimitiveTypes.Uint32
	case "UBIGINT":
		return arrow.PrimitiveTypes.Uint64
	case "HUGEINT":
		return &arrow.Decimal128Type{Precision: 38}
	case "FLOAT":
		return arrow.PrimitiveTypes.Float32
	case "DOUBLE":
		return arrow.PrimitiveTypes.Float64
	case "DATE":
		return arrow.FixedWidthTypes.Date32
	case "TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE":
		return &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	case "BLOB":
		return arrow.BinaryTypes.Binary
	}
	if strings.HasPrefix(typ, "TIMESTAMP") {
		return &arrow.TimestampType{Unit: arrow.Microsecond}
	}
	return arrow.BinaryTypes.String
}

// setter appends a value that is not null.
func setter(b array.Builder, typ string) func(v any) error {
	wrong := func(v any) error { return fmt.Errorf("arrow: %T in a column of %s", v, typ) }
	switch b := b.(type) {
	case *array.BooleanBuilder:
		return func(v any) error { return put(v, b.Append, wrong) }
	case *array.Int32Builder:
		return func(v any) error {
			switch v := v.(type) {
			case int8:
				b.Append(int32(v))
			case int16:
				b.Append(int32(v))
			case int32:
				b.Append(v)
			default:
				return wrong(v)
			}
			return nil
		}
	case *array.Uint32Builder:
		return func(v any) error {
			switch v := v.(type) {
			case uint8:
				b.Append(uint32(v))
			case uint16:
				b.Append(uint32(v))
			case uint32:
				b.Append(v)
			default:
				return wrong(v)
			}
			return nil
		}
	case *array.Int64Builder:
		return func(v any) error { return put(v, b.Append, wrong) }
	case *array.Uint64Builder:
		return func(v any) error { return put(v, b.Append, wrong) }
	case *array.Float32Builder:
		return func(v any) error { return put(v, b.Append, wrong) }
	case *array.Float64Builder:
		return func(v any) error { return put(v, b.Append, wrong) }
	case *array.Decimal128Builder:
		return func(v any) error {
			return put(v, func(n *big.Int) { b.Append(decimal128.FromBigInt(n)) }, wrong)
		}
	case *array.Date32Builder:
		return func(v any) error { return put(v, func(t time.Time) { b.Append(arrow.Date32FromTime(t)) }, wrong) }
	case *array.TimestampBuilder:
		return func(v any) error {
			return put(v, func(t time.Time) { b.Append(arrow.Timestamp(t.UnixMicro())) }, wrong)
		}
	case *array.BinaryBuilder:
		return func(v any) error { return put(v, b.Append, wrong) }
	case *array.StringBuilder:
		return func(v any) error {
			s, _ := text(v, typ)
			b.Append(s)
			return nil
		}
	}
	return wrong
}

func put[T any](v any, appendTo func(T), wrong func(any) error) error {
	t, ok := v.(T)
	if !ok {
		return wrong(v)
	}
	appendTo(t)
	return nil
}

func (a *arrowWriter) row(values []any) error {
	for i, v := range values {
		if v == nil {
			a.build.Field(i).AppendNull()
			continue
		}
		if err := a.set[i](v); err != nil {
			return err
		}
	}
	if a.rows++; a.rows < batchRows {
		return nil
	}
	return a.flush()
}

func (a *arrowWriter) flush() error {
	if a.rows == 0 {
		return nil
	}
	a.rows = 0
	batch := a.build.NewRecordBatch()
	defer batch.Release()
	return a.w.Write(batch)
}

func (a *arrowWriter) end(bool) error {
	if err := a.flush(); err != nil {
		return err
	}
	a.build.Release()
	return a.w.Close() // writes the schema too where there was no row
}
