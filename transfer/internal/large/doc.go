// Package large marks tests that move much data, or many nodes on a virtual clock, without running side by side what
// smaller tests do not run too. With the race detector they take ten times as long; make test runs them without it, in
// its second part.
package large
