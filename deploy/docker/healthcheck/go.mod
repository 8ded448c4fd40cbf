module github.com/tocsin-io/tocsin/deploy/docker/healthcheck

go 1.26
