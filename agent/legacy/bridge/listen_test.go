package bridge

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/agent/legacy"
	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

// TestAgentsThatConnect: agents in the mode that the recordings call TCP client say who they are when they connect; what
// they run they say themselves (omf-agent-07). A stranger is turned away.
func TestAgentsThatConnect(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	h := bustest.Start(t)
	handler := h.Connect(t)
	b, err := New(Config{
		Testbed: bustest.Testbed, Listener: ln, Timing: quick,
		Nodes:   []Node{{Name: nodeName, X: 1, Y: 2, Address: netip.MustParseAddr("127.66.1.3"), Listen: true}},
		Connect: func(context.Context, string) (Bus, error) { return h.ConnectNode(t, nodeName), nil },
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	defer func() { cancel(); require.NoError(t, <-done) }()

	dial := func(from string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp4", ln.Addr().String())
		require.NoError(t, err)
		return c
	}
	stranger := dial("127.66.1.4")
	defer stranger.Close()
	_ = stranger.SetReadDeadline(time.Now().Add(bustest.Patience))
	_, err = stranger.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded)

	c := dial("127.66.1.3")
	defer c.Close()
	_, err = c.Write([]byte("127.66.1.3 0 WHOAMI 4.2 - -1 4.4.0 pxe:1.0.0"))
	require.NoError(t, err)
	lines := make(chan legacy.Command, 16)
	go func() { // the agent: it is enrolled by its second WHOAMI, and has no programs
		defer close(lines)
		buf := make([]byte, 1024)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			for line := range strings.Lines(string(buf[:n])) {
				cmd, err := legacy.ParseCommand(line)
				if err != nil {
					continue
				}
				switch cmd.Name {
				case legacy.YouAre:
					_, _ = c.Write([]byte("n_1_2 0 WHOAMI 4.2 - -1 4.4.0 pxe:1.0.0"))
				case legacy.Exec:
					id := cmd.Args[0]
					_, _ = fmt.Fprintf(c, "n_1_2 0 APP_EVENT STARTED %sn_1_2 0 APP_EVENT DONE.ERROR %s \"status: 256\"", id, id)
				case legacy.Rallo:
					_, _ = c.Write([]byte("n_1_2 0 ALLO 09:18:14"))
				}
				select {
				case lines <- cmd:
				default:
				}
			}
		}
	}()
	m := bustest.Await(t, handler, bus.StreamReports, events.NodeReports(bustest.Testbed, nodeName), func(m bus.Message) bool { return m.Address.Kind == events.KindUp })
	d, err := events.Decode(m.Event)
	require.NoError(t, err)
	up := d.(events.Up)
	require.True(t, up.Imaging)
	require.Equal(t, "127.66.1.3", up.Address)
	require.Equal(t, legacy.Command{Target: "127.66.1.3", Name: legacy.YouAre, Args: []string{"n_1_2", "0"}}, <-lines)
}
