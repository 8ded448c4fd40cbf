module github.com/tocsin-io/tocsin/pkg

go 1.26

require github.com/tocsin-io/tocsin/proto v0.0.0

replace github.com/tocsin-io/tocsin/proto => ../proto
