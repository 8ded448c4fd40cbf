package detect

import "unsafe"

// Statistical tells whether the detector of that name is a statistic: a few moments of each sensor and a textbook distribution. The judge falls back to these when a model
// fails.
func Statistical(name string) bool {
	switch name {
	case "limits", "ewma", "robust_z", "spread", "cusum":
		return true
	}
	return false
}

// Pauses tells whether the detector of that name may well have no opinion for a long time although it had one before, with values of all sensors at hand: it
// needs hours it has seen, several values in a window, or sisters.
func Pauses(name string) bool {
	return name == "seasonal" || name == "day_shape" || name == "spread" || name == CohortName
}

// Fallback is the statistic that stands in where the configuration names none.
const Fallback = "ewma"

// Bytes is about how much memory the detector of that name holds for a machine of n sensors.
func (c *Config) Bytes(name string, n int) int {
	const vectors = int(unsafe.Sizeof(baseline{})) + 8
	narrow := func(most, fixed, each int) int { // of machines with more sensors it holds nothing
		if n > most {
			return 0
		}
		return fixed + n*(vectors+each)
	}
	switch name {
	case "limits":
		return n * int(unsafe.Sizeof(limitSensor{})) * min(1, len(c.Limits))
	case "ewma":
		return n * int(unsafe.Sizeof(ewmaSensor{}))
	case "robust_z":
		return n * (8 + 5*c.RobustZ.History)
	case "spread":
		return n * int(unsafe.Sizeof(baseline{}))
	case "cusum":
		return n * int(unsafe.Sizeof(cusumSensor{}))
	case "seasonal":
		return n * int(unsafe.Sizeof(seasonalSensor{}))
	case "day_shape":
		return n * int(unsafe.Sizeof(shapeSensor{}))
	case "pca":
		if n > c.PCA.MaxSensors {
			return 0
		}
		return n*int(unsafe.Sizeof(pcaSensor{})) + 4*triangle(n)
	case "iforest":
		return narrow(256, isoTrees*int(unsafe.Sizeof(isoTree{})), 4*isoSample+8)
	case "knn", "lof":
		return narrow(256, 1024, 4*knnSample)
	case "halfspace":
		return narrow(256, hsTrees*(6*hsSplits+2*hsNodes), 16)
	case "one_class":
		return narrow(256, 1024, 4*rffDirections+4)
	case "rrcf":
		return narrow(64, cutTrees*int(unsafe.Sizeof(cutTree{})), 4*cutSample+8*cutNodes)
	case CohortName:
		return 96 + n*int(unsafe.Sizeof(sisterSensor{}))
	case Champion, Shadow:
		return 256 + 12*n
	case WideName:
		return n * 160
	}
	return n * 256
}
