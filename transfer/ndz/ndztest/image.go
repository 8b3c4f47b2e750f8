// Package ndztest makes small images for tests of who serves, stores and loads them.
//
// What does not live here: images that are broken on purpose, which their tests build, and those of the original program
// (internal/vectors).
package ndztest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/ndz"
)

// Run is data from a sector on. It is a whole number of sectors.
type Run struct {
	Sector uint64
	Data   []byte
}

// images are those that were made, by the digest of what they are made of: many tests of a package want the same one,
// and to compress is slow under the race detector.
var images sync.Map // map[[sha256.Size]byte][]byte

// Image is an image of a unit of so many sectors that has data in runs, which are in order, and is free elsewhere. It is
// the caller's.
func Image(t require.TestingT, sectors uint64, runs ...Run) []byte {
	sum := sha256.New()
	fmt.Fprintln(sum, sectors)
	for _, r := range runs {
		fmt.Fprintln(sum, r.Sector, len(r.Data))
		sum.Write(r.Data)
	}
	key := [sha256.Size]byte(sum.Sum(nil))
	made, ok := images.Load(key)
	if !ok {
		made = build(t, sectors, runs)
		images.Store(key, made)
	}
	return bytes.Clone(made.([]byte))
}

func build(t require.TestingT, sectors uint64, runs []Run) []byte {
	var out bytes.Buffer
	w, err := ndz.NewWriter(ndz.WriterConfig{Output: &out, Level: 1})
	require.NoError(t, err)
	defer w.Close()
	for _, r := range runs {
		require.NoError(t, w.Append(r.Sector, r.Data))
	}
	require.NoError(t, w.Finish(sectors, 0))
	return out.Bytes()
}

// Unit is the unit itself, with zeros where it is free.
func Unit(sectors uint64, runs ...Run) []byte {
	unit := make([]byte, sectors*ndz.SectorSize)
	for _, r := range runs {
		copy(unit[r.Sector*ndz.SectorSize:], r.Data)
	}
	return unit
}

// Noise is n bytes that do not compress, for each seed the same every time.
func Noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	key := [32]byte{byte(seed), byte(seed >> 8)}
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}
