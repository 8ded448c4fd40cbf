package frame

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math"
	"strconv"
	"time"
)

// MaxIDLength is the most bytes that an id or a sensor name may have.
const MaxIDLength = 128

// Limits are what Validate holds a frame against.
type Limits struct {
	// MaxValues is the most values (S x T) of one frame.
	MaxValues int
	// Now and MaxFuture: no sample may be later than Now+MaxFuture. A zero Now switches the check off.
	Now       time.Time
	MaxFuture time.Duration
	// SchemaSensors is the number of sensors of the schema that SchemaID names, looked up by the caller;
	// negative when not known: then only S x T = len(values) for some S is checked. 0 means that there is no such schema.
	SchemaSensors int
}

// DefaultLimits are those that CONTRACTS states, for a frame checked at now.
func DefaultLimits(now time.Time) Limits {
	return Limits{MaxValues: 30_000, Now: now, MaxFuture: 5 * time.Minute, SchemaSensors: -1}
}

// Validate tells whether f is a frame that the system takes, or else the first field that is wrong, as a *FieldError.
// Its cost is linear in the frame's size, whatever the sensors' names are, and it allocates only for an error (or when
// a frame is wider than all before it).
func Validate(f *Frame, lim Limits) error {
	if err := checkID("equipment_id", f.EquipmentID); err != nil {
		return err
	}
	if err := checkID("gateway_id", f.GatewayID); err != nil {
		return err
	}
	if f.Sequence == 0 {
		return &FieldError{"sequence", "must be 1 or more"}
	}
	if err := checkTimes(f, lim); err != nil {
		return err
	}
	if len(f.Values) > lim.MaxValues {
		return &FieldError{"values", fmt.Sprintf("%d values, at most %d are allowed", len(f.Values), lim.MaxValues)}
	}
	sensors, err := checkSensors(f, lim)
	if err != nil {
		return err
	}
	if want := sensors * f.Samples(); len(f.Values) != want {
		return &FieldError{"values", fmt.Sprintf("%d values, but %d sensors x %d samples need %d",
			len(f.Values), sensors, f.Samples(), want)}
	}
	return checkValues(f)
}

// CheckID tells whether id is one of [A-Za-z0-9._:-]{1,128}; field is the name to blame.
func CheckID(field string, id []byte) error { return checkID(field, id) }

// CheckSensors tells whether names can be the sensors of a frame or of a schema: at least one, no two alike, each of
// the alphabet of ids or space, slash, parentheses, percent, and at most 128 bytes.
func CheckSensors(names [][]byte) error {
	var set nameSet
	return checkNames(names, &set)
}

func checkTimes(f *Frame, lim Limits) error {
	if f.BaseTimeUS < 0 {
		return &FieldError{"base_time_us", "before 1970-01-01"}
	}
	latest := int64(math.MaxInt64)
	if !lim.Now.IsZero() {
		latest = lim.Now.Add(lim.MaxFuture).UnixMicro()
	}
	if f.BaseTimeUS > latest {
		return &FieldError{"base_time_us", fmt.Sprintf("more than %s ahead of the clock", lim.MaxFuture)}
	}
	room := uint64(latest - f.BaseTimeUS)
	var before uint64
	for i, o := range f.OffsetsUS {
		if o < before {
			return &FieldError{indexed("time_offsets_us", i), "smaller than the one before"}
		}
		if o > room {
			return &FieldError{indexed("time_offsets_us", i), fmt.Sprintf("more than %s ahead of the clock", lim.MaxFuture)}
		}
		before = o
	}
	return nil
}

// checkSensors returns S.
func checkSensors(f *Frame, lim Limits) (int, error) {
	if len(f.SchemaID) > 0 {
		if len(f.Sensors) > 0 {
			return 0, &FieldError{"schema_id", "given beside sensors: exactly one of them is allowed"}
		}
		if err := checkID("schema_id", f.SchemaID); err != nil {
			return 0, err
		}
		if lim.SchemaSensors == 0 {
			return 0, &FieldError{"schema_id", "not a registered schema"}
		}
		if lim.SchemaSensors < 0 {
			if len(f.Values) == 0 {
				return 0, &FieldError{"values", "empty"}
			}
			return len(f.Values) / f.Samples(), nil
		}
		return lim.SchemaSensors, nil
	}
	if len(f.Sensors) == 0 {
		return 0, &FieldError{"sensors", "empty, and there is no schema_id"}
	}
	if len(f.Sensors) > lim.MaxValues {
		return 0, &FieldError{"sensors", fmt.Sprintf("%d sensors, at most %d are allowed", len(f.Sensors), lim.MaxValues)}
	}
	return len(f.Sensors), checkNames(f.Sensors, &f.names)
}

func checkNames(names [][]byte, set *nameSet) error {
	if len(names) == 0 {
		return &FieldError{"sensors", "empty"}
	}
	for i, name := range names {
		if reason := checkChars(name, sensorChar); reason != "" {
			return &FieldError{indexed("sensors", i), reason}
		}
	}
	if i, first := set.duplicate(names); i >= 0 {
		return &FieldError{indexed("sensors", i), "the same name as " + indexed("sensors", first)}
	}
	return nil
}

func checkValues(f *Frame) error {
	coded := len(f.Qualities) > 0
	if coded && len(f.Qualities) != len(f.Values) {
		return &FieldError{"qualities", fmt.Sprintf("%d codes for %d values; give one for each or none", len(f.Qualities), len(f.Values))}
	}
	for i, q := range f.Qualities {
		if q > QualityMissing {
			return &FieldError{indexed("qualities", i), "unknown quality code"}
		}
	}
	const exponent = 0x7f800000 // all ones: infinite or NaN
	for i, v := range f.Values {
		if math.Float32bits(v)&exponent != exponent {
			continue
		}
		if v == v {
			return &FieldError{indexed("values", i), "infinite"}
		}
		if coded && f.Qualities[i] != QualityMissing {
			return &FieldError{indexed("values", i), "NaN without quality missing"}
		}
	}
	return nil
}

func checkID(field string, id []byte) error {
	if reason := checkChars(id, idChar); reason != "" {
		return &FieldError{field, reason}
	}
	return nil
}

func checkChars(s []byte, class uint8) string {
	if len(s) == 0 {
		return "empty"
	}
	if len(s) > MaxIDLength {
		return fmt.Sprintf("%d bytes long, at most %d are allowed", len(s), MaxIDLength)
	}
	for _, c := range s {
		if charClass[c]&class == 0 {
			if class == idChar {
				return "only letters, digits and . _ : - are allowed"
			}
			return "only letters, digits, space and . _ : - / ( ) % are allowed"
		}
	}
	return ""
}

// Classes of the bytes that ids and sensor names are made of.
const (
	idChar     uint8 = 1
	sensorChar uint8 = 2
)

var charClass = func() (t [256]uint8) {
	for c := range t {
		switch b := byte(c); {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', bytes.IndexByte([]byte("._:-"), b) >= 0:
			t[c] = idChar | sensorChar
		case bytes.IndexByte([]byte(" /()%"), b) >= 0:
			t[c] = sensorChar
		}
	}
	return t
}()

func indexed(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }

// nameSet finds equal names with memory that is used again: an open-addressing table of indexes, hashed with a
// seed of its own so that nobody can choose names that collide. It holds 8 to 16 bytes per name of the widest frame seen.
type nameSet struct {
	seed   maphash.Seed
	seeded bool
	table  []int32 // index+1 into names; 0: free
}

// few names are compared pair by pair, which is faster than hashing them.
const few = 12

// duplicate returns the first name that stood before, and where it stood; -1 when there is none.
func (s *nameSet) duplicate(names [][]byte) (at, first int) {
	if len(names) <= few {
		for i := range names {
			for j := range i {
				if bytes.Equal(names[i], names[j]) {
					return i, j
				}
			}
		}
		return -1, -1
	}
	if !s.seeded {
		s.seed, s.seeded = maphash.MakeSeed(), true
	}
	size := 32
	for size < 2*len(names) {
		size *= 2
	}
	if cap(s.table) < size {
		s.table = make([]int32, size)
	}
	table := s.table[:size]
	clear(table)
	mask := uint64(size - 1)
	for i, name := range names {
		for slot := maphash.Bytes(s.seed, name) & mask; ; slot = (slot + 1) & mask {
			j := table[slot]
			if j == 0 {
				table[slot] = int32(i + 1)
				break
			}
			if bytes.Equal(name, names[j-1]) {
				return i, int(j - 1)
			}
		}
	}
	return -1, -1
}
