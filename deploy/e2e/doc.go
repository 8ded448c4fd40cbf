// Package e2e tests Tocsin as its users meet it: the built binaries, their ports, their files. `make build` comes first.
package e2e
