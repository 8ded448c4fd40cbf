// Package load measures, on the real stack, promises that only show under load:
//
//   - Restore: a processor with 500 MB of state that is killed is ready, and judges again, within 15 s.
//   - Poison: a million records of which one in a hundred can never be judged; each of those becomes one dead letter with its reason,
//     every other is judged once and stands in the lake once, nothing restarts; what a repair makes judgeable arrives once.
//   - Hot: a machine that sends as much as all others together at most doubles the others' p99 delay, and memory stays under its caps.
//   - Pages: at 100 alerts a second an anomaly in Kafka is a page at the receiver within a second (p99).
//   - Burst: 100,000 alerts in 1,000 groups at once are all told, beside Alertmanager in the same run.
//   - Outage: a receiver is away while the router is killed 50 times: nobody misses an alert, and repeats carry the same key.
//
// Each gives a Report: what was asked, what was measured, what was broken. Records are made before anything is measured, so that the
// generator does not take the processors that the measured services need. Delays come from the broker's timestamps in the log, read
// when the run is over. How much of the machine's time other programs took during the run is in the report: a disturbed run shows.
package load
