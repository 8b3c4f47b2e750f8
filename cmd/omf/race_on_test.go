//go:build race

package main

// buildFlags builds the binary the way the tests were built: its packages are
// compiled already then, and the race detector watches the real processes too.
func buildFlags() []string { return []string{"-race"} }
