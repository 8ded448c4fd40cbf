package detect

import "math"

// normalSurprise is -ln P(|Z| > z) of a standard normal Z, for any z >= 0 (where the probability itself would underflow, too).
func normalSurprise(z float64) float64 {
	if z < 8 {
		return -math.Log(math.Erfc(z / math.Sqrt2))
	}
	// Asymptotic series of the complementary error function: relative error below 1e-6 from z = 8 on.
	i := 1 / (z * z)
	return z*z/2 + math.Log(z*math.Sqrt(math.Pi/2)) - math.Log1p(-i*(1-3*i*(1-5*i)))
}

// studentSurprise is about -ln P(|T| > t) for Student's t with nu degrees of freedom, by Wallace's (1959) transformation to a normal
// deviate ("Bounds on normal approximations to Student's and the chi-square distributions"), good to 2 % in z for nu >= 3. Its tails stay
// polynomial: a scale learned from few windows is not trusted far out.
func studentSurprise(t, nu float64) float64 {
	t = min(math.Abs(t), 1e150)
	z := (8*nu + 1) / (8*nu + 3) * math.Sqrt(nu*math.Log1p(t*t/nu))
	return normalSurprise(z)
}
