//go:build !amd64 || purego

package bandwidth

func read(x []float32) float32 { return readGo(x) }

func fiveToOne(dst, x0, x1, x2, x3, x4 []float32) { fiveToOneGo(dst, x0, x1, x2, x3, x4) }
