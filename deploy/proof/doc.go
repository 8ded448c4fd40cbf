// Package proof is the root of what shows that nothing is lost or doubled, whatever dies. See README.md.
package proof
