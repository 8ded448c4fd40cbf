package httpserver

import (
	"reflect"
	"time"
)

const mask = "********"

// Masked turns a configuration struct into plain maps by its mapstructure names, with every field tagged
// `secret:"true"` that is set shown as stars.
func Masked(v any) any { return masked(reflect.ValueOf(v), false) }

func masked(v reflect.Value, secret bool) any {
	if !v.IsValid() {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return masked(v.Elem(), secret)
	case reflect.Struct:
		out := map[string]any{}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name := f.Tag.Get("mapstructure")
			if !f.IsExported() || name == "-" {
				continue
			}
			inner := masked(v.Field(i), f.Tag.Get("secret") == "true")
			if name == ",squash" {
				if m, ok := inner.(map[string]any); ok {
					for k, e := range m {
						out[k] = e
					}
				}
				continue
			}
			if name == "" {
				name = f.Name
			}
			out[name] = inner
		}
		return out
	case reflect.Slice, reflect.Array:
		if secret && v.Len() > 0 {
			return mask
		}
		out := make([]any, v.Len())
		for i := range out {
			out[i] = masked(v.Index(i), secret)
		}
		return out
	case reflect.Map:
		out := map[string]any{}
		for _, k := range v.MapKeys() {
			out[k.String()] = masked(v.MapIndex(k), secret)
		}
		return out
	default:
		if secret && !v.IsZero() {
			return mask
		}
		if d, ok := v.Interface().(time.Duration); ok {
			return d.String()
		}
		return v.Interface()
	}
}
