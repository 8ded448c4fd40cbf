//go:build !amd64 || purego

package iforest

// hasWalk tells that walk is there.
const hasWalk = false

func walk(*uint64, *float32, *uint64, *float64, int, int, int) {}
