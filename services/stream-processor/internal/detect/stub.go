package detect

const (
	minMemory  = 50
	maxMemory  = 1_000_000
	maxHistory = 64
)

func newLimits(*Config) Detector  { return nil }
func newEWMA(*Config) Detector    { return nil }
func newRobustZ(*Config) Detector { return nil }
func newSpread(*Config) Detector  { return nil }
