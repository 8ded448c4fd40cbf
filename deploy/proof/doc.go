// Package proof is the root of what shows that nothing is lost or doubled, whatever dies. See README.md.
package proof

import _ "github.com/Shopify/toxiproxy/v2" // the faults of links
