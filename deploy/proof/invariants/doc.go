// Package invariants makes docs/INVARIANTS.md: every promise of Tocsin in a row, with the tests that show it, the faults it was put under, how
// often, what came of it, and the command that repeats it.
//
// It has two sources. registry.yaml says which promises there are, which tests show each, and where in the recorded results its figures
// stand. The results are the files in docs/results, as the full runs of deploy/proof wrote them. No number on the page is written by hand:
// a figure is a path into a results file, and where there is no such file the page says "not yet recorded".
//
// The page cannot be made when a promise has no test, when a test it names does not exist, or when a path leads nowhere. With the JSON
// output of a test run (gotestsum --jsonfile) CheckRun tells in addition whether each of these tests ran there and passed.
package invariants
