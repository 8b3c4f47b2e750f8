package inflate

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	stdadler "hash/adler32"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	kflate "github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"
)

// samples are data of different kinds, each around size bytes.
func samples(size int) map[string][]byte {
	r := rand.New(rand.NewPCG(1, uint64(size)))
	random := make([]byte, size)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	var text []byte
	for i := 0; len(text) < size; i++ {
		text = fmt.Appendf(text, "%d the quick brown fox %x jumps over\n", i, r.Uint32())
	}
	var periods []byte // runs that repeat themselves after 1 to 40 bytes
	for len(periods) < size {
		seed := random[r.IntN(max(1, size-40)):][:min(size, 1+r.IntN(40))]
		periods = append(periods, bytes.Repeat(seed, 1+r.IntN(60))...)
	}
	few := make([]byte, size) // a few symbols with short codes
	for i := range few {
		few[i] = "aaabbcd\n"[r.IntN(8)]
	}
	skewed := make([]byte, size) // codes of up to 15 bits
	for i := range skewed {
		n := 0
		for n < 255 && r.IntN(3) > 0 {
			n++
		}
		skewed[i] = byte(n)
	}
	return map[string][]byte{"random": random, "text": text, "periods": periods, "few": few, "skewed": skewed, "zeros": make([]byte, size)}
}

// deflate compresses with compress/flate, with a flush now and then as imagezip makes them.
func deflate(t testing.TB, data []byte, level, flush int) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	require.NoError(t, err)
	for len(data) > 0 {
		n := min(len(data), flush)
		_, err = w.Write(data[:n])
		require.NoError(t, err)
		if data = data[n:]; len(data) > 0 {
			require.NoError(t, w.Flush())
		}
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// wrap makes a zlib stream of deflate blocks that inflate to data.
func wrap(blocks, data []byte) []byte {
	return binary.BigEndian.AppendUint32(append([]byte{0x78, 0x5e}, blocks...), stdadler.Checksum(data))
}

var readers = sync.Pool{New: func() any { return new(Reader) }}

// all inflates src in each way there is, requires that they agree, and returns what they gave.
func all(t require.TestingT, src []byte, size int) ([]byte, error) {
	dst := make([]byte, size)
	n, err := Zlib(dst, src)
	require.LessOrEqual(t, n, size)

	grown, err2 := Append(nil, src, int64(size))
	require.Equal(t, fmt.Sprint(err), fmt.Sprint(err2))

	r := readers.Get().(*Reader)
	defer readers.Put(r)
	if src == nil {
		src = []byte{}
	}
	err3 := r.Reset(src)
	var pieces []byte
	if err3 == nil {
		pieces, err3 = io.ReadAll(io.LimitReader(r, int64(size)+1))
	}
	if err == nil {
		require.NoError(t, err3)
		require.Equal(t, size, n)
		require.True(t, bytes.Equal(dst, grown))
		require.True(t, bytes.Equal(dst, pieces))
		return dst, nil
	}
	var where *Error
	require.ErrorAs(t, err, &where)
	require.LessOrEqual(t, where.In, len(src))
	require.LessOrEqual(t, where.Out, int64(size))
	switch { // a Reader does not know the size
	case errors.Is(err, ErrTooLong):
	case errors.Is(err, ErrTooShort):
		require.Less(t, len(pieces), size)
	default:
		require.Equal(t, err, err3)
	}
	return nil, err
}

func TestRoundTrip(t *testing.T) {
	for _, size := range []int{1, 7, 300, 5000, 200_000} {
		for name, data := range samples(size) {
			for _, level := range []int{flate.HuffmanOnly, 0, 1, 4, 9} {
				blocks := deflate(t, data, level, 128<<10)
				out, err := all(t, wrap(blocks, data), len(data))
				require.NoErrorf(t, err, "%s, %d bytes, level %d", name, size, level)
				require.Truef(t, bytes.Equal(data, out), "%s, %d bytes, level %d", name, size, level)
			}
			var b bytes.Buffer
			w, err := kflate.NewWriter(&b, 5)
			require.NoError(t, err)
			_, err = w.Write(data)
			require.NoError(t, err)
			require.NoError(t, w.Close())
			out, err := all(t, wrap(b.Bytes(), data), len(data))
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, out))
		}
	}
	out, err := all(t, wrap([]byte{3, 0}, nil), 0)
	require.NoError(t, err)
	require.Empty(t, out)
}

// Every place in the output may be where the room, or a piece, ends.
func TestEveryPieceSize(t *testing.T) {
	for name, data := range samples(400) {
		blocks := deflate(t, data, 9, 150)
		for size := 1; size <= len(data); size++ {
			var d decoder
			d.reset(blocks)
			out := make([]byte, len(data))
			for at := 0; at < len(out); {
				end, done, err := d.run(out[:min(len(out), at+size)], at)
				require.NoError(t, err)
				require.Equal(t, end == len(out), done)
				require.True(t, done || end == at+size)
				at = end
			}
			require.Truef(t, bytes.Equal(data, out), "%s in pieces of %d", name, size)
		}
	}
}

func TestTruncatedAnywhere(t *testing.T) {
	for name, data := range samples(250) {
		for _, level := range []int{0, 1, 9} {
			src := wrap(deflate(t, data, level, 100), data)
			for n := range src {
				_, err := all(t, src[:n], len(data))
				require.ErrorIsf(t, err, ErrTruncated, "%s level %d cut after %d of %d", name, level, n, len(src))
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			}
			_, err := all(t, append(src, 0), len(data))
			require.ErrorIs(t, err, ErrTrailing)
			_, err = all(t, src, len(data)-1)
			require.ErrorIs(t, err, ErrTooLong)
			_, err = all(t, src, len(data)+1)
			require.ErrorIs(t, err, ErrTooShort)
		}
	}
}

// stream is a deflate stream written by hand: "101" is those bits in that order, spaces do not count, "=5:3" is the
// number 5 in 3 bits, lowest first.
func stream(s string) []byte {
	var out []byte
	n := 0
	put := func(bit bool) {
		if n%8 == 0 {
			out = append(out, 0)
		}
		if bit {
			out[n/8] |= 1 << (n % 8)
		}
		n++
	}
	for f := range strings.FieldsSeq(s) {
		var v, k int
		if _, err := fmt.Sscanf(f, "=%d:%d", &v, &k); err == nil {
			for i := range k {
				put(v>>i&1 != 0)
			}
			continue
		}
		for _, c := range f {
			put(c == '1')
		}
	}
	return out
}

func TestFaults(t *testing.T) {
	// The code of code lengths of these has 18 with one bit (0), 0 with two (10), 1 with two (11), in the order of
	// section 3.2.7: 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1.
	pre := "=0:3 =0:3 =1:3 =2:3 " + strings.Repeat("=0:3 ", 13) + "=2:3 "
	pad := " " + strings.Repeat("0", 400)
	for _, c := range []struct {
		name, bits string
		is         error
	}{
		{"reserved block type", "1 11", ErrBlockType},
		{"stored length", "1 00 00000 =5:16 =5:16", ErrStored},
		{"too many literals", "1 01 =30:5 =0:5 =14:4", ErrCount},
		{"too many distances", "1 01 =0:5 =30:5 =14:4", ErrCount},
		{"over-subscribed code of lengths", "1 01 =0:5 =0:5 =0:4 =1:3 =1:3 =1:3 =0:3" + pad, ErrOversubscribed},
		{"incomplete code of lengths", "1 01 =0:5 =0:5 =0:4 =2:3 =2:3 =0:3 =0:3" + pad, ErrIncomplete},
		{"no code of lengths", "1 01 =0:5 =0:5 =0:4 =0:3 =0:3 =0:3 =0:3" + pad, ErrSymbol},
		{"nothing to repeat", "1 01 =0:5 =0:5 =0:4 =1:3 =0:3 =0:3 =0:3 0 00" + pad, ErrRepeat},
		{"repetition too long", "1 01 =0:5 =0:5 =14:4 " + pre + "0 =127:7 0 =127:7" + pad, ErrRepeat},
		{"over-subscribed literals", "1 01 =0:5 =0:5 =14:4 " + pre + "11 11 11 0 =127:7 0 =106:7" + pad, ErrOversubscribed},
		{"one literal, no end", "1 01 =0:5 =0:5 =14:4 " + pre + "11 0 =127:7 0 =107:7 11" + " 1" + pad, ErrSymbol},
		{"no end of block", "1 01 =0:5 =0:5 =14:4 " + pre + "0 =127:7 0 =109:7" + pad, ErrSymbol},
		{"length without distances", "1 01 =1:5 =0:5 =14:4 " + pre + "0 =127:7 0 =107:7 11 11 10" + " 1" + pad, ErrSymbol},
		{"reserved length", "1 10 11000110" + pad, ErrSymbol},
		{"reserved distance", "1 10 00110000 0000001 11110" + pad, ErrSymbol},
		{"too far", "1 10 00110000 0000001 00001" + pad, ErrDistance},
		{"too far at once", "1 10 0000001 00000" + pad, ErrDistance},
	} {
		t.Run(c.name, func(t *testing.T) {
			blocks := stream(c.bits)
			for _, more := range []int{0, 1000} { // near the end of the input and far from it
				src := append([]byte{0x78, 0x5e}, append(bytes.Clone(blocks), make([]byte, more)...)...)
				_, err := all(t, src, 300)
				require.ErrorIs(t, err, c.is)
				_, err = all(t, src, 100_000)
				require.ErrorIs(t, err, c.is)
				_, err = io.ReadAll(flate.NewReader(bytes.NewReader(src[2:])))
				require.Error(t, err, "compress/flate takes it")
			}
		})
	}
	for _, c := range []struct {
		name string
		src  []byte
		is   error
	}{
		{"empty", nil, ErrTruncated},
		{"method", []byte{0x77, 0x85, 3, 0, 0, 0, 0, 1}, ErrHeader},
		{"window", []byte{0x88, 0x1c, 3, 0, 0, 0, 0, 1}, ErrHeader},
		{"check", []byte{0x78, 0x5f, 3, 0, 0, 0, 0, 1}, ErrHeader},
		{"dictionary", []byte{0x78, 0x20, 3, 0, 0, 0, 0, 1}, ErrDictionary},
		{"checksum", []byte{0x78, 0x5e, 3, 0, 0, 0, 0, 2}, ErrChecksum},
		{"trailing", []byte{0x78, 0x5e, 3, 0, 0, 0, 0, 1, 0}, ErrTrailing},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := all(t, c.src, 0)
			require.ErrorIs(t, err, c.is)
			r, err := zlib.NewReader(bytes.NewReader(c.src))
			if err == nil {
				_, err = io.ReadAll(r)
			}
			require.True(t, err != nil || c.is == ErrTrailing, "compress/zlib takes it")
		})
	}
}

// A size that lies costs memory in proportion to what is really there.
func TestAppendEarnsItsMemory(t *testing.T) {
	data := make([]byte, 100_000)
	src := wrap(deflate(t, data, 9, len(data)), data)
	got := testing.AllocsPerRun(10, func() {
		_, err := Append(nil, src, 1<<40)
		require.ErrorIs(t, err, ErrTooShort)
	})
	require.Less(t, got, 30.0)
}

func TestNoAllocation(t *testing.T) {
	data := samples(100_000)["text"]
	src, dst := wrap(deflate(t, data, 4, len(data)), data), make([]byte, len(data))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := Zlib(dst, src); err != nil {
			panic(err)
		}
	}))
}

func TestAdler(t *testing.T) {
	full := bytes.Repeat([]byte{0xff}, 100_000)
	random := samples(100_000)["random"]
	for _, p := range [][]byte{full, random} {
		for _, n := range []int{0, 1, 7, 127, 128, 129, 4095, 4096, 4097, 65_536, 100_000} {
			require.Equal(t, stdadler.Checksum(p[:n]), adler32(1, p[:n]))
			require.Equal(t, stdadler.Checksum(p[:n]), adler32(adler32(1, p[:n/3]), p[n/3:n]))
		}
	}
}
