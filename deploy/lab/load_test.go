package lab_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/deploy/lab"
)

// report logs what a load cost. These are figures, not requirements: the hosts
// share the processors of one machine.
func report(t *testing.T, s *served, gots []got) {
	var slowest, memory = time.Duration(0), int64(0)
	var again, double uint64
	for _, g := range gots {
		slowest, memory = max(slowest, g.took), max(memory, g.memory)
		again += figure(t, g, "Lost")
		double += figure(t, g, "Duplicates")
	}
	s.stop()
	t.Logf("%d receivers: slowest %v, at most %d MB; asked again for %d blocks, %d came twice\n%s",
		len(gots), slowest.Round(time.Millisecond), memory>>20, again, double, s.diag)
}

// TestLoads: real programs on real hosts load an image, and every byte is right.
func TestLoads(t *testing.T) {
	const most = 16
	n := network(t, 1+most)
	server, receivers := n.Hosts[0], n.Hosts[1:]
	for _, loss := range []int{0, 1, 5} {
		for _, count := range []int{1, 4, most} {
			t.Run(fmt.Sprintf("%d receivers, %d %% loss", count, loss), func(t *testing.T) {
				used := receivers[:count]
				args := lose(t, server, used, loss)
				s := serve(t, server, "-W", "300000000")
				gots := receive(t, used, args...)
				var lost uint64
				for i, h := range used {
					if loss > 0 && args == nil {
						dropped, err := h.Lost(t.Context())
						require.NoError(t, err)
						require.Positive(t, dropped, "host %d lost nothing", i)
						lost += dropped
					}
				}
				if loss > 0 && args == nil {
					t.Logf("%d datagrams were dropped", lost)
				}
				report(t, s, gots)
			})
		}
	}
}

// lose makes receivers lose datagrams, by the filter of the kernel or else by
// the programs' own option, which it gives.
func lose(t *testing.T, server *lab.Host, receivers []*lab.Host, percent int) (args []string) {
	if percent > 0 {
		require.NoError(t, server.Segment(t.Context()))
	}
	for _, h := range receivers {
		err := h.Lose(t.Context(), percent, port)
		if errors.Is(err, lab.ErrNoFilter) {
			t.Logf("by the programs themselves: %v", err)
			return []string{"--faults", fmt.Sprintf("loss=%g,seed=7", float64(percent)/100)}
		}
		require.NoError(t, err)
	}
	return nil
}

// TestBadNetwork: datagrams that overtake each other, come twice, and are lost.
func TestBadNetwork(t *testing.T) {
	n := network(t, 5)
	for _, faults := range []string{"reorder=0.1,seed=1", "reorder=0.2,duplicate=0.05,loss=0.02,seed=2"} {
		t.Run(faults, func(t *testing.T) {
			s := serve(t, n.Hosts[0], "-W", "300000000")
			report(t, s, receive(t, n.Hosts[1:], "--faults", faults))
		})
	}
}

// TestSnooping: the switch sends the image to those who joined and to nobody
// else, and no more to those who have left.
func TestSnooping(t *testing.T) {
	n := network(t, 4)
	server, members, bystander := n.Hosts[0], n.Hosts[1:3], n.Hosts[3]
	st, err := os.Stat(image)
	require.NoError(t, err)
	size := uint64(st.Size())
	traffic := func(h *lab.Host) uint64 {
		r, err := h.Received(t.Context())
		require.NoError(t, err)
		return r.Bytes
	}
	before := traffic(bystander)
	s := serve(t, server, "-W", "300000000")
	receive(t, members)
	for i, h := range members {
		require.Greater(t, traffic(h), size, "member %d", i)
	}
	require.Less(t, traffic(bystander)-before, size/50, "a port without members sees the traffic")

	// One who has left, once the switch has noticed: a second load by the other does not reach it.
	require.Eventually(t, func() bool {
		hears, err := members[1].Hears(t.Context(), server, netip.MustParseAddr(group))
		return err == nil && !hears
	}, 10*time.Second, 10*time.Millisecond)
	begun := traffic(members[1])
	receive(t, members[:1])
	require.Greater(t, traffic(members[0]), 2*size)
	require.Less(t, traffic(members[1])-begun, size/50, "a port whose member has left sees the traffic")
	report(t, s, nil)
}

// TestLateReceiver: one that comes when another is half done costs what it missed.
func TestLateReceiver(t *testing.T) {
	n := network(t, 3)
	s := serve(t, n.Hosts[0], "-W", "100000000")
	late := make(chan []got, 1)
	early := make(chan []got, 1)
	go func() { early <- receive(t, n.Hosts[1:2]) }()
	require.Eventually(t, func() bool {
		r, err := n.Hosts[1].Received(t.Context())
		return err == nil && r.Bytes > 2<<20
	}, 20*time.Second, 5*time.Millisecond)
	go func() { late <- receive(t, n.Hosts[2:3]) }()
	report(t, s, slices.Concat(<-early, <-late))
}
