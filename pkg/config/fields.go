package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Field is one key of a section's struct.
type Field struct {
	Name   string
	Index  []int
	Type   reflect.Type
	Doc    string
	Secret bool
}

// Fields lists the keys of a struct by their mapstructure names; squashed structs lend theirs.
func Fields(t reflect.Type) []Field {
	var out []Field
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("mapstructure")
		switch {
		case !f.IsExported() || name == "-" || name == "":
			continue
		case name == ",squash":
			for _, in := range Fields(f.Type) {
				in.Index = append([]int{i}, in.Index...)
				out = append(out, in)
			}
			continue
		}
		out = append(out, Field{Name: name, Index: []int{i}, Type: f.Type, Doc: f.Tag.Get("doc"), Secret: f.Tag.Get("secret") == "true"})
	}
	return out
}

// EnvName is the environment variable of a key.
func EnvName(path string) string {
	return "TOCSIN_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// leaf tells whether a key can be given by one environment variable: a scalar or a list of scalars.
func leaf(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct, reflect.Map, reflect.Pointer, reflect.Interface:
		return false
	case reflect.Slice:
		return t.Elem().Kind() != reflect.Slice && leaf(t.Elem())
	default:
		return true
	}
}

// envNode is the YAML form of an environment variable's value: lists are separated by commas.
func envNode(s string, t reflect.Type) *yaml.Node {
	one := func(s string, t reflect.Type) *yaml.Node {
		n := &yaml.Node{Kind: yaml.ScalarNode, Value: s}
		if t.Kind() == reflect.String {
			n.Tag = "!!str"
		}
		return n
	}
	if t.Kind() != reflect.Slice {
		return one(s, t)
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	for _, p := range strings.Split(s, ",") {
		list.Content = append(list.Content, one(strings.TrimSpace(p), t.Elem()))
	}
	return list
}

func kindName(t reflect.Type) string {
	if t == reflect.TypeFor[time.Duration]() {
		return "a duration such as 5s or 2m30s"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number of at least 0"
	case reflect.Float32, reflect.Float64:
		return "a number"
	default:
		return "a " + t.Kind().String()
	}
}

// Reference writes the reference page of the sections as Markdown: every key with default, environment name and meaning.
func Reference(w io.Writer, sections ...Section) error {
	for _, s := range sections {
		if _, err := fmt.Fprintf(w, "\n## `%s`\n\n| key | default | environment | meaning |\n|---|---|---|---|\n", s.Name); err != nil {
			return err
		}
		if err := referenceRows(w, reflect.ValueOf(s.Value).Elem(), s.Name, ""); err != nil {
			return err
		}
	}
	return nil
}

func referenceRows(w io.Writer, v reflect.Value, section, prefix string) error {
	for _, f := range Fields(v.Type()) {
		key := prefix + f.Name
		fv := v.FieldByIndex(f.Index)
		if f.Type.Kind() == reflect.Struct {
			if err := referenceRows(w, fv, section, key+"."); err != nil {
				return err
			}
			continue
		}
		env := "-"
		if leaf(f.Type) && !strings.Contains(key, "[]") {
			env = "`" + EnvName(section+"."+key) + "`"
		}
		def := show(fv)
		if f.Secret {
			def = "(secret)"
		}
		if _, err := fmt.Fprintf(w, "| `%s` | %s | %s | %s |\n", key, def, env, strings.ReplaceAll(f.Doc, "|", "\\|")); err != nil {
			return err
		}
		if e := elemStruct(f.Type); e != nil {
			if err := referenceRows(w, reflect.New(e).Elem(), section, key+"[]."); err != nil {
				return err
			}
		}
	}
	return nil
}

func elemStruct(t reflect.Type) reflect.Type {
	if (t.Kind() == reflect.Slice || t.Kind() == reflect.Map) && t.Elem().Kind() == reflect.Struct {
		return t.Elem()
	}
	return nil
}

func show(v reflect.Value) string {
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		return "`" + time.Duration(v.Int()).String() + "`"
	case v.Kind() == reflect.String && v.Len() == 0, v.Kind() == reflect.Slice && v.Len() == 0, v.Kind() == reflect.Map && v.Len() == 0:
		return "(empty)"
	case v.Kind() == reflect.Pointer:
		return "(none)"
	}
	return fmt.Sprintf("`%v`", v.Interface())
}
