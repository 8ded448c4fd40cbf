// Package mutants holds deliberate bugs of the protocols in docs/EXACTLY_ONCE.md, and the run that shows that each is caught, and by what.
//
// A checker that finds nothing may be right or blind. So every rule of the protocols is broken here on purpose, one at a time, and
// something must say so: best the history checker at the end of a simulation, else the service itself, which stops and says why, else a test of
// the package. A mutant that nothing catches is a finding about the tests.
//
// A mutant is an edit of a source file: an old text, which must stand in it exactly once, and a new one. It is applied with
// `go test -overlay`, so no bug ever stands in the product's sources, not even behind a build tag, and nobody who reads them has to
// think it away. The price is that an edit may no longer fit when the source changes; then TestEveryMutantApplies, which runs in `make test`,
// fails and names it.
//
//	make mutants                  all of them
//	make mutants MUTANT=router    those whose name has it in it
//
// The run (TestMutants) is behind the build tag "mutants", because it builds a test binary for each.
package mutants
