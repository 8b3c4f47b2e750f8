//go:build !race

package main

// buildFlags builds the binary the way the tests were built: its packages are
// compiled already then.
func buildFlags() []string { return nil }
