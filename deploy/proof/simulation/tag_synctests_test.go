//go:build synctests

package simulation_test

// inBubbles: this binary's Kafka client waits in a way that testing/synctest can see.
const inBubbles = true
