package imagezip

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/ndz"
)

// signed is two chunks of random data, its image and its signature.
func signed(t testing.TB) (data, image []byte, s *Signature) {
	data = make([]byte, 3<<19)
	rand.NewChaCha8([32]byte{7}).Read(data)
	var b bytes.Buffer
	stats, err := Capture(context.Background(), memory(data), &b, Options{Kind: Raw, Level: ndz.Stored, Sign: true})
	require.NoError(t, err)
	return data, b.Bytes(), stats.Signature
}

func TestSignature(t *testing.T) {
	data, image, s := signed(t)
	require.Len(t, s.Ranges, len(data)>>16)
	h, err := ndz.ParseHeader(image)
	require.NoError(t, err)
	spans := 0
	for i, r := range s.Ranges {
		at := i << 16
		require.EqualValues(t, at/512, r.Start)
		require.EqualValues(t, 128, r.Sectors)
		require.Equal(t, sha1.Sum(data[at:at+1<<16]), r.Hash)
		want := uint32(0)
		switch {
		case r.Start >= h.Last:
			want = 1
		case r.Start+r.Sectors > h.Last:
			want = 1 << 31
			spans++
		}
		require.Equal(t, want, r.Chunk)
	}
	require.Equal(t, 1, spans, "one range lies in both chunks")

	// As a file: the header is that of §9.
	var file bytes.Buffer
	n, err := s.WriteTo(&file)
	require.NoError(t, err)
	require.EqualValues(t, file.Len(), n)
	le := binary.LittleEndian
	want := append([]byte(".ndzsig\x00"), 0x18, 0x06, 0x14, 0x20, 2, 0, 0, 0)
	want = le.AppendUint32(le.AppendUint32(want, uint32(len(s.Ranges))), 128)
	want = append(want, make([]byte, 8+8)...)
	want[32+4] = 128
	require.Equal(t, want, file.Bytes()[:40])
	again, err := ReadSignature(bytes.NewReader(file.Bytes()))
	require.NoError(t, err)
	require.Equal(t, s, again)
	for cut := range file.Len() {
		_, err := ReadSignature(bytes.NewReader(file.Bytes()[:cut]))
		require.ErrorIs(t, err, ErrSignature, "cut at %d", cut)
	}
	for _, c := range []struct {
		at   int
		v    byte
		says string
	}{{0, 'x', "begins with"}, {8, 0, "version"}, {12, 3, "hash type"}, {36, 0, "0 sectors"}, {65, 0, "the one before ends"}} {
		bad := bytes.Clone(file.Bytes())
		if bad[c.at] = c.v; c.at == 65 {
			bad[64] = 5
		}
		_, err := ReadSignature(bytes.NewReader(bad))
		require.ErrorIs(t, err, ErrSignature)
		require.ErrorContains(t, err, c.says)
	}
}

func TestDelta(t *testing.T) {
	old, base, s := signed(t)
	changed := bytes.Clone(old)
	rand.NewChaCha8([32]byte{8}).Read(changed[300000:300100])
	md5s := &Signature{MD5: true}
	for _, r := range s.Ranges {
		sum := md5.Sum(old[r.Start*512:][:r.Sectors*512])
		r.Hash = [20]byte{}
		copy(r.Hash[:], sum[:])
		md5s.Ranges = append(md5s.Ranges, r)
	}
	odd := &Signature{Ranges: append(slices.Clone(s.Ranges), Range{Start: 1 << 30, Sectors: 1 << 30})}
	odd.Ranges = append([]Range{{Start: 0, Sectors: 1<<31 - 1}}, odd.Ranges[1:]...)
	for _, c := range []struct {
		name    string
		data    []byte
		base    *Signature
		percent int
		saved   int64
	}{
		{"changed", changed, s, 0, 1 << 16},
		{"changed, MD5", changed, md5s, 0, 1 << 16},
		{"small enough", changed, s, 10, 1 << 16},
		{"not small enough", changed, s, 4, int64(len(changed))},
		{"the same", old, s, 0, 512},
		{"larger", append(bytes.Clone(changed), old[:1000*512]...), s, 0, 1<<16 + 1000*512},
		{"smaller", old[:100*512], s, 0, 100 * 512},
		{"absurd ranges", changed, odd, 0, 2 << 16},
	} {
		t.Run(c.name, func(t *testing.T) {
			var delta bytes.Buffer
			stats, err := Capture(context.Background(), memory(c.data), &delta, Options{Kind: Raw, Base: c.base, Threshold: c.percent})
			require.NoError(t, err)
			require.Equal(t, c.saved, stats.DataBytes)
			require.EqualValues(t, len(c.data)-int(c.saved), stats.Same*512)
			// Laid over the base, the delta gives what was captured.
			laid := lay(t, lay(t, nil, base), delta.Bytes())
			require.True(t, bytes.Equal(c.data, laid[:len(c.data)]))
		})
	}
	_, err := Capture(context.Background(), memory(old), io.Discard, Options{Kind: Raw, Base: s, Sign: true})
	require.ErrorContains(t, err, "delta")
}

// lay writes what an image carries over what is there.
func lay(t testing.TB, disk, image []byte) []byte {
	for ; len(image) > 0; image = image[ndz.ChunkSize:] {
		h, err := ndz.ParseHeader(image)
		require.NoError(t, err)
		data, err := ndz.Inflate(image[:ndz.ChunkSize], h, nil)
		require.NoError(t, err)
		if n := int(h.Last) * 512; n > len(disk) {
			disk = append(disk, make([]byte, n-len(disk))...)
		}
		for _, r := range h.Regions {
			data = data[copy(disk[r.Start*512:r.End()*512], data):]
		}
	}
	return disk
}

func FuzzReadSignature(f *testing.F) {
	f.Add([]byte(".ndzsig\x00"))
	_, _, s := signed(f)
	s.Ranges = s.Ranges[:2]
	var file bytes.Buffer
	_, err := s.WriteTo(&file)
	require.NoError(f, err)
	f.Add(file.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadSignature(bytes.NewReader(b))
		if err != nil {
			require.ErrorIs(t, err, ErrSignature)
			return
		}
		require.LessOrEqual(t, len(s.Ranges)*32, len(b))
		var again bytes.Buffer
		_, err = s.WriteTo(&again)
		require.NoError(t, err)
	})
}
