package detect

import "math"

// normalSurprise is -ln P(|Z| > z) of a standard normal Z, for any z >= 0 (where the probability itself would underflow, too), to 2e-7.
//
// With x = z/sqrt(2) and t = 1/(1+x/2), erfc(x) = t exp(-x*x + p(t)), where p is smooth on the whole of (0, 1]: a polynomial of degree 9, interpolated at Chebyshev's points.
func normalSurprise(z float64) float64 {
	const p0, p1, p2, p3, p4 = -0.671794076054334, 0.672642217155487, 0.0473431062908972, -0.0468748881788446, -0.00987376874731001
	const p5, p6, p7, p8, p9 = 0.00870381203515508, 0.00177656463497244, -0.00204873476040346, -0.000207909120573779, 0.000333735893863096
	d := 1 + z*(0.5/math.Sqrt2)
	u := 2/d - 1
	u2 := u * u
	u4 := u2 * u2
	p := (p0 + p1*u) + u2*(p2+p3*u) + u4*((p4+p5*u)+u2*(p6+p7*u)+u4*(p8+p9*u))
	return max(0, z*z/2+math.Log(d)-p)
}

// studentSurprise is about -ln P(|T| > t) for Student's t with nu degrees of freedom, by Wallace's (1959) transformation to a normal
// deviate ("Bounds on normal approximations to Student's and the chi-square distributions"), good to 2 % in z for nu >= 3. Its tails stay
// polynomial: a scale learned from few windows is not trusted far out.
func studentSurprise(t, nu float64) float64 {
	t = min(math.Abs(t), 1e150)
	z := (8*nu + 1) / (8*nu + 3) * math.Sqrt(nu*math.Log1p(t*t/nu))
	return normalSurprise(z)
}
