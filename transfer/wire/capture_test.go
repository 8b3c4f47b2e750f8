package wire

import (
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/vectors"
)

// captured is one UDP datagram of a capture: what was recorded of its payload,
// and how long it really was.
type captured struct {
	src  [4]byte
	data []byte
	size int
}

// readCapture is a pcapng reader just big enough for the recorded files:
// little-endian, Ethernet, enhanced packet blocks, IPv4 UDP first fragments.
func readCapture(t *testing.T, path string) []captured {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	d, err := io.ReadAll(io.LimitReader(z, 64<<20))
	require.NoError(t, err)
	le, be := binary.LittleEndian, binary.BigEndian
	var out []captured
	for len(d) >= 12 {
		kind, n := le.Uint32(d), int(le.Uint32(d[4:]))
		require.True(t, n >= 12 && n <= len(d), "capture block of %d bytes", n)
		if kind == 6 {
			frame := d[28 : 28+le.Uint32(d[20:])]
			if be.Uint16(frame[12:]) == 0x0800 && frame[23] == 17 && be.Uint16(frame[20:])&0x1fff == 0 {
				ip := frame[14:]
				udp := ip[int(ip[0]&15)*4:]
				out = append(out, captured{src: [4]byte(ip[12:16]), data: udp[8:], size: int(be.Uint16(udp[4:])) - 8})
			}
		}
		d = d[n:]
	}
	return out
}

func TestCaptures(t *testing.T) {
	for file, want := range map[string]map[Subtype]int{
		"emulab-small-1client": {Join: 2, Request: 4, Block: 4096, Leave2: 1},
		"omf-small-1client":    {Join: 2, Request: 4, Block: 4096, Leave2: 1},
		"omf-small-loss2pct":   {Join: 2, Request: 4, PRequest: 5, Block: 4165, Leave2: 1},
		"emulab-progress":      {Join: 2, Request: 4, PRequest: 3, Block: 4026, Progress: 6},
	} {
		t.Run(file, func(t *testing.T) {
			seen := map[Subtype]int{}
			for i, c := range readCapture(t, vectors.Path(t, "pcap/"+file+".pcap.gz")) {
				// Frames were cut at 220 bytes; the lost end counts as zeros.
				d := make([]byte, c.size)
				copy(d, c.data)
				var p Packet
				require.NoError(t, p.Decode(d), "datagram %d", i)
				require.Equal(t, c.src, p.Source, "datagram %d", i)
				require.True(t, p.ForClient() || p.ForServer(), "datagram %d %v", i, p.Subtype)
				require.Equal(t, d, p.Append(nil), "datagram %d %v", i, p.Subtype)
				seen[p.Subtype]++
			}
			require.Equal(t, want, seen)
		})
	}
}
