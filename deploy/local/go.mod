module github.com/tocsin-io/tocsin/deploy/local

go 1.26

