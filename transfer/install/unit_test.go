package install

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/ndz"
)

// unit is what an image describes: sectors and whether they are in use.
type unit struct {
	data  []byte
	inUse []bool
}

func (u unit) image(t require.TestingT, level int) ([]byte, *ndz.Manifest) {
	var image bytes.Buffer
	w, err := ndz.NewWriter(ndz.WriterConfig{Output: &image, Level: level})
	require.NoError(t, err)
	for i := 0; i < len(u.inUse); i++ {
		if j := i; u.inUse[i] {
			for i < len(u.inUse) && u.inUse[i] {
				i++
			}
			require.NoError(t, w.Append(uint64(j), u.data[j*512:i*512]))
		}
	}
	require.NoError(t, w.Finish(uint64(len(u.inUse)), 0))
	m, err := ndz.BuildManifest(context.Background(), bytes.NewReader(image.Bytes()), int64(image.Len()))
	require.NoError(t, err)
	return image.Bytes(), m
}

// over is what a disk holds after the unit was installed at off.
func (u unit) over(before []byte, off int, free func(b []byte)) []byte {
	want := bytes.Clone(before)
	for i, used := range u.inUse {
		if sector := want[off+i*512 : off+i*512+512]; used {
			copy(sector, u.data[i*512:])
		} else {
			free(sector)
		}
	}
	return want
}

func keep([]byte)   {}
func zero(b []byte) { clear(b) }
func cafe(b []byte) { pattern(b, 0xcafe1234) }
func someFill(f Fill) func([]byte) {
	return map[Fill]func([]byte){Skip: keep, Zero: zero, Pattern: cafe}[f]
}

// randomUnit is incompressible enough to make several chunks.
func randomUnit(sectors int, seed uint64) unit {
	u := unit{data: make([]byte, sectors*512), inUse: make([]bool, sectors)}
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(u.data)
	r := rand.New(rand.NewPCG(seed, 7))
	for i := 0; i < sectors; {
		n := 1 + r.IntN(400)
		used := r.IntN(3) > 0
		for ; n > 0 && i < sectors; n, i = n-1, i+1 {
			u.inUse[i] = used
		}
	}
	u.inUse[sectors/2] = true
	return u
}

// textImage compresses about as well as an operating system.
func textImage(t testing.TB, size int) ([]byte, *ndz.Manifest) {
	r := rand.New(rand.NewPCG(1, 2))
	u := unit{data: make([]byte, 0, size), inUse: make([]bool, size/512)}
	for len(u.data) < size {
		u.data = fmt.Appendf(u.data, "%d the quick brown fox %x jumps over %d lazy dogs\n", len(u.data), r.Uint64(), r.Uint32())
	}
	for i := range u.inUse {
		u.inUse[i] = true
	}
	return u.image(t, 4)
}
