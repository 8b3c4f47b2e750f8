package replay_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/internal/vectors"
	"loadnode/transfer/wire"
)

// heard is one recorded UDP datagram.
type heard struct {
	at       time.Duration // since the first frame of the recording
	from, to netip.AddrPort
	// data is as long as the datagram really was. Frames were cut at 220 bytes;
	// what was lost behind that is zero here.
	data []byte
	p    wire.Packet
}

// recording is one session. The originals served a file of four chunks.
type recording struct {
	server, client, group netip.AddrPort
	all                   []heard
	image                 []byte // as far as its blocks were recorded, else zeros
}

// datagrams gives the UDP datagrams of a file, of fragmented ones the first
// fragment, which holds more than was recorded of any.
func datagrams(t testing.TB, file string) []heard {
	t.Helper()
	be := binary.BigEndian
	var out []heard
	at, fs := vectors.Frames(t, "pcap/"+file+".pcap.gz")
	for i, f := range fs {
		ip, udp, ok := vectors.UDP(f)
		if !ok {
			continue
		}
		addr := func(off, port int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[off:off+4])), be.Uint16(udp[port:]))
		}
		h := heard{at: time.Duration(at[i]-at[0]) * time.Microsecond, from: addr(12, 0), to: addr(16, 2)}
		size := int(be.Uint16(udp[4:])) - 8
		h.data = make([]byte, size)
		copy(h.data, udp[8:])
		if err := h.p.Decode(h.data); err != nil {
			require.NoError(t, err, "frame %d", i)
		}
		if again := h.p.Append(nil); !bytes.Equal(h.data, again) {
			require.Equal(t, h.data, again, "frame %d %v: encoded again", i, h.p.Subtype)
		}
		out = append(out, h)
	}
	require.NotEmpty(t, out)
	return out
}

// load reads the recording of one session.
func load(t testing.TB, file string) *recording {
	t.Helper()
	r := &recording{all: datagrams(t, file)}
	join, reply := r.all[0], r.all[1]
	require.Equal(t, wire.Join, join.p.Subtype)
	require.Equal(t, wire.TypeReply, reply.p.Type)
	r.client, r.server, r.group = join.from, reply.from, join.to
	r.image = make([]byte, int(reply.p.Blocks)*wire.BlockSize)
	known := map[[2]int32][]byte{}
	for i, h := range r.all {
		require.True(t, h.from == r.client || h.from == r.server, "datagram %d from %v", i, h.from)
		if h.p.Subtype != wire.Block {
			continue
		}
		k := [2]int32{h.p.Chunk, h.p.Block}
		if known[k] != nil {
			require.True(t, bytes.Equal(known[k], h.p.Data), "block %v was recorded with two contents", k)
		}
		known[k] = h.p.Data
		copy(r.image[int(h.p.Chunk)*wire.ChunkSize+int(h.p.Block)*wire.BlockSize:], h.p.Data)
	}
	return r
}

// chunks is the size of the image.
func (r *recording) chunks() int { return len(r.image) / wire.ChunkSize }

// of gives what somebody sent, of one subtype, in order.
func (r *recording) of(from netip.AddrPort, s wire.Subtype) []heard {
	var out []heard
	for _, h := range r.all {
		if h.from == from && h.p.Subtype == s {
			out = append(out, h)
		}
	}
	return out
}

// pace is the mean rate of the recorded server in bit/s on the wire, while it
// sent each block for the first time.
func (r *recording) pace() int64 {
	blocks := r.of(r.server, wire.Block)
	blocks = blocks[:min(len(blocks), len(r.image)/wire.BlockSize)]
	took := blocks[len(blocks)-1].at - blocks[0].at
	return int64(float64(len(blocks)-1) * (wire.BlockDatagramSize + wire.Overhead) * 8 / took.Seconds())
}

// dropped gives the places in r.all of the blocks which the recorded client did
// not get, although they were recorded: it asked for them afterwards.
func (r *recording) dropped() map[int]bool {
	drop := map[int]bool{}
	last := map[[2]int32]int{}
	for i, h := range r.all {
		switch h.p.Subtype {
		case wire.Block:
			last[[2]int32{h.p.Chunk, h.p.Block}] = i
		case wire.PRequest:
			for b := h.p.Wanted.Next(0); b >= 0; b = h.p.Wanted.Next(b + 1) {
				if k, ok := last[[2]int32{h.p.Chunk, int32(b)}]; ok {
					drop[k] = true
				}
			}
		}
	}
	return drop
}

// TestRecordings: every datagram of every recording is understood and encodes
// to the same bytes, those between master server and clients' sessions included.
func TestRecordings(t *testing.T) {
	for file, want := range map[string]map[wire.Subtype]int{
		"emulab-small-1client": {wire.Join: 2, wire.Request: 4, wire.Block: 4096, wire.Leave2: 1},
		"omf-small-1client":    {wire.Join: 2, wire.Request: 4, wire.Block: 4096, wire.Leave2: 1},
		"omf-small-loss2pct":   {wire.Join: 2, wire.Request: 4, wire.PRequest: 5, wire.Block: 4165, wire.Leave2: 1},
		"emulab-progress":      {wire.Join: 2, wire.Request: 4, wire.PRequest: 3, wire.Block: 4026, wire.Progress: 6},
		"emulab-master":        {wire.Join: 6, wire.Request: 12},
	} {
		t.Run(file, func(t *testing.T) {
			seen := map[wire.Subtype]int{}
			for i, h := range datagrams(t, file) {
				seen[h.p.Subtype]++
				require.True(t, h.p.ForClient() || h.p.ForServer(), "datagram %d %v", i, h.p.Subtype)
				require.True(t, h.from.Addr() == h.p.SourceAddr(), "datagram %d claims %v", i, h.p.SourceAddr())
			}
			require.Equal(t, want, seen)
		})
	}
}
