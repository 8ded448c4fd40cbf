package simulation

import (
	"testing"
	"testing/synctest"
	"time"
	"fmt"
"encoding/json"
)

func TestVertical(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		opts := DefaultOptions(1, dir)
		opts.Gateways, opts.Processors, opts.Writers, opts.Routers = 1, 1, 1, 1
		r := play(opts, 5*time.Minute, nil)
		fmt.Println(r)
		b, _ := json.MarshalIndent(r, "", " ")
		fmt.Println(string(b))
	})
}
