package lab_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/wire"
)

// attack is a hostile host: it sends nonsense, half sense and demands to the
// group, the server and the clients, until its input ends. Its arguments are
// its own address and those to which it sends.
func attack(args []string) error {
	own, err := netip.ParseAddr(args[0])
	if err != nil {
		return err
	}
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, port)))
	if err != nil {
		return err
	}
	defer conn.Close()
	var targets []netip.AddrPort
	for _, a := range args[1:] {
		t, err := netip.ParseAddr(a)
		if err != nil {
			return err
		}
		targets = append(targets, netip.AddrPortFrom(t, port))
	}
	over := make(chan struct{})
	go func() { defer close(over); _, _ = io.Copy(io.Discard, os.Stdin) }()
	fmt.Println("begun")
	r := rand.New(rand.NewPCG(4, 2))
	n := 0
	for tick := time.NewTicker(time.Millisecond); ; {
		select {
		case <-over:
			tick.Stop()
			fmt.Println(n)
			return nil
		case <-tick.C:
		}
		for range 10 {
			// A host that is not there any more, or a full queue, is no reason to stop.
			if _, err := conn.WriteToUDPAddrPort(nasty(r, own), targets[r.IntN(len(targets))]); err == nil {
				n++
			}
		}
	}
}

// nasty makes one datagram.
func nasty(r *rand.Rand, own netip.Addr) []byte {
	number := func() int32 {
		return [...]int32{0, 1, 4, 1023, 1024, 1 << 20, -1, 1<<31 - 1, -1 << 31, r.Int32N(8), int32(r.Uint32())}[r.IntN(11)]
	}
	if r.IntN(4) == 0 { // nonsense
		d := make([]byte, r.IntN(1400))
		for i := range d {
			d[i] = byte(r.Uint32())
		}
		return d
	}
	p := wire.Packet{Type: wire.Type(1 + r.IntN(2)), Subtype: wire.Subtype(1 + r.IntN(8)), Source: own.As4(),
		ClientID: r.Uint32(), Blocks: uint32(number()), BlocksPerChunk: number(), BlockSize: number(), Size: r.Uint64(),
		Elapsed: number(), Layout: wire.Layout(r.IntN(2)), Chunk: number(), Block: number(), Count: number(), Retries: number(),
		When: uint32(number()), What: uint16(r.IntN(4)), Seq: uint16(number()),
		ChunksReceived: uint32(number()), ChunksDecompressed: uint32(number()), BytesWritten: r.Uint64(), Data: []byte("nothing good")}
	for range r.IntN(4) {
		p.Wanted.Set(r.IntN(wire.BlocksPerChunk))
	}
	d := p.Append(nil)
	switch r.IntN(4) {
	case 0: // damaged
		for range 1 + r.IntN(8) {
			d[r.IntN(len(d))] ^= 1 << r.IntN(8)
		}
	case 1: // cut off
		d = d[:r.IntN(len(d)+1)]
	case 2: // of a subtype of the future
		d[4] = byte(9 + r.IntN(100))
	}
	return d
}

// TestHostileHost: loads go on and end well while another host sends what it
// likes to server and clients; neither takes more memory for it.
func TestHostileHost(t *testing.T) {
	n := network(t, 6)
	server, receivers, hostile := n.Hosts[0], n.Hosts[1:5], n.Hosts[5]
	s := serve(t, server, "-W", "300000000", "-d")
	self, err := os.Executable()
	require.NoError(t, err)
	args := []string{hostile.Addr.String(), group, server.Addr.String()}
	for _, h := range receivers {
		args = append(args, h.Addr.String())
	}
	attacker := hostile.Command(t.Context(), self, args...)
	attacker.Env = append(os.Environ(), role+"=attack")
	attacker.Stderr = os.Stderr
	end, err := attacker.StdinPipe()
	require.NoError(t, err)
	said := &watched{until: "begun", seen: make(chan struct{})}
	attacker.Stdout = said
	require.NoError(t, attacker.Start())
	<-said.seen

	// The receivers know their server; a false one is another matter (§12).
	gots := receive(t, receivers, "-S", server.Addr.String())
	memory := s.memory()
	require.NoError(t, end.Close())
	require.NoError(t, attacker.Wait())
	report(t, s, gots)
	require.Less(t, memory, int64(128)<<20, "the server's memory")
	for i, g := range gots {
		require.Less(t, g.memory, int64(128)<<20, "memory of host %d", i)
		require.Positive(t, figure(t, g, "Bad"), "nothing hostile reached host %d", i)
	}
	m := regexp.MustCompile(`ignored: (\d+) undecodable`).FindStringSubmatch(s.diag.String())
	require.NotNil(t, m, "%s", s.diag)
	bad, err := strconv.Atoi(m[1])
	require.NoError(t, err)
	require.Greater(t, bad, 10, "nothing hostile reached the server")
}
