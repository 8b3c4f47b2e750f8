package wire

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/vectors"
)

func TestCaptures(t *testing.T) {
	for file, want := range map[string]map[Subtype]int{
		"emulab-small-1client": {Join: 2, Request: 4, Block: 4096, Leave2: 1},
		"omf-small-1client":    {Join: 2, Request: 4, Block: 4096, Leave2: 1},
		"omf-small-loss2pct":   {Join: 2, Request: 4, PRequest: 5, Block: 4165, Leave2: 1},
		"emulab-progress":      {Join: 2, Request: 4, PRequest: 3, Block: 4026, Progress: 6},
	} {
		t.Run(file, func(t *testing.T) {
			seen := map[Subtype]int{}
			_, frames := vectors.Frames(t, "pcap/"+file+".pcap.gz")
			for i, f := range frames {
				ip, udp, ok := vectors.UDP(f)
				if !ok {
					continue
				}
				// Frames were cut at 220 bytes; the lost end counts as zeros.
				d := make([]byte, binary.BigEndian.Uint16(udp[4:])-8)
				copy(d, udp[8:])
				var p Packet
				require.NoError(t, p.Decode(d), "datagram %d", i)
				require.Equal(t, [4]byte(ip[12:16]), p.Source, "datagram %d", i)
				require.True(t, p.ForClient() || p.ForServer(), "datagram %d %v", i, p.Subtype)
				require.Equal(t, d, p.Append(nil), "datagram %d %v", i, p.Subtype)
				seen[p.Subtype]++
			}
			require.Equal(t, want, seen)
		})
	}
}
