package large

import "testing"

// Test skips a test while the race detector watches.
func Test(t testing.TB) {
	t.Helper()
	if raceDetector {
		t.Skip("runs without the race detector, in the second part of make test")
	}
}
