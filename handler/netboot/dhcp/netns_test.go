//go:build linux

package dhcp_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"loadnode/handler/netboot/dhcp"
)

// inside runs f on a thread of its own in a network namespace. The thread is
// not used again.
func inside(t *testing.T, ns string, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		fd, err := unix.Open(filepath.Join("/run/netns", ns), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			_ = unix.Close(fd)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	require.NoError(t, <-done)
}

// network makes two namespaces with a cable between them: the server's with
// 10.18.0.1/16 on s0, the node's with n0 of the given MAC.
func network(t *testing.T, mac string) (server, node string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs the program ip (package iproute2)")
	}
	ip := func(args ...string) error {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
		return nil
	}
	server, node = fmt.Sprintf("loadnode-dhcp-%d-s", os.Getpid()), fmt.Sprintf("loadnode-dhcp-%d-n", os.Getpid())
	for _, ns := range []string{server, node} {
		if err := ip("netns", "add", ns); err != nil {
			t.Skipf("network namespaces cannot be made here: %v", err)
		}
		t.Cleanup(func() { require.NoError(t, ip("netns", "delete", ns)) })
	}
	for _, args := range [][]string{
		{"-n", server, "link", "add", "s0", "type", "veth", "peer", "name", "n0", "netns", node},
		{"-n", node, "link", "set", "n0", "address", mac, "up"},
		{"-n", server, "address", "add", "10.18.0.1/16", "dev", "s0"},
		{"-n", server, "link", "set", "s0", "up"},
	} {
		require.NoError(t, ip(args...))
	}
	return server, node
}

// TestClientGetsItsReservation runs a real client over a real interface.
func TestClientGetsItsReservation(t *testing.T) {
	serverNS, nodeNS := network(t, ours)
	s := newServer(t, config(dhcp.Reservations))
	var socket net.PacketConn
	inside(t, serverNS, func() (err error) {
		socket, err = dhcp.Listen("s0", dhcp.ServerPort)
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	asks, done := make(chan dhcp.Ask, 16), make(chan error, 1)
	go func() {
		done <- s.Serve(ctx, []dhcp.Socket{{Conn: socket, Port: dhcp.ServerPort}}, func(a dhcp.Ask, err error) {
			if err != nil {
				a.Outcome = dhcp.Outcome("not sent: " + err.Error())
			}
			asks <- a
		})
	}()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	var c *nclient4.Client
	inside(t, nodeNS, func() (err error) {
		c, err = nclient4.New("n0", nclient4.WithTimeout(5*time.Second), nclient4.WithRetry(4))
		return err
	})
	defer c.Close()
	lease, err := c.Request(ctx, firmwares()["bios rom"]...)
	require.NoError(t, err)
	require.Equal(t, "10.18.1.1", lease.ACK.YourIPAddr.String())
	require.Equal(t, "undionly.kpxe", lease.ACK.BootFileName)
	require.Equal(t, "10.18.0.1", lease.ACK.ServerIPAddr.String())
	require.Equal(t, dhcp.Offered, (<-asks).Outcome)
	require.Equal(t, dhcp.Acked, (<-asks).Outcome)

	// A stranger on the same cable is not answered.
	hw, err := net.ParseMAC(foreig)
	require.NoError(t, err)
	stranger, err := dhcpv4.NewDiscovery(hw)
	require.NoError(t, err)
	var raw net.PacketConn
	inside(t, nodeNS, func() (err error) {
		raw, err = nclient4.NewRawUDPConn("n0", 68)
		return err
	})
	defer raw.Close()
	_, err = raw.WriteTo(stranger.ToBytes(), net.UDPAddrFromAddrPort(netip.MustParseAddrPort("255.255.255.255:67")))
	require.NoError(t, err)
	a := <-asks
	require.Equal(t, dhcp.Unknown, a.Outcome)
	require.Nil(t, a.Reply)
}
