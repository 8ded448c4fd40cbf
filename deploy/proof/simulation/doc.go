// Package simulation runs the whole fleet of services in one testing/synctest bubble, on virtual time and a network in memory, over an
// embedded broker, injects faults at the steps of its protocols, lets it come to rest and has package history check what it left.
//
// A run is named by its seed: the seed decides the load and the schedule of faults. The Go scheduler and the libraries' own random numbers are
// not in its hand, so a seed that failed fails often again, not always.
//
// Each seed and each scenario runs in a process of its own (see runner.go): libraries keep pools at package level whose channels must not
// travel from bubble to bubble, and a hang then ends one run, with its stacks. The build tag synctests, which makes the Kafka client wait in a way
// that a bubble can see, is added by the driver where it is missing.
package simulation
