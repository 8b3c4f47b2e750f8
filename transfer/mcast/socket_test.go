package mcast

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/internal/freeport"
)

// TestForeignPort: a program that binds the port for itself alone is named as such.
func TestForeignPort(t *testing.T) {
	u, err := net.ListenUDP("udp4", &net.UDPAddr{})
	require.NoError(t, err)
	defer u.Close()
	port := u.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	_, err = Open(Options{Group: group1, Port: port, Local: local(1)})
	require.ErrorIs(t, err, ErrPortInUse)
	require.ErrorContains(t, err, fmt.Sprint(port))
}

func TestNoSuchInterface(t *testing.T) {
	_, err := Open(Options{Group: group1, Port: freeport.UDP(t), Local: netip.MustParseAddr("203.0.113.9")})
	require.ErrorIs(t, err, ErrOptions)
	require.ErrorContains(t, err, "203.0.113.9")
}

// TestOverruns: what the kernel had no room for is counted, so that a lossy
// network and a slow receiver can be told apart.
func TestOverruns(t *testing.T) {
	for name, open := range map[string]opener{"sockets": Open, "memory": NewNetwork(NetworkConfig{Queue: 100}).Open} {
		t.Run(name, func(t *testing.T) {
			port := freeport.UDP(t)
			server := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1)})
			client := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(2), ReadBuffer: 64 << 10})
			const total = 1000
			d := make([]byte, 1048)
			require.Zero(t, client.Backlog())
			for range total {
				require.NoError(t, server.Send([][]byte{d}))
			}
			require.Eventually(t, func() bool { return client.Backlog() > 0.9 }, 5*time.Second, time.Millisecond)
			require.NoError(t, client.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
			got := 0
			for ds := make([]Datagram, BatchSize); ; {
				n, err := client.Receive(ds)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				require.NoError(t, err)
				got += n
			}
			require.Less(t, got, total)
			require.EqualValues(t, total-got, client.Overruns())
			require.Zero(t, client.Backlog())
		})
	}
}
