//go:build !purego

package iforest

// hasWalk tells that walk is there.
const hasWalk = true

// walk takes groups of eight rows down one tree and adds the lengths of their paths to sums. A group's keys are stride bytes behind those of the group before, and
// it takes at least one. Every feature and every left of nodes must be in range: train and Decode see to that.
//
//go:noescape
func walk(nodes *uint64, path *float32, keys *uint64, sums *float64, groups, stride, depth int)
