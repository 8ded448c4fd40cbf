//go:build !synctests

package simulation_test

const inBubbles = false
