package chaos

import (
	"testing"

	"go.uber.org/goleak"
)

// A connection that is cut while bytes are under way can leave toxiproxy's goroutines of it behind (2.5.0: nobody takes what they pass on any more). They
// are the test's network, not what is tested.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(
		m,
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"),
	)
}
