package verdict

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
)

// A link that stands for several alerts must fit into an address, and mean those of its message and no others, on every router and after a restart. So it holds a short
// name of each: nothing has to be remembered, and what has come to the group since is not taken unseen.

// MaxSet is how many alerts a Set names at most.
const MaxSet = maxSubject / refSize

const refSize = 8 // characters: 48 bits, so that two of 100,000 alerts share a name once in 50,000 times

// Ref is the short name of an alert in a Set.
func Ref(alertID string) string {
	sum := sha256.Sum256([]byte("tocsin alert\x00" + alertID))
	return base64.RawURLEncoding.EncodeToString(sum[:refSize*6/8])
}

// NewSet names alerts in a link's subject; false when there are none, or too many. The order of ids does not matter.
func NewSet(ids []string) (subject string, ok bool) {
	if len(ids) == 0 || len(ids) > MaxSet {
		return "", false
	}
	refs := make([]string, len(ids))
	for i, id := range ids {
		refs[i] = Ref(id)
	}
	slices.Sort(refs)
	return strings.Join(refs, ""), true
}

// Refs are the names in a Set.
func Refs(subject string) map[string]bool {
	out := make(map[string]bool, len(subject)/refSize)
	for len(subject) >= refSize {
		out[subject[:refSize]] = true
		subject = subject[refSize:]
	}
	return out
}
