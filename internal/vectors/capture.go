package vectors

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// Frames gives the Ethernet frames of a compressed pcap or pcapng file and when they were seen, in microseconds. It knows
// what the recorded files have: little-endian, microseconds, one interface.
func Frames(t testing.TB, name string) (at []uint64, frames [][]byte) {
	t.Helper()
	f, err := os.Open(Path(t, name))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	d, err := io.ReadAll(io.LimitReader(z, 64<<20))
	require.NoError(t, err)
	le := binary.LittleEndian
	if bytes.HasPrefix(d, []byte{0xd4, 0xc3, 0xb2, 0xa1}) { // pcap
		for d = d[24:]; len(d) >= 16; {
			n := int(le.Uint32(d[8:]))
			require.LessOrEqual(t, 16+n, len(d))
			at = append(at, uint64(le.Uint32(d))*1e6+uint64(le.Uint32(d[4:])))
			frames = append(frames, d[16:16+n])
			d = d[16+n:]
		}
		return at, frames
	}
	for len(d) >= 12 { // pcapng
		kind, n := le.Uint32(d), int(le.Uint32(d[4:]))
		require.True(t, n >= 12 && n <= len(d), "capture block of %d bytes", n)
		if kind == 6 {
			at = append(at, uint64(le.Uint32(d[12:]))<<32|uint64(le.Uint32(d[16:])))
			frames = append(frames, d[28:28+le.Uint32(d[20:])])
		}
		d = d[n:]
	}
	return at, frames
}

// UDP gives what an Ethernet frame has of a UDP datagram: its IP header and what follows, and the UDP header and what
// follows. Of a fragmented datagram it is the first fragment; ok is false for everything else.
func UDP(frame []byte) (ip, udp []byte, ok bool) {
	be := binary.BigEndian
	if len(frame) < 42 || be.Uint16(frame[12:]) != 0x0800 || frame[23] != 17 || be.Uint16(frame[20:])&0x1fff != 0 {
		return nil, nil, false
	}
	ip = frame[14:]
	return ip, ip[int(ip[0]&15)*4:], true
}
