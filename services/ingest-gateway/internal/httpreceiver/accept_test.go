package httpreceiver

import (
	"testing"
	"time"
)

var timeZero = time.Unix(0, 0)

func TestWantsProtobuf(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "application/json": false, "application/x-protobuf": true, "application/protobuf;q=0.5": true,
		"application/json, application/x-protobuf": false, "text/html, application/x-protobuf, */*": true, ";;": false,
	} {
		if got := wantsProtobuf([]string{accept}); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}
