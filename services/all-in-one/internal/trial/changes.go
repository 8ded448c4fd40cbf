package trial

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/pkg/config"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// Change is one key of the configuration that differs, by its path in the section detection.
type Change struct{ Key, Current, Proposed string }

func changes(current, proposed *streamprocessor.DetectionConfig) []Change {
	return differ("", reflect.ValueOf(*current), reflect.ValueOf(*proposed), nil)
}

func differ(path string, a, b reflect.Value, out []Change) []Change {
	if reflect.DeepEqual(a.Interface(), b.Interface()) {
		return out
	}
	if a.Kind() == reflect.Struct {
		if fields := config.Fields(a.Type()); len(fields) > 0 {
			for _, f := range fields {
				at := f.Name
				if path != "" {
					at = path + "." + f.Name
				}
				out = differ(at, a.FieldByIndex(f.Index), b.FieldByIndex(f.Index), out)
			}
			return out
		}
	}
	return append(out, Change{path, word(a), word(b)})
}

func word(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return x.String()
	case fmt.Stringer:
		return x.String()
	case []string:
		return strings.Join(x, ", ")
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.Struct, reflect.Pointer:
		b, err := json.Marshal(v.Interface())
		if err == nil {
			return string(b)
		}
	}
	return fmt.Sprint(v.Interface())
}
