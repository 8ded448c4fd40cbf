module github.com/tocsin-io/tocsin/services/fleet-simulator

go 1.26

require (
	github.com/tocsin-io/tocsin/pkg v0.0.0
	github.com/tocsin-io/tocsin/proto v0.0.0
)

replace github.com/tocsin-io/tocsin/proto => ../../proto

replace github.com/tocsin-io/tocsin/pkg => ../../pkg
