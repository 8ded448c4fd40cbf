module github.com/tocsin-io/tocsin/services/all-in-one

go 1.26

require (
	github.com/tocsin-io/tocsin/pkg v0.0.0
	github.com/tocsin-io/tocsin/proto v0.0.0
	github.com/tocsin-io/tocsin/services/alert-router v0.0.0
	github.com/tocsin-io/tocsin/services/cold-path-writer v0.0.0
	github.com/tocsin-io/tocsin/services/fleet-simulator v0.0.0
	github.com/tocsin-io/tocsin/services/ingest-gateway v0.0.0
	github.com/tocsin-io/tocsin/services/realtime-api v0.0.0
	github.com/tocsin-io/tocsin/services/stream-processor v0.0.0
)

replace github.com/tocsin-io/tocsin/proto => ../../proto

replace github.com/tocsin-io/tocsin/pkg => ../../pkg

replace github.com/tocsin-io/tocsin/services/ingest-gateway => ../ingest-gateway

replace github.com/tocsin-io/tocsin/services/stream-processor => ../stream-processor

replace github.com/tocsin-io/tocsin/services/alert-router => ../alert-router

replace github.com/tocsin-io/tocsin/services/cold-path-writer => ../cold-path-writer

replace github.com/tocsin-io/tocsin/services/realtime-api => ../realtime-api

replace github.com/tocsin-io/tocsin/services/fleet-simulator => ../fleet-simulator
