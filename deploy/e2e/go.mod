module github.com/tocsin-io/tocsin/deploy/e2e

go 1.26.0

require (
	github.com/tocsin-io/tocsin/pkg v0.0.0
	github.com/tocsin-io/tocsin/proto v0.0.0
)

replace github.com/tocsin-io/tocsin/proto => ../../proto

replace github.com/tocsin-io/tocsin/pkg => ../../pkg
