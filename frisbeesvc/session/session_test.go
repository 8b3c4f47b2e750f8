package session

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"loadnode/transfer/mcast"
	"loadnode/transfer/server"
	"loadnode/transfer/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testPool = Pool{Group: netip.MustParseAddr("239.192.77.0"), Port: 7000}

func TestPoolGivesDistinctAddresses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Pool{Group: netip.AddrFrom4([4]byte{239, 1, 2, rapid.Byte().Draw(t, "last")}), Port: rapid.Uint16Min(1).Draw(t, "port"),
			OneGroup: rapid.Bool().Draw(t, "one group")}
		require.NoError(t, p.Validate())
		seen := map[uint16]bool{}
		for i := range p.Slots() {
			a := p.At(i)
			require.False(t, seen[a.Port])
			seen[a.Port] = true
			require.True(t, a.Group.IsMulticast())
			require.GreaterOrEqual(t, a.Port, p.Port)
			require.Equal(t, p.OneGroup, a.Group == p.Group && p.OneGroup)
			require.Equal(t, (i+1)%p.Slots(), p.After(a.Port))
		}
		require.Equal(t, p.At(0), p.At(p.Slots()))
	})
	require.NotEqual(t, testPool.At(0).Group, testPool.At(1).Group)
	require.Equal(t, "239.192.77.1:7000", testPool.At(0).String())
	require.Equal(t, 0, testPool.After(12))
	for _, p := range []Pool{{}, {Group: netip.MustParseAddr("10.0.0.1"), Port: 1}, {Group: testPool.Group}, {Group: netip.MustParseAddr("ff02::1"), Port: 1}} {
		require.ErrorIs(t, p.Validate(), ErrPool)
	}
}

// memory is an image in memory whose chunks may be declared bad.
type memory struct {
	*bytes.Reader
	bad error
}

func (m memory) Size() int64             { return m.Reader.Size() }
func (m memory) Check(int, []byte) error { return m.bad }

// ask joins the group as a client and asks for chunk 0.
func ask(t *testing.T, n *mcast.Network, a Address) mcast.Conn {
	t.Helper()
	c, err := n.Open(mcast.Options{Group: a.Group, Port: a.Port, Local: netip.MustParseAddr("127.0.0.9")})
	require.NoError(t, err)
	src := c.Addr().Addr().As4()
	join := wire.Packet{Type: wire.TypeRequest, Subtype: wire.Join, Source: src, ClientID: 5}
	req := wire.Packet{Type: wire.TypeRequest, Subtype: wire.Request, Source: src, Count: wire.BlocksPerChunk}
	require.NoError(t, c.Send([][]byte{join.Append(nil)}))
	require.NoError(t, c.Send([][]byte{req.Append(nil)}))
	return c
}

func TestSession(t *testing.T) {
	n := mcast.NewNetwork(mcast.NetworkConfig{})
	s, err := Start(Config{Image: memory{Reader: bytes.NewReader(make([]byte, 1<<20))}, Address: testPool.At(3),
		Local: netip.MustParseAddr("127.0.0.1"), Rate: server.Unlimited, Listen: n.Open})
	require.NoError(t, err)
	require.Zero(t, s.Heard())
	c := ask(t, n, testPool.At(3))
	defer c.Close()
	var p wire.Packet
	ds := make([]mcast.Datagram, mcast.BatchSize)
	blocks := 0
	for blocks < wire.BlocksPerChunk {
		k, err := c.Receive(ds)
		require.NoError(t, err)
		for _, d := range ds[:k] {
			require.NoError(t, p.Decode(d.Data))
			if p.Subtype == wire.Block {
				blocks++
			}
		}
	}
	require.EqualValues(t, 2, s.Heard())
	require.Equal(t, 1, s.Clients())
	require.EqualValues(t, wire.BlocksPerChunk, s.Stats().BlocksSent)
	require.NoError(t, s.Close())
	require.NoError(t, s.Err())
}

func TestSessionEndsAtDamage(t *testing.T) {
	n := mcast.NewNetwork(mcast.NetworkConfig{})
	bad := errors.New("bad")
	s, err := Start(Config{Image: memory{Reader: bytes.NewReader(make([]byte, 1<<20)), bad: bad}, Address: testPool.At(3),
		Local: netip.MustParseAddr("127.0.0.1"), Listen: n.Open})
	require.NoError(t, err)
	defer s.Close()
	c := ask(t, n, testPool.At(3))
	defer c.Close()
	<-s.Done()
	var d *server.DamagedError
	require.ErrorAs(t, s.Err(), &d)
	require.ErrorIs(t, s.Err(), bad)
	require.Zero(t, s.Stats().BlocksSent)
}

func TestSessionRefusals(t *testing.T) {
	_, err := Start(Config{Image: memory{Reader: bytes.NewReader(make([]byte, 5))}, Address: testPool.At(1),
		Local: netip.MustParseAddr("127.0.0.1"), Listen: mcast.NewNetwork(mcast.NetworkConfig{}).Open})
	require.ErrorIs(t, err, server.ErrConfig)
	_, err = Start(Config{Listen: func(mcast.Options) (mcast.Conn, error) { return nil, mcast.ErrPortInUse }})
	require.ErrorIs(t, err, mcast.ErrPortInUse)
	require.NotErrorIs(t, err, context.Canceled)
}
