package inflate

import (
	"bytes"
	"compress/flate"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// mostOut is how much output a comparison looks at.
const mostOut = 1 << 16

// compare inflates blocks here and with compress/flate: both must take them or refuse them, and give the same bytes.
func compare(t require.TestingT, blocks []byte) (ok bool) {
	in := bytes.NewReader(blocks)
	want, err := io.ReadAll(io.LimitReader(flate.NewReader(in), mostOut))
	dst := make([]byte, mostOut)
	d := decoders.Get().(*decoder)
	defer d.release()
	d.reset(blocks)
	n, done, got := d.run(dst, 0)
	if got == nil && !done { // more than is looked at
		require.Len(t, want, mostOut)
		require.True(t, bytes.Equal(want, dst[:n]))
		return true
	}
	if len(want) == mostOut && err == nil { // it did not get as far as the end
		require.True(t, bytes.Equal(want[:n], dst[:n]))
		return got == nil
	}
	if err != nil {
		require.Error(t, got, "compress/flate says %v", err)
		require.LessOrEqual(t, n, mostOut)
		return false
	}
	require.NoError(t, got)
	require.True(t, bytes.Equal(want, dst[:n]))
	d.align()
	require.Equal(t, len(blocks)-in.Len(), d.ip, "bytes used")

	out, err := all(t, wrap(blocks[:d.ip], want), len(want))
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, out))
	return true
}

// FuzzInflate: what compress/flate takes is taken, with the same result, and nothing else.
func FuzzInflate(f *testing.F) {
	for _, data := range samples(400) {
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 9} {
			f.Add(deflate(f, data, level, 200))
		}
	}
	f.Fuzz(func(t *testing.T, blocks []byte) {
		if len(blocks) < 1<<16 {
			compare(t, blocks)
		}
	})
}

// FuzzZlib: no input makes any of the ways to inflate panic, or disagree with the others.
func FuzzZlib(f *testing.F) {
	for _, data := range samples(300) {
		f.Add(wrap(deflate(f, data, 6, 100), data), len(data))
	}
	f.Fuzz(func(t *testing.T, src []byte, size int) {
		if size >= 0 && size < mostOut {
			_, _ = all(t, src, size)
		}
	})
}

// Damaged streams, and streams of chance, are judged as compress/flate judges them.
func TestDifferential(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	taken, refused := 0, 0
	count := func(ok bool) {
		if ok {
			taken++
		} else {
			refused++
		}
	}
	for _, size := range []int{60, 900, 9000} {
		for _, data := range samples(size) {
			for _, level := range []int{flate.HuffmanOnly, 1, 9} {
				blocks := deflate(t, data, level, size/2+1)
				for range 25 {
					b := bytes.Clone(blocks)
					for range 1 + r.IntN(3) {
						i := r.IntN(len(b))
						if r.IntN(2) == 0 {
							i = r.IntN(min(len(b), 100)) // the codes
						}
						b[i] ^= 1 << r.IntN(8)
					}
					count(compare(t, b))
				}
			}
		}
	}
	for range 1500 {
		b := make([]byte, 1+r.IntN(200))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		b[0] = b[0]&^6 | byte(1+r.IntN(2))<<1
		count(compare(t, b))
	}
	require.Greater(t, taken, 100)
	require.Greater(t, refused, 1000)
}

// Codes of chance up to the longest, a third of them with one length wrong: accepted and refused as compress/flate does.
func TestCodesOfChance(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	taken, refused := 0, 0
	for range 1500 {
		var w bitWriter
		dists := 1 + r.IntN(30)
		lens := append(chance(r, 286, 1+r.IntN(286)), chance(r, dists, r.IntN(dists+1))...)
		if r.IntN(3) == 0 {
			lens[r.IntN(len(lens))] = r.IntN(16)
		}
		w.put(1, 1)
		w.put(2, 2)
		w.put(286-257, 5)
		w.put(uint(dists-1), 5)
		w.put(15, 4)
		for _, symbol := range order { // each length has a code of four bits, repetitions have none
			w.put(map[bool]uint{true: 4}[symbol < 16], 3)
		}
		for _, n := range lens {
			for k := 3; k >= 0; k-- {
				w.put(uint(n>>k&1), 1)
			}
		}
		for range 40 + r.IntN(200) {
			w.put(uint(r.Uint32())&0xffff, 16)
		}
		if compare(t, w.out) {
			taken++
		} else {
			refused++
		}
	}
	require.Greater(t, taken, 20)
	require.Greater(t, refused, 100)
}

// chance gives used of n symbols the lengths of a complete code, or of none.
func chance(r *rand.Rand, n, used int) []int {
	leaves := []int{0}
	for len(leaves) < used {
		if i := r.IntN(len(leaves)); leaves[i] < maxBits {
			leaves[i]++
			leaves = append(leaves, leaves[i])
		}
	}
	lens := make([]int, n)
	if used > 1 {
		for i, symbol := range r.Perm(n)[:used] {
			lens[symbol] = leaves[i]
		}
	}
	return lens
}

// bitWriter writes bits, the lowest first.
type bitWriter struct {
	out []byte
	n   int
}

func (w *bitWriter) put(v, k uint) {
	for i := range k {
		if w.n%8 == 0 {
			w.out = append(w.out, 0)
		}
		w.out[w.n/8] |= byte(v>>i&1) << (w.n % 8)
		w.n++
	}
}
