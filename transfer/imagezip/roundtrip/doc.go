// Package roundtrip helps tests to prove that a probe calls nothing free which is in use: filesystems are made by the
// real tools, filled and aged, captured, restored onto a disk of random bytes, and looked at by the real tools again.
//
// What does not live here: anything that programs use; only tests import this package.
package roundtrip
