package icebergtable

import (
	"errors"
	"fmt"

	"github.com/apache/iceberg-go"
	icebergio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// schemaOf is a Parquet schema as Iceberg has it. Field ids are counted from 1; the files have none, so readers match columns by name.
func schemaOf(s *parquet.Schema) (*iceberg.Schema, error) {
	next := 0
	id := func() int { next++; return next }
	fields, err := fieldsOf(s.Fields(), id)
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", s.Name(), err)
	}
	return iceberg.NewSchema(0, fields...), nil
}

func fieldsOf(in []parquet.Field, id func() int) ([]iceberg.NestedField, error) {
	out := make([]iceberg.NestedField, len(in))
	for i, f := range in {
		n := id()
		t, err := typeOf(f, id)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		out[i] = iceberg.NestedField{ID: n, Name: f.Name(), Type: t, Required: !f.Optional()}
	}
	return out, nil
}

func typeOf(n parquet.Node, id func() int) (iceberg.Type, error) {
	if !n.Leaf() {
		if lt := n.Type().LogicalType(); lt != nil {
			if _, ok := lt.Value.(*format.ListType); ok {
				return listOf(n, id)
			}
		}
		fields, err := fieldsOf(n.Fields(), id)
		return &iceberg.StructType{FieldList: fields}, err
	}
	if lt := n.Type().LogicalType(); lt != nil {
		switch t := lt.Value.(type) {
		case *format.TimestampType:
			if _, micros := t.Unit.Value.(*format.MicroSeconds); micros && t.IsAdjustedToUTC {
				return iceberg.PrimitiveTypes.TimestampTz, nil
			}
			return nil, fmt.Errorf("no Iceberg type for %s", t)
		case *format.StringType:
			return iceberg.PrimitiveTypes.String, nil
		}
	}
	switch kind := n.Type().Kind(); {
	case kind == parquet.Boolean:
		return iceberg.PrimitiveTypes.Bool, nil
	case kind == parquet.Int32:
		return iceberg.PrimitiveTypes.Int32, nil
	case kind == parquet.Int64:
		return iceberg.PrimitiveTypes.Int64, nil
	case kind == parquet.Float:
		return iceberg.PrimitiveTypes.Float32, nil
	case kind == parquet.Double:
		return iceberg.PrimitiveTypes.Float64, nil
	}
	return nil, fmt.Errorf("no Iceberg type for %s", n.Type())
}

// listOf is a three-level list: group (LIST) { repeated group list { element } }.
func listOf(n parquet.Node, id func() int) (iceberg.Type, error) {
	if len(n.Fields()) != 1 || len(n.Fields()[0].Fields()) != 1 {
		return nil, fmt.Errorf("not a list of three levels: %s", n)
	}
	element := n.Fields()[0].Fields()[0]
	elementID := id()
	t, err := typeOf(element, id)
	return &iceberg.ListType{ElementID: elementID, Element: t, ElementRequired: !element.Optional()}, err
}

// footer is what a file says of its table.
type footer struct {
	schema   *iceberg.Schema
	sortedBy []string
}

// readFooter reads it, and no more of the file.
func readFooter(fs icebergio.IO, uri string) (_ footer, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: damaged file: %v", uri, r)
		}
	}()
	file, err := fs.Open(uri)
	if err != nil {
		return footer{}, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return footer{}, err
	}
	f, err := parquet.OpenFile(file, info.Size(), parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
	if err != nil {
		return footer{}, fmt.Errorf("%s: %w", uri, err)
	}
	schema, err := schemaOf(f.Schema())
	if err != nil {
		return footer{}, fmt.Errorf("%s: %w", uri, err)
	}
	out := footer{schema: schema}
	if groups := f.RowGroups(); len(groups) > 0 {
		for _, c := range groups[0].SortingColumns() {
			if len(c.Path()) == 1 {
				out.sortedBy = append(out.sortedBy, c.Path()[0])
			}
		}
	}
	return out, nil
}

// orderOf is the order of rows inside the files.
func orderOf(s *iceberg.Schema, columns []string) (table.SortOrder, error) {
	fields := make([]table.SortField, len(columns))
	for i, c := range columns {
		f, ok := s.FindFieldByName(c)
		if !ok {
			return table.SortOrder{}, fmt.Errorf("sorted by %s, which is no column", c)
		}
		fields[i] = table.SortField{SourceIDs: []int{f.ID}, Transform: iceberg.IdentityTransform{}, Direction: table.SortASC, NullOrder: table.NullsFirst}
	}
	if len(fields) == 0 {
		return table.UnsortedSortOrder, nil
	}
	return table.NewSortOrder(1, fields)
}
