package ndz

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzHeader: no header may panic, and what is accepted keeps its promises.
func FuzzHeader(f *testing.F) {
	f.Add(shortVector(f)[:64])
	f.Add(makeChunk(1, 0, 0, []Region{{0, 1}}, nil, make([]byte, 512))[:64])
	f.Add(makeChunk(3, 0, 16, []Region{{0, 2}, {8, 2}}, nil, make([]byte, 2048))[:128])
	f.Add(makeChunk(4, 0, 16, []Region{{1, 2}}, nil, make([]byte, 1024))[:400])
	f.Fuzz(func(t *testing.T, b []byte) {
		c := make([]byte, HeaderSize)
		copy(c, b)
		h, err := ParseHeader(c)
		if err != nil {
			return
		}
		end := h.First
		for i, r := range h.Regions {
			require.NotZero(t, r.Size)
			require.GreaterOrEqual(t, r.Start, end)
			require.True(t, i == 0 || r.Start > end)
			end = r.End()
		}
		require.LessOrEqual(t, end, h.Last)
		require.LessOrEqual(t, h.Last, MaxSector)
		require.LessOrEqual(t, h.DataSize(), int64(h.Last-h.First)*SectorSize)
		require.Less(t, h.ShortTail(), SectorSize)
		if h.Version == 3 { // what is read is what would be written
			out := make([]byte, HeaderSize)
			h.encode(out)
			n := headerBytes[3] + regionBytes*len(h.Regions) + relocBytes*len(h.Relocs)
			binary.LittleEndian.PutUint32(c[12:], 0)
			require.Equal(t, c[:n], out[:n])
		}
	})
}

// FuzzInflate: no payload may panic or give other than the announced number of bytes.
func FuzzInflate(f *testing.F) {
	short := shortVector(f)
	f.Add(uint32(1), short[HeaderSize:HeaderSize+24])
	zeros := makeChunk(3, 0, 100, []Region{{0, 100}}, nil, make([]byte, 51200))
	f.Add(uint32(100), zeros[HeaderSize:HeaderSize+int(binary.LittleEndian.Uint32(zeros[4:]))])
	f.Fuzz(func(t *testing.T, sectors uint32, payload []byte) {
		if len(payload) == 0 || len(payload) > 1<<14 || sectors == 0 {
			return
		}
		chunk := append(make([]byte, HeaderSize), payload...)
		h := Header{Version: 3, PayloadSize: len(payload), Regions: []Region{{0, uint64(sectors)}}}
		out, err := Inflate(chunk, h, nil)
		if err == nil {
			require.EqualValues(t, h.DataSize(), len(out))
		}
		if checked := inflateTo(io.Discard, chunk, h, make([]byte, 999)); err == nil {
			require.NoError(t, checked)
		} else {
			require.Error(t, checked)
		}
	})
}

// FuzzManifest: no JSON may panic, and what is accepted is valid and can be written again.
func FuzzManifest(f *testing.F) {
	_, m := sample(f)
	var b bytes.Buffer
	require.NoError(f, m.Encode(&b))
	f.Add(b.Bytes())
	f.Add([]byte(`{"root":"00","size":1048576}`))
	f.Add([]byte(`{"chunks":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(bytes.NewReader(b))
		if err != nil {
			return
		}
		require.NoError(t, m.Validate())
		var again bytes.Buffer
		require.NoError(t, m.Encode(&again))
		back, err := DecodeManifest(&again)
		require.NoError(t, err)
		require.Equal(t, m.Root(), back.Root())
	})
}
