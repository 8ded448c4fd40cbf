// Package ingestclient sends SensorFrames to an ingest-gateway and keeps them until the gateway has them in Kafka.
//
// # What it promises
//
//   - A frame that Send took is either acknowledged, reported to OnReject, or still held when Close says so. Lost
//     connections, lost answers, 429, 503 and RETRY never lose it; it is sent again unchanged, with the sequence it had, so
//     the processor counts it once.
//   - Frames of one machine (gateway_id, equipment_id) reach Kafka in the order of the Send calls, whatever fails (but see
//     Config.MaxInFlightPerMachine). While a frame of a machine is refused, later frames of that machine wait behind it; other machines go on.
//   - Memory is bounded by Config.MaxBufferedBytes. When it is used up, Send blocks: the caller is the back-pressure.
//
// # How it is built
//
// Machines are hashed onto lanes; a lane is one goroutine with one request, or one stream, at a time. In a lane every
// machine has its own queue, and takes turns with the others, so that a machine whose gateway is over its rate does not hold up
// the rest. The lane decides what may be sent (queue.go, pure: it reads no clock and does no I/O), a transport carries it
// (http.go: length-delimited bulk; grpc.go: pipelined stream), and gives back one outcome for each frame.
//
// Locks: Client.mu and lane.mu are leaves; neither is held while a callback or I/O runs, and never both at once.
package ingestclient
