package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Difference is one key that two configurations have otherwise, by its path.
type Difference struct{ Key, A, B string }

// Differences lists the keys that two structs of one type have otherwise, in the order of their fields. Values are given as people write them; lists and maps are one key each.
func Differences(a, b any) []Difference {
	var out []Difference
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	leaves("", va.Type(), nil, func(key string, index []int) {
		x, y := va.FieldByIndex(index), vb.FieldByIndex(index)
		if !reflect.DeepEqual(x.Interface(), y.Interface()) {
			out = append(out, Difference{key, word(x), word(y)})
		}
	})
	return out
}

// Merge changes to, which points to a struct, where people have applied something and the file has not changed: keys that mine has otherwise than base, and to like base, become mine's.
// It lists these keys, and those that both have changed, to different ends: they stay as to has them. skip are keys that stay as to has them without a word.
func Merge(base, mine, to any, skip ...string) (kept, overruled []Difference) {
	b, m, t := reflect.ValueOf(base), reflect.ValueOf(mine), reflect.ValueOf(to).Elem()
	leaves("", b.Type(), nil, func(key string, index []int) {
		for _, s := range skip {
			if key == s || strings.HasPrefix(key, s+".") {
				return
			}
		}
		was, is, now := b.FieldByIndex(index), m.FieldByIndex(index), t.FieldByIndex(index)
		equal := func(x, y reflect.Value) bool { return reflect.DeepEqual(x.Interface(), y.Interface()) }
		switch {
		case equal(was, is) || equal(is, now):
		case equal(was, now):
			kept = append(kept, Difference{key, word(now), word(is)})
			now.Set(is)
		default:
			overruled = append(overruled, Difference{key, word(is), word(now)})
		}
	})
	return kept, overruled
}

// leaves calls f for each key of a struct that is not a struct of keys itself, with its path and the index to reach it by.
func leaves(path string, t reflect.Type, index []int, f func(string, []int)) {
	for _, field := range Fields(t) {
		key := field.Name
		if path != "" {
			key = path + "." + key
		}
		i := append(append([]int(nil), index...), field.Index...)
		if field.Type.Kind() == reflect.Struct && len(Fields(field.Type)) > 0 {
			leaves(key, field.Type, i, f)
			continue
		}
		f(key, i)
	}
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
