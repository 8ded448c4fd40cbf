// Package bandwidth measures what memory can deliver to one core, to hold the wide kernels against: two loops that do nearly nothing but move the bytes.
// It is used by the benchmark only.
package bandwidth

// Read sums x: reading, and nothing else.
func Read(x []float32) float32 { return read(x) }

// FiveToOne adds five rows of equal length into dst: the traffic of a window of five that becomes one score.
func FiveToOne(dst, x0, x1, x2, x3, x4 []float32) {
	n := len(dst)
	fiveToOne(dst, x0[:n], x1[:n], x2[:n], x3[:n], x4[:n])
}

func readGo(x []float32) float32 {
	var a, b, c, d float32
	for ; len(x) >= 4; x = x[4:] {
		a += x[0]
		b += x[1]
		c += x[2]
		d += x[3]
	}
	for _, v := range x {
		a += v
	}
	return a + b + c + d
}

func fiveToOneGo(dst, x0, x1, x2, x3, x4 []float32) {
	n := len(dst)
	x0, x1, x2, x3, x4 = x0[:n], x1[:n], x2[:n], x3[:n], x4[:n]
	for i := range dst {
		dst[i] = x0[i] + x1[i] + x2[i] + x3[i] + x4[i]
	}
}
