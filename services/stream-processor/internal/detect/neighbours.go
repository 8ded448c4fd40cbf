package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const (
	knnSample = 128 // windows kept
	knnK      = 8
)

// neighbours compares a window with the last 128 learned ones. As knn its score is the mean distance to the nearest 8 (Angiulli and
// Pizzuti 2002, "Fast outlier detection in high dimensional spaces"); as lof that distance in relation to what it is for those 8 themselves
// (the local outlier factor of Breunig, Kriegel, Ng and Sander 2000, in the simplified form of Schubert, Zimek and Kriegel 2014), so
// that modes of different density are held to their own. The stored distances are kept exact as windows come and go (incremental: Pokrajac,
// Lazarevic and Latecki 2007). Both are at home where a machine has several modes, which no mean describes.
//
// Machines of more than 256 sensors get no opinion. 1 KiB per machine and 548 bytes per sensor; 128*d operations to score and for knn to learn, some
// twenty times that for lof to learn.
type neighbours struct {
	vector
	local  bool
	points []float32 // ring of vectors
	reach  []float32 // mean distance of each to its own nearest; lof only
	far    []float32 // distance of each to the farthest of these
	n      uint64    // windows in the ring, ever
	score  rarity

	distance [knnSample]float32 // scratch
}

func newKNN(c *Config) Detector {
	return &neighbours{vector: vector{memory: c.Neighbour.Memory, most: 256}}
}

func newLOF(c *Config) Detector {
	return &neighbours{vector: vector{memory: c.Neighbour.Memory, most: 256}, local: true}
}

func (d *neighbours) Grow(sensors []string) {
	if !d.grow(len(sensors)) {
		return
	}
	d.points, d.reach, d.far, d.n, d.score = nil, nil, nil, 0, rarity{}
	if len(d.z) > 0 {
		d.points = make([]float32, knnSample*len(d.z))
		if d.local {
			d.reach, d.far = make([]float32, knnSample), make([]float32, knnSample)
		}
	}
}

func (d *neighbours) point(i int) []float32 { return d.points[i*len(d.z) : (i+1)*len(d.z)] }

func (d *neighbours) held() int { return int(min(d.n, knnSample)) }

// nearest holds the knnK points that are nearest so far, nearest first.
type nearest struct {
	at       [knnK]uint8
	distance [knnK]float32
	n        int
}

func (k *nearest) add(i int, distance float32) {
	if k.n == knnK {
		if !(distance < k.distance[knnK-1]) {
			return
		}
		k.n--
	}
	j := k.n
	for ; j > 0 && k.distance[j-1] > distance; j-- {
		k.at[j], k.distance[j] = k.at[j-1], k.distance[j-1]
	}
	k.at[j], k.distance[j] = uint8(i), distance
	k.n++
}

func (k *nearest) mean() float32 {
	var sum float32
	for _, x := range k.distance[:k.n] {
		sum += x
	}
	return sum / float32(max(k.n, 1))
}

// around finds the neighbours of z; the distances to all points stay in d.distance.
func (d *neighbours) around() nearest {
	var k nearest
	for i := range d.held() {
		var sum float32
		for j, x := range d.point(i) {
			e := x - float32(d.z[j])
			sum += e * e
		}
		d.distance[i] = float32(math.Sqrt(float64(sum)))
		k.add(i, d.distance[i])
	}
	return k
}

// of is the mean distance of point i to its nearest among the others, and the farthest of these.
func (d *neighbours) of(i int) (mean, far float32) {
	var k nearest
	p := d.point(i)
	for o := range d.held() {
		if o == i {
			continue
		}
		var sum float32
		for j, x := range d.point(o) {
			e := x - p[j]
			sum += e * e
		}
		k.add(o, float32(math.Sqrt(float64(sum))))
	}
	if k.n < knnK {
		return k.mean(), math.MaxFloat32
	}
	return k.mean(), k.distance[knnK-1]
}

// outlying is the score of neighbours found.
func (d *neighbours) outlying(k *nearest) float64 {
	const tiny = 1e-3 // standard deviations: nearer than that is the same place
	x := math.Log(float64(k.mean()) + tiny)
	if d.local {
		var sum float64
		for _, i := range k.at[:k.n] {
			sum += float64(d.reach[i])
		}
		x -= math.Log(sum/float64(k.n) + tiny)
	}
	return x
}

func (d *neighbours) Score(w *Window, s *Scores) {
	if len(d.z) == 0 || d.score.n < minRarity || d.take(w, mostDeviates) == 0 {
		return
	}
	k := d.around()
	s.Joint = float32(d.score.surprise(d.outlying(&k)))
	for i := range s.Share {
		var e float64 // distance from the middle of the neighbours
		for _, p := range k.at[:k.n] {
			e += float64(d.point(int(p))[i])
		}
		s.Share[i] = float32(square(e/float64(k.n) - d.z[i]))
	}
	portion(s.Share)
}

// Follow does nothing: there is no running state.
func (d *neighbours) Follow(*Window) {}

func (d *neighbours) Learn(w *Window) {
	if len(d.z) == 0 {
		return
	}
	if d.take(w, strange) > 0 {
		k := d.around()
		if d.held() >= 2*knnK {
			d.score.learn(d.outlying(&k), d.memory)
		}
		d.replace()
	}
	d.learn(w)
}

// replace puts z in the place of the oldest point. For lof, those that had the old one among their nearest, or have the new one now, are told: some two dozen.
func (d *neighbours) replace() {
	at := int(d.n % knnSample)
	var gone [knnSample]float32 // distances to the old one
	full := d.n >= knnSample
	if d.local && full {
		old := d.point(at)
		for i := range knnSample {
			var sum float32
			for j, x := range d.point(i) {
				e := x - old[j]
				sum += e * e
			}
			gone[i] = float32(math.Sqrt(float64(sum)))
		}
	}
	for i, z := range d.z {
		d.point(at)[i] = float32(z)
	}
	d.n++
	for i := range d.reach[:min(len(d.reach), d.held())] {
		if i == at || d.distance[i] <= d.far[i] || full && gone[i] <= d.far[i] {
			d.reach[i], d.far[i] = d.of(i)
		}
	}
}

func (d *neighbours) AppendState(dst []byte) []byte {
	dst = d.appendState(dst)
	dst = codec.AppendU64(dst, d.n)
	dst = d.score.appendState(dst)
	for _, x := range d.points {
		dst = codec.AppendF32(dst, x)
	}
	for i := range d.reach {
		dst = codec.AppendF32(codec.AppendF32(dst, d.reach[i]), d.far[i])
	}
	return dst
}

func (d *neighbours) RestoreState(r *codec.Reader) {
	if !d.vector.restoreState(r) {
		r.Fail("windows of other sensors")
		return
	}
	d.n = r.U64()
	d.score.restoreState(r)
	for i := range d.points {
		d.points[i] = r.F32()
	}
	for i := range d.reach {
		if d.reach[i], d.far[i] = r.F32(), r.F32(); !(d.reach[i] >= 0 && d.far[i] >= 0) {
			r.Fail("distance below 0")
		}
	}
}
