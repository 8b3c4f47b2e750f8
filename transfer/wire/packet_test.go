package wire

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(s))
	require.NoError(t, err)
	return b
}

// The annotated datagrams of protocol §13, completed with zeros where the
// annotation breaks off.
func annotated(t *testing.T) map[string]struct {
	bytes []byte
	want  Packet
} {
	client, server := [4]byte{10, 99, 0, 11}, [4]byte{10, 99, 0, 1}
	pad := func(s string, n int) []byte {
		b := unhex(t, s)
		return append(b, make([]byte, n-len(b))...)
	}
	var wanted Bitmap
	for _, b := range []int{63, 70, 81} {
		wanted.Set(b)
	}
	block := pad("01000000 03000000 08040000 0a630001 | 02000000 00000000 6b696969", BlockDatagramSize)
	return map[string]struct {
		bytes []byte
		want  Packet
	}{
		"join": {unhex(t, "01000000 01000000 04000000 0a63000b | f2875019"),
			Packet{Type: TypeRequest, Subtype: Join, Source: client, ClientID: 0x195087f2}},
		"join reply": {unhex(t, "02000000 01000000 04000000 0a630001 | 00100000"),
			Packet{Type: TypeReply, Subtype: Join, Source: server, Blocks: 4096}},
		"request": {unhex(t, "01000000 04000000 0c000000 0a63000b | 02000000 00000000 00040000"),
			Packet{Type: TypeRequest, Subtype: Request, Source: client, Chunk: 2, Block: 0, Count: 1024}},
		"block": {block,
			Packet{Type: TypeRequest, Subtype: Block, Source: server, Chunk: 2, Block: 0, Data: block[24:]}},
		"prequest": {pad("01000000 06000000 88000000 0a63000b | 01000000 01000000 00000000 00000080 40000200", 152),
			Packet{Type: TypeRequest, Subtype: PRequest, Source: client, Chunk: 1, Retries: 1, Wanted: wanted}},
		"progress question": {unhex(t, "01000000 08000000 10000000 0a630001 | 4e47ad78 00000000 01000000 0100 0100"),
			Packet{Type: TypeRequest, Subtype: Progress, Source: server, ClientID: 0x78ad474e, When: 1, What: ProgressSummary, Seq: 1}},
	}
}

// The extension, byte for byte: it must not change once it is out.
func TestReportBytes(t *testing.T) {
	for want, p := range map[string]Packet{
		"01000000 09000000 0c000000 0a630001 | 4e47ad78 fa000000 08000000": {Type: TypeRequest, Subtype: Reports,
			Source: [4]byte{10, 99, 0, 1}, ClientID: 0x78ad474e, Ask: Ask{Every: 250, Burst: 8}},
		"02000000 09000000 38000000 0a63000b | 4e47ad78 01000000 02000000 03000000 04000000 05000000 06000000 07000000 08000000 09000000 0a000000 0b000000 ffffffff ff030000": {
			Type: TypeReply, Subtype: Reports, Source: [4]byte{10, 99, 0, 11}, ClientID: 0x78ad474e,
			Report: Report{Clock: 1, Blocks: 2, NoRoom: 3, Overruns: 4, Retries: 5, Received: 6, Done: 7, Speed: 8, Free: 9, Buffers: 10, Backlog: 11, LastChunk: -1, LastBlock: 1023}},
	} {
		require.Equal(t, unhex(t, want), p.Append(nil))
		var got Packet
		require.NoError(t, got.Decode(unhex(t, want)))
		require.Equal(t, p, got)
	}
}

func TestAnnotatedDatagrams(t *testing.T) {
	for name, tc := range annotated(t) {
		t.Run(name, func(t *testing.T) {
			var got Packet
			require.NoError(t, got.Decode(tc.bytes))
			require.Equal(t, tc.want, got)
			require.Equal(t, tc.bytes, got.Append(nil))
		})
	}
}

func TestPutBlockHeaderIsAppend(t *testing.T) {
	data := make([]byte, BlockSize)
	for i := range data {
		data[i] = byte(i * 7)
	}
	p := Packet{Type: TypeRequest, Subtype: Block, Source: [4]byte{1, 2, 3, 4}, Chunk: 77, Block: 1023, Data: data}
	d := make([]byte, BlockDatagramSize)
	PutBlockHeader(d, p.Source, 77, 1023)
	copy(d[BlockHeaderSize:], data)
	require.Equal(t, p.Append(nil), d)
}

func TestShortBlockIsPadded(t *testing.T) {
	p := Packet{Type: TypeRequest, Subtype: Block, Data: []byte("end")}
	d := p.Append(nil)
	require.Len(t, d, BlockDatagramSize)
	require.Equal(t, append([]byte("end"), make([]byte, BlockSize-3)...), d[BlockHeaderSize:])
}

func TestSizes(t *testing.T) {
	for _, tc := range []struct {
		p    Packet
		size int
	}{
		{Packet{Type: TypeRequest, Subtype: Join}, 20},
		{Packet{Type: TypeRequest, Subtype: Join2}, 40},
		{Packet{Type: TypeRequest, Subtype: Leave}, 24},
		{Packet{Type: TypeRequest, Subtype: Request}, 28},
		{Packet{Type: TypeRequest, Subtype: PRequest}, 152},
		{Packet{Type: TypeRequest, Subtype: Block}, 1048},
		{Packet{Type: TypeRequest, Subtype: Leave2}, 1052},
		{Packet{Type: TypeRequest, Subtype: Leave2, Layout: LayoutLP64}, 2080},
		{Packet{Type: TypeRequest, Subtype: Progress, What: 1}, 32},
		{Packet{Type: TypeReply, Subtype: Progress}, 32},
		{Packet{Type: TypeReply, Subtype: Progress, What: 1}, 1076},
		{Packet{Type: TypeRequest, Subtype: Reports}, 28},
		{Packet{Type: TypeReply, Subtype: Reports}, 72},
	} {
		require.Len(t, tc.p.Append(nil), tc.size, "%v", tc.p.Subtype)
	}
}

// Offsets of the table in §3, checked one by one: a layout that merely agrees
// with itself would pass a round trip.
func TestStatsOffsets(t *testing.T) {
	s := Stats{Version: 1, RunSeconds: 2, RunMS: 3, DelayMS: 4, RealBytes: 5, EffectiveBytes: 6, ChunkBufs: 7, MaxReadAhead: 8,
		MaxInProgress: 9, PktTimeout: 10, StartDelay: 11, IdleTimer: 12, IdleDelay: 13, RedoDelay: 14, Randomize: 15,
		NoChunksReady: 16, NoFreeChunks: 17, DupChunks: 18, DupBlocks: 19, PartialRequests: 20, RecvIdles: 21, JoinAttempts: 22,
		Requests: 23, DecompBlocks: 24, WriterIdles: 25, WriteBufMB: 26, LostBlocks: 27, ReRequests: 28, PartialDrops: 29, FullReRequests: 30}
	for _, tc := range []struct {
		layout  Layout
		offsets map[int]byte
	}{
		{LayoutPacked, map[int]byte{0: 1, 4: 2, 8: 3, 12: 4, 16: 5, 24: 6, 32: 7, 36: 8, 40: 9, 44: 10, 64: 15, 68: 16, 80: 19, 104: 25, 108: 26, 112: 27, 116: 28, 120: 29, 124: 30}},
		{LayoutLP64, map[int]byte{0: 1, 8: 2, 12: 3, 16: 4, 24: 5, 32: 6, 40: 7, 44: 8, 48: 9, 52: 10, 72: 15, 80: 16, 104: 19, 152: 25, 160: 26, 168: 27, 176: 28}},
	} {
		b := s.append(nil, tc.layout)
		for off, want := range tc.offsets {
			require.Equal(t, want, b[off], "layout %d offset %d", tc.layout, off)
		}
		var got Stats
		got.decode(b, tc.layout)
		want := s
		if tc.layout == LayoutLP64 {
			want.PartialDrops, want.FullReRequests = 0, 0
		}
		require.Equal(t, want, got)
	}
	big := Stats{LostBlocks: math.MaxUint64}
	var got Stats
	got.decode(big.append(nil, LayoutPacked), LayoutPacked)
	require.EqualValues(t, math.MaxUint32, got.LostBlocks, "a counter saturates, it does not wrap")
}

func TestDecodeRefuses(t *testing.T) {
	body := func(p Packet, words ...uint32) []byte {
		d := p.Append(nil)
		for i, w := range words {
			binary.LittleEndian.PutUint32(d[HeaderSize+4*i:], w)
		}
		return d
	}
	header := func(typ, sub, n uint32, size int) []byte {
		d := make([]byte, HeaderSize+size)
		binary.LittleEndian.PutUint32(d, typ)
		binary.LittleEndian.PutUint32(d[4:], sub)
		binary.LittleEndian.PutUint32(d[8:], n)
		return d
	}
	req := Packet{Type: TypeRequest, Subtype: Request}
	blk := Packet{Type: TypeRequest, Subtype: Block}
	for name, tc := range map[string]struct {
		d    []byte
		want error
	}{
		"nothing":                      {nil, ErrShort},
		"half a header":                {make([]byte, 15), ErrShort},
		"type 0":                       {header(0, 1, 4, 4), ErrType},
		"type 3":                       {header(3, 1, 4, 4), ErrType},
		"subtype 0":                    {header(1, 0, 4, 4), ErrSubtype},
		"subtype 10":                   {header(1, 10, 4, 4), ErrSubtype},
		"question for reports cut":     {header(1, 9, 11, 11), ErrLength},
		"report cut":                   {header(2, 9, 55, 55), ErrLength},
		"report of chunk -2":           {body(Packet{Type: TypeReply, Subtype: Reports}, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, math.MaxUint32-1), ErrRange},
		"report of block 1024":         {body(Packet{Type: TypeReply, Subtype: Reports}, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1024), ErrRange},
		"more than all of a queue":     {body(Packet{Type: TypeReply, Subtype: Reports}, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1001), ErrRange},
		"more free than there are":     {body(Packet{Type: TypeReply, Subtype: Reports}, 1, 0, 0, 0, 0, 0, 0, 0, 0, 5, 4), ErrRange},
		"subtype -1":                   {header(1, math.MaxUint32, 4, 4), ErrSubtype},
		"claims more than it has":      {header(1, 1, 5, 4), ErrShort},
		"claims 4 GB":                  {header(1, 1, math.MaxUint32, 4), ErrShort},
		"join too short":               {header(1, 1, 3, 3), ErrLength},
		"leave too short":              {header(1, 2, 4, 4), ErrLength},
		"block too short":              {header(1, 3, 1031, 1031), ErrLength},
		"request too short":            {header(1, 4, 8, 8), ErrLength},
		"leave2 too short":             {header(1, 5, 1035, 1035), ErrLength},
		"prequest too short":           {header(1, 6, 135, 135), ErrLength},
		"join2 too short":              {header(1, 7, 20, 20), ErrLength},
		"progress too short":           {header(1, 8, 15, 15), ErrLength},
		"progress report cut":          {func() []byte { d := header(2, 8, 1000, 1000); d[28] = 1; return d }(), ErrLength},
		"chunk -1":                     {body(req, math.MaxUint32, 0, 1024), ErrRange},
		"block -1":                     {body(req, 0, math.MaxUint32, 1), ErrRange},
		"count -1":                     {body(req, 0, 0, math.MaxUint32), ErrRange},
		"count overflow":               {body(req, 0, 1, math.MaxInt32), ErrRange},
		"one block too many":           {body(req, 0, 1, 1024), ErrRange},
		"BLOCK 1024":                   {body(blk, 0, 1024), ErrRange},
		"BLOCK of chunk -1":            {body(blk, math.MaxUint32, 0), ErrRange},
		"PREQUEST for a chunk below 0": {body(Packet{Type: TypeRequest, Subtype: PRequest}, 1<<31), ErrRange},
	} {
		t.Run(name, func(t *testing.T) {
			var p Packet
			require.ErrorIs(t, p.Decode(tc.d), tc.want)
		})
	}
	var p Packet
	require.NoError(t, p.Decode(body(req, 0, 0, 0)), "a request for nothing is a datagram like any other")
	require.NoError(t, p.Decode(append(req.Append(nil), 1, 2, 3)), "bytes behind the stated length are ignored")
}

func TestDirections(t *testing.T) {
	for _, tc := range []struct {
		typ            Type
		sub            Subtype
		server, client bool
	}{
		{TypeRequest, Join, true, false}, {TypeReply, Join, false, true},
		{TypeRequest, Leave, true, false}, {TypeReply, Leave, false, false},
		{TypeRequest, Block, false, true}, {TypeReply, Block, false, false},
		{TypeRequest, Request, true, true}, {TypeReply, Request, false, false},
		{TypeRequest, Leave2, true, false}, {TypeReply, Leave2, false, false},
		{TypeRequest, PRequest, true, true}, {TypeReply, PRequest, false, false},
		{TypeRequest, Join2, true, false}, {TypeReply, Join2, false, true},
		{TypeRequest, Progress, false, true}, {TypeReply, Progress, true, false},
		{TypeRequest, Reports, false, true}, {TypeReply, Reports, true, false},
	} {
		p := Packet{Type: tc.typ, Subtype: tc.sub}
		require.Equal(t, tc.server, p.ForServer(), "%v %v at a server", tc.typ, tc.sub)
		require.Equal(t, tc.client, p.ForClient(), "%v %v at a client", tc.typ, tc.sub)
	}
	require.Equal(t, "PREQUEST", PRequest.String())
	require.Equal(t, "subtype 12", Subtype(12).String())
	p := Packet{Source: [4]byte{127, 0, 0, 1}}
	require.Equal(t, netip.MustParseAddr("127.0.0.1"), p.SourceAddr())
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	var ds [][]byte
	for _, tc := range annotated(t) {
		ds = append(ds, tc.bytes)
	}
	var p Packet
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for _, d := range ds {
			if p.Decode(d) != nil {
				panic("decode")
			}
		}
	}))
}

func TestBitmap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.IntRange(-5, 1030).Draw(t, "first")
		count := rapid.IntRange(-1, 1100).Draw(t, "count")
		m := RangeBitmap(first, count)
		n := 0
		for b := range BlocksPerChunk {
			in := b >= first && b < first+count
			require.Equal(t, in, m.Has(b))
			if in {
				n++
			}
		}
		require.Equal(t, n, m.Count())
		require.Equal(t, n == 0, m.Empty())
		from := rapid.IntRange(-1, 1024).Draw(t, "from")
		want := -1
		for b := max(from, 0); b < BlocksPerChunk; b++ {
			if m.Has(b) {
				want = b
				break
			}
		}
		require.Equal(t, want, m.Next(from))
		full := FullBitmap()
		require.True(t, full.Covers(&m))
		require.Equal(t, n == BlocksPerChunk, m.Covers(&full))
		rest := full
		rest.AndNot(&m)
		require.Equal(t, BlocksPerChunk-n, rest.Count())
		both := rest
		both.And(&m)
		require.True(t, both.Empty())
		rest.Or(&m)
		require.Equal(t, full, rest)
		if n > 0 {
			m.Clear(m.Next(0))
			require.Equal(t, n-1, m.Count())
		}
	})
}

// FuzzDecode: no input panics, and what decodes encodes to a datagram that
// decodes to the same.
func FuzzDecode(f *testing.F) {
	for _, p := range []Packet{
		{Type: TypeRequest, Subtype: Join, ClientID: 7}, {Type: TypeReply, Subtype: Join, Blocks: 4096},
		{Type: TypeRequest, Subtype: Leave}, {Type: TypeRequest, Subtype: Block, Chunk: 3, Block: 4},
		{Type: TypeRequest, Subtype: Request, Count: 1024}, {Type: TypeRequest, Subtype: Leave2},
		{Type: TypeRequest, Subtype: Leave2, Layout: LayoutLP64}, {Type: TypeRequest, Subtype: PRequest, Wanted: FullBitmap()},
		{Type: TypeReply, Subtype: Join2, Size: 1 << 40}, {Type: TypeReply, Subtype: Progress, What: 3},
		{Type: TypeRequest, Subtype: Reports, Ask: Ask{Every: 250, Burst: 8}},
		{Type: TypeReply, Subtype: Reports, Report: Report{Free: 3, Buffers: 64, LastChunk: -1}},
	} {
		f.Add(p.Append(nil))
	}
	f.Fuzz(func(t *testing.T, d []byte) {
		var p, q Packet
		if p.Decode(d) != nil {
			return
		}
		require.NoError(t, q.Decode(p.Append(nil)))
		require.Equal(t, p, q)
	})
}
