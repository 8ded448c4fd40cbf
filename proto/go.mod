module github.com/tocsin-io/tocsin/proto

go 1.26.0

