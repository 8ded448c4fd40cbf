package routing

import (
	"sync"

	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/matcher/compat"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"
)

// engineVersion is the release of Alertmanager in go.mod; amtool compares it with its own.
const engineVersion = "0.34.2"

// library sets what Alertmanager keeps in package variables and its main function sets: without it matchers are read as they were before 0.27, so that files
// which Alertmanager loads are refused, and amtool finds a version of "" and warns at every call.
var library = sync.OnceFunc(func() {
	compat.InitFromFlags(promslog.NewNopLogger(), featurecontrol.NoopFlags{})
	version.Version = engineVersion
})
