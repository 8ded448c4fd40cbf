//go:build !amd64 || purego

package wide

func best() kernel { return plainGo }

func (k kernel) surprises(dst []float32, x *window, lanes []lane) {
	logsGo(dst, x, lanes)
	surprisesGo(dst)
}

func (k kernel) scorePair(dst, dst2 []float32, x, y *window, _ int, lanes []lane) {
	plainPair(dst, dst2, *x, *y, lanes)
}
