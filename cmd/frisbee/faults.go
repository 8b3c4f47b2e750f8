package main

import (
	"fmt"
	"strconv"
	"strings"

	"loadnode/transfer/mcast"
)

// faults are what --faults does to what is received: for tests of a network on
// a machine that cannot make a bad one. It is not in the usage.
type faults struct {
	mcast.Faults
	seed uint64
}

// parseFaults reads a list such as loss=0.05,reorder=0.1,seed=3. Parts are
// probabilities from 0 to 1, seed is a number.
func parseFaults(list string) (*faults, error) {
	var f faults
	for part := range strings.SplitSeq(list, ",") {
		name, value, _ := strings.Cut(part, "=")
		if name == "seed" {
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("option faults: %s: want seed=NUMBER", part)
			}
			f.seed = n
			continue
		}
		p, err := strconv.ParseFloat(value, 64)
		if err != nil || !(p >= 0 && p <= 1) {
			return nil, fmt.Errorf("option faults: %s: want a probability from 0 to 1", part)
		}
		switch name {
		case "loss":
			f.Loss = p
		case "duplicate":
			f.Duplicate = p
		case "reorder":
			f.Reorder = p
		default:
			return nil, fmt.Errorf("option faults: %s: there are loss, duplicate, reorder and seed", part)
		}
	}
	return &f, nil
}

// damage gives the connection as it is to appear.
func (f *faults) damage(c mcast.Conn) mcast.Conn {
	if f == nil {
		return c
	}
	return mcast.WithFaults(c, f.Faults, f.seed)
}
