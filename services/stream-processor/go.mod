module github.com/tocsin-io/tocsin/services/stream-processor

go 1.26.0

require (
	github.com/tocsin-io/tocsin/pkg v0.0.0
	github.com/tocsin-io/tocsin/proto v0.0.0
)

require (
	google.golang.org/protobuf v1.36.12 // indirect
	pgregory.net/rapid v1.3.0 // indirect
)

replace github.com/tocsin-io/tocsin/proto => ../../proto

replace github.com/tocsin-io/tocsin/pkg => ../../pkg
