package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/agent/legacy/group"
)

// TestLegacyGroups: the agent meets a legacy controller on the groups it is told.
func TestLegacyGroups(t *testing.T) {
	const groups = "multicast:239.66.4.1:29106,239.66.4.2:29102"
	pair, err := group.Parse(groups)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	c, err := group.OpenController(ctx, pair, netip.MustParseAddr("127.66.4.1"))
	require.NoError(t, err)
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"--node", "n1-2", "--nats", "none", "--imaging", "--legacy-listen", groups, "--address", "127.66.4.2"}, noEnv, io.Discard, io.Discard)
	}()
	calling := make(chan struct{})
	go func() { // until the agent is there, nobody hears
		defer close(calling)
		for ctx.Err() == nil && c.Write([]byte("0 127.66.4.2 YOUARE n_1_2 0\n")) == nil {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	buf := make([]byte, group.MaxDatagram)
	n, from, err := c.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "127.66.4.2", from.String())
	require.Equal(t, "n_1_2 0 WHOAMI 4.2 239.66.4.1 29106 4.4.0 pxe:dev", string(buf[:n]))
	cancel()
	require.Zero(t, <-done)
	<-calling
	require.NoError(t, c.Close())
	_, _, err = c.Read(buf)
	for err == nil {
		_, _, err = c.Read(buf)
	}
	require.True(t, errors.Is(err, net.ErrClosed))

	var says strings.Builder
	for _, bad := range []string{"multicast:10.0.0.1:1,10.0.0.2:2", "multicast:", "multicast-me"} {
		require.Equal(t, exitFailed, run(t.Context(), []string{"--node", "n", "--nats", "none", "--legacy-listen", bad, "--address", "127.66.4.2"}, noEnv, io.Discard, &says))
	}
	require.Equal(t, 3, strings.Count(says.String(), "--legacy-listen: not the groups"))
}
