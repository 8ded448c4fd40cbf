package wide

import "math"

// Learn takes a row into what is usual. Rows that are learned from make windows of their own with those learned before: the order is score, push, and learn when it is
// known that nothing was wrong, however much later. Features whose newest value is missing learn nothing. resolution, if not nil, is the smallest difference that
// each feature can show: no deviation is believed below half of it. at is the time under which the row was pushed; of a row that is not remembered any more, tails and
// share learn nothing. It does not allocate.
//
// Cost: some 100 ns for each feature. Source: see the package.
func (m *Model) Learn(row, resolution []float32, at int64) {
	row = row[:m.n]
	l := lesson{
		memory: float32(m.cfg.Memory), nu: float32(1 - m.cfg.Threshold),
		boundary: float32(math.Log2(1 - m.cfg.Threshold)), window: m.taught.with(row),
	}
	l.keep = 1 - 1/l.memory
	said := m.said.of(at)
	outside, judged := 0, 0
	for i, v := range row {
		if v != v || abs(v) > math.MaxFloat32 {
			continue
		}
		if resolution != nil && resolution[i] > 0 {
			m.floor[i] = resolution[i] / 2
		}
		n, deviation := m.learned[i], m.deviation(i)
		word := uint8(nothing)
		if said != nil {
			word = said[i]
		}
		if word != nothing {
			judged++
			if word != inside {
				outside++
			}
		}
		if n >= settled {
			m.step(&l, i, n, deviation, word)
		}
		m.locate(&l, i, v, deviation)
		m.compile(l.boundary, i)
	}
	if judged > 0 {
		m.shareOut.learn(float64(outside)/float64(judged), m.cfg.Memory)
	}
	m.taught.push(row)
}

// lesson is what all features of one row have in common.
type lesson struct {
	memory, nu, keep, boundary float32
	window                     window
}

// locate learns mean and variance with forgetting (West 1979, "Updating mean and variance estimates: an improved method"). Values far
// out are clipped before they are learned, so one outlier moves it little.
func (m *Model) locate(l *lesson, i int, v, deviation float32) {
	n := m.learned[i]
	if n == 0 {
		m.mean[i], m.learned[i] = v, 1
		return
	}
	d := v - m.mean[i]
	if n >= clipFrom {
		d = max(-clipAt*deviation, min(d, clipAt*deviation))
	}
	if n < l.memory {
		n++
		m.learned[i] = n
		if n == ready {
			m.isReady++
		}
	}
	a := 1 / n
	m.mean[i] += float32(a * d)
	m.variance[i] = min((1-a)*(m.variance[i]+float32(float32(a*d)*d)), math.MaxFloat32/1e6)
}

// step is one step of gradient descent on |w|^2/2 - rho + max(0, rho-w.phi)/nu, and one observation of the tail. rho's gradient is scaled by nu, which
// makes it the stochastic quantile of w.phi (Robbins and Monro 1951): of what was said when the window was scored, if that is known. A window with missing values teaches nothing.
func (m *Model) step(l *lesson, i int, n, deviation float32, said uint8) {
	const perReach = 1.0 / reach
	scale := 1 / deviation
	if !(scale <= math.MaxFloat32) {
		return // constant so far: every distance is without measure
	}
	var phi [WindowSize]float32
	var f float32 // w.phi
	mean := m.mean[i]
	for k := range phi {
		a := float32(abs(l.window[k][i]-mean) * scale)
		if a != a {
			return
		}
		w := m.weight[k][i]
		phi[k] = (1 - float32(min(a, reach)*perReach)) * (1 / norm)
		f += float32(w * phi[k])
	}
	rate := 1 / min(firstRate+n-settled, l.memory)
	if n >= l.memory {
		m.peaks[i] *= l.keep
		m.excess[i] *= l.keep
	}
	rho := m.rho[i]
	outside := f < rho
	var pull float32
	if outside {
		pull = rate / l.nu
	}
	if said != nothing {
		if outside = said != inside; outside {
			far := min((float32(said)-0.5)/saidSteps, mostExcess)
			m.excess[i] += float32(far * m.beta(i))
			m.peaks[i]++
		}
	}
	if outside {
		m.rho[i] = rho - float32(rate*(1-l.nu))
	} else {
		m.rho[i] = rho + float32(rate*l.nu)
	}
	for k := range phi {
		w := m.weight[k][i]
		m.weight[k][i] = w - float32(rate*w) + float32(pull*phi[k])
	}
}

// beta is the mean excess beyond the plane, with what it is to begin with as prior.
func (m *Model) beta(i int) float32 {
	return max((m.excess[i]+firstBeta*priorPeaks)/(m.peaks[i]+priorPeaks), minBeta*firstBeta)
}

// compile writes what the kernels need of feature i; boundary is log2 nu.
//
//	-ln p = -ln nu + (rho - w.phi)/beta = -ln nu + (rho - sum(w)/norm)/beta + sum(w[k]*|x[k]-mean|) / (reach*norm*deviation*beta)
func (m *Model) compile(boundary float32, i int) {
	if m.learned[i] < ready {
		return
	}
	p, j := &m.lanes[i/laneWidth], i%laneWidth
	inverse := -math.Log2E / m.beta(i)
	scale := inverse / (reach * norm * m.deviation(i))
	if !(scale >= -math.MaxFloat32) {
		scale = -math.MaxFloat32 / 1e6 // constant so far: any other value is as far as can be
	}
	var sum float32
	p.mean[j] = m.mean[i]
	for k := range p.weight {
		w := m.weight[k][i]
		p.weight[k][j] = w * scale
		sum += w
	}
	p.offset[j] = boundary + float32((m.rho[i]-sum*(1/norm))*inverse)
}

// share learns what share of a machine's features is outside at once, which says how much they depend on each other: mean and variance, with forgetting.
type share struct {
	n, mean, variance float64
}

const shareSettled = 30

func (s *share) learn(v float64, memory int) {
	if s.n < float64(memory) {
		s.n++
	}
	d, a := v-s.mean, 1/s.n
	s.mean += float64(a * d)
	s.variance = (1 - a) * (s.variance + float64(float64(a*d)*d))
}

// surprise is that of a share of n features or more, for a normal distribution whose variance is never below that of independent features.
func (s *share) surprise(v, n, nu float64) float64 {
	if s.n < shareSettled || n == 0 {
		return math.NaN()
	}
	sd := math.Sqrt(max(s.variance, nu*(1-nu)/n))
	z := (v - max(s.mean, nu)) / sd
	return normalSurprise(z)
}

// normalSurprise is -ln P(Z > z). Far out it is the asymptotic series of the logarithm, which erfc cannot give.
func normalSurprise(z float64) float64 {
	if z < 20 {
		return -math.Log(math.Erfc(z/math.Sqrt2) / 2)
	}
	return min(z*z/2+math.Log(z)+0.5*math.Log(2*math.Pi), 500)
}
