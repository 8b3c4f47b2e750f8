package group

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	p, err := Parse("multicast")
	require.NoError(t, err)
	require.Equal(t, "multicast:224.4.0.1:9006,224.4.0.2:9002", p.String())
	p, err = Parse("multicast:239.1.2.3:1,239.1.2.3:2")
	require.NoError(t, err)
	require.Equal(t, netip.MustParseAddrPort("239.1.2.3:2"), p.Controllers)
	for _, bad := range []string{"", ":9006", "multicast:", "multicast,", "multicastx", "multicast:224.4.0.1:9006", "multicast:224.4.0.1,224.4.0.2",
		"multicast:10.0.0.1:9006,224.4.0.2:9002", "multicast:224.4.0.1:9006,224.4.0.1:9006", "multicast:224.4.0.1:0,224.4.0.2:9002", "multicast:[ff02::1]:1,[ff02::1]:2"} {
		_, err := Parse(bad)
		require.ErrorIs(t, err, ErrGroups, bad)
	}
}

// FuzzParse: what is accepted is a pair that reads back as itself.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"multicast", Default().String(), "multicast:239.0.0.1:1,", ":9006"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		require.NoError(t, p.Check())
		again, err := Parse(p.String())
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}

// conformance holds for sockets and memory: each side hears the other, and not itself.
func conformance(t *testing.T, controller Conn, agents map[netip.Addr]Conn) {
	buf := make([]byte, MaxDatagram)
	require.NoError(t, controller.Write([]byte("0 NOBODY HELLO\n")))
	for at, a := range agents {
		n, from, err := a.Read(buf)
		require.NoError(t, err)
		require.Equal(t, "0 NOBODY HELLO\n", string(buf[:n]))
		require.True(t, from.IsLoopback())
		require.NoError(t, a.Write(fmt.Appendf(nil, "%s 0 HB", at)))
		n, from, err = controller.Read(buf)
		require.NoError(t, err)
		require.Equal(t, at.String()+" 0 HB", string(buf[:n]), "nothing else was heard")
		require.Equal(t, at, from, "an agent is known by its address")
	}
	for _, a := range agents {
		require.NoError(t, a.Close())
		_, _, err := a.Read(buf)
		require.ErrorIs(t, err, net.ErrClosed)
	}
	require.NoError(t, controller.Close())
}

var addresses = []netip.Addr{netip.MustParseAddr("127.66.3.1"), netip.MustParseAddr("127.66.3.2")}

func TestMemory(t *testing.T) {
	var e Ether
	conformance(t, e.Controller(netip.MustParseAddr("127.0.0.1")), map[netip.Addr]Conn{addresses[0]: e.Agent(addresses[0]), addresses[1]: e.Agent(addresses[1])})
	require.Equal(t, "0 NOBODY HELLO\n", e.Log()[0].Text)
}

func TestSockets(t *testing.T) {
	pair, err := Parse("multicast:239.66.3.1:29006,239.66.3.2:29002")
	require.NoError(t, err)
	ctx := t.Context()
	c, err := OpenController(ctx, pair, netip.MustParseAddr("127.0.0.1"))
	require.NoError(t, err)
	agents := map[netip.Addr]Conn{}
	for _, a := range addresses {
		agents[a], err = OpenAgent(ctx, pair, a)
		require.NoError(t, err)
	}
	conformance(t, c, agents)
	_, err = OpenAgent(ctx, pair, netip.Addr{})
	require.Error(t, err)
}
