//go:build !linux

package lakeday

import "errors"

func forget(string) (int64, error) { return 0, errors.New("the page cache is dropped on Linux only") }
