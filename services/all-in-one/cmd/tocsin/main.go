// Command tocsin is the whole of Tocsin in one binary. See tocsin --help.
package main

import (
	"os"

	"github.com/tocsin-io/tocsin/services/all-in-one/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
