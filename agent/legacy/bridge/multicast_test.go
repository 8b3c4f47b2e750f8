package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/agent/internal/lab"
	"loadnode/agent/legacy"
	"loadnode/agent/legacy/group"
	"loadnode/agent/legacy/legacytest"
	"loadnode/bus/bustest"
	"loadnode/events"
)

var bridgeAddress = netip.MustParseAddr("127.66.1.1")

// onGroup is a bench whose node is reached by multicast.
func onGroup(t *testing.T, n *legacytest.Node, image *lab.Image, agent func() (group.Conn, error), bridge func(context.Context, group.Pair) (group.Conn, error), session func(context.Context, string) (events.SessionState, error)) *bench {
	n.Group = agent
	b := prepare(t, n, image)
	b.run(Node{Name: nodeName, X: 1, Y: 2, Address: n.Address, Groups: pair}, session, bridge)
	return b
}

var pair = group.Pair{Agents: netip.MustParseAddrPort("239.66.1.1:39006"), Controllers: netip.MustParseAddrPort("239.66.1.2:39002")}

// TestMulticastLoad: a node on the real groups loads, halts, and begins anew when it is switched on.
func TestMulticastLoad(t *testing.T) {
	address := netip.MustParseAddr("127.66.1.2")
	b := onGroup(t, imaging(), lab.NewImage(t, 4, 7),
		func() (group.Conn, error) { return group.OpenAgent(context.Background(), pair, address) },
		func(ctx context.Context, p group.Pair) (group.Conn, error) {
			return group.OpenController(ctx, p, bridgeAddress)
		}, nil)
	up := b.up()
	require.True(t, up.Imaging)
	require.Equal(t, b.node.Boot, up.Boot)
	b.images.StartData()
	b.obeyed(events.VerbLoad, b.command(1))
	d := b.outcome(1)
	require.IsType(t, events.LoadDone{}, d, "%+v", d)
	require.Equal(t, events.AssuranceUnverified, d.(events.LoadDone).Assurance)
	first, last, ok, err := b.images.Image.Damage(b.node.Disk)
	require.NoError(t, err)
	require.True(t, ok, "%d to %d", first, last)
	b.node.Cut()
	b.node.On()
	require.NotEqual(t, up.Boot, b.up().Boot, "the bridge has noticed that the node is another one")
	require.Equal(t, 1, b.node.Loads(), "what was said before its boot does not concern it")
}

// faulty gives an ether where a part of all datagrams is lost and another comes twice.
func faulty(seed uint64) *group.Ether {
	random := rand.New(rand.NewPCG(seed, 1))
	return &group.Ether{Fate: func(netip.Addr, bool, string) int {
		switch random.IntN(10) {
		case 0:
			return 0
		case 1:
			return 2
		}
		return 1
	}}
}

// TestMulticastUnderLoss: a tenth of what is said is lost in each direction, and a tenth comes twice; the image is
// loaded all the same, once.
func TestMulticastUnderLoss(t *testing.T) {
	ether := faulty(3)
	b := onGroup(t, imaging(), lab.NewImage(t, 4, 7),
		func() (group.Conn, error) { return ether.Agent(netip.MustParseAddr("127.66.1.2")), nil },
		func(context.Context, group.Pair) (group.Conn, error) { return ether.Controller(bridgeAddress), nil }, nil)
	require.True(t, b.up().Imaging)
	b.images.StartData()
	b.obeyed(events.VerbLoad, b.command(1))
	d := b.outcome(1)
	require.IsType(t, events.LoadDone{}, d, "%+v", d)
	_, _, ok, err := b.images.Image.Damage(b.node.Disk)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 1, b.node.Loads())
}

// TestLostEnd: the message that frisbee is done never arrives, and is never repeated, as with the original agent
// (§a.7). What it printed decides.
func TestLostEnd(t *testing.T) {
	for name, wrote := range map[string]bool{"it said what it wrote": true, "it said nothing": false} {
		t.Run(name, func(t *testing.T) {
			var once sync.Once
			lost := make(chan struct{})
			ether := &group.Ether{Fate: func(_ netip.Addr, toAgents bool, text string) int {
				switch {
				case toAgents && strings.Contains(text, " RETRY "):
					t.Errorf("the original hangs when it is asked to repeat: %q", text)
				case strings.Contains(text, "DONE.OK builtin:load_image"):
					once.Do(func() { close(lost) })
					return 0
				}
				return 1
			}}
			n := imaging()
			image := lab.NewLargeImage(t, 1)
			n.Frisbee = func(_ context.Context, print func(stream, line string)) int {
				if wrote {
					print("STDOUT", fmt.Sprintf("Wrote %d bytes (%d actual)", image.Manifest.DataBytes, image.Manifest.DataBytes))
				}
				return 0
			}
			b := onGroup(t, n, image,
				func() (group.Conn, error) { return ether.Agent(netip.MustParseAddr("127.66.1.2")), nil },
				func(context.Context, group.Pair) (group.Conn, error) { return ether.Controller(bridgeAddress), nil },
				func(_ context.Context, id string) (events.SessionState, error) {
					return events.SessionState{Session: events.Session{ID: id}}, nil
				})
			b.up()
			cmd := b.command(1)
			cmd.Join, cmd.Stall = events.Duration(time.Minute), events.Duration(time.Minute)
			b.obeyed(events.VerbLoad, cmd)
			<-lost
			if wrote {
				d := b.outcome(1)
				require.IsType(t, events.LoadDone{}, d, "%+v", d)
				return
			}
			f := b.failed(1, events.ClassReceive)
			require.True(t, f.Retryable)
			require.Contains(t, f.Message, "were lost")
		})
	}
}

// TestPredecessor: an agent that has another controller, or had this bridge before it was started anew, is made to begin
// anew; whatever it signs with, nobody else is.
func TestPredecessor(t *testing.T) {
	ether := &group.Ether{}
	old := ether.Controller(netip.MustParseAddr("127.66.1.9"))
	stranger := ether.Agent(netip.MustParseAddr("127.66.1.8"))
	defer stranger.Close()
	liar := ether.Agent(netip.MustParseAddr("127.66.1.2"))
	n := imaging()
	n.Group = func() (group.Conn, error) { return ether.Agent(netip.MustParseAddr("127.66.1.2")), nil }
	b := prepare(t, n, lab.NewLargeImage(t, 1))
	require.NoError(t, old.Write([]byte("0 127.66.1.2 YOUARE n_7_7 100\n")))
	require.NoError(t, old.Close())
	b.run(Node{Name: nodeName, X: 1, Y: 2, Address: n.Address, Groups: pair}, nil,
		func(context.Context, group.Pair) (group.Conn, error) { return ether.Controller(bridgeAddress), nil })
	require.NoError(t, liar.Write([]byte(".* 0 HB 1 1 1 1")))
	require.NoError(t, stranger.Write([]byte("n_1_2 0 WHOAMI 4.2 - -1 4.4.0 pxe:1")))
	require.NoError(t, liar.Close())
	require.True(t, b.up().Imaging)
	for _, h := range ether.Log() {
		if h.ToAgents && strings.Contains(h.Text, "RESET") {
			require.Equal(t, "0 \"n_1_2 127.66.1.2\" RESET\n", h.Text)
		}
	}
	bustest.AwaitReport(t, b.handler, nodeName, events.KindUp)
}

// FuzzHub: whatever agents and strangers say, the hub goes on and says nothing that would not be a command.
func FuzzHub(f *testing.F) {
	f.Add("n_1_2 0 HB 2147483647 -5 1 1", "n_1_2 0 RETRY -1 2147483647", "127.66.1.2 0 WHOAMI 4.2 - -1 4.4.0 x")
	f.Add("n_1_2 9 APP_EVENT DONE.OK x", "* 0 HB", "n_1_2 0 WHOAMI")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ether := &group.Ether{}
		h := newHub(pair, quick, discard)
		h.conn = ether.Controller(bridgeAddress)
		address := netip.MustParseAddr("127.66.1.2")
		m := h.add(address, "n_1_2")
		h.deliver(address, a) // before there is a link
		h.deliver(address, "127.66.1.2 0 WHOAMI 4.2 - -1 4.4.0 x")
		via, err := m.await(t.Context())
		require.NoError(t, err)
		for range 3 {
			require.NoError(t, via.send(true, command("RALLO")))
		}
		for _, text := range []string{a, b, c, a, b, c} {
			h.deliver(address, text)
			h.deliver(bridgeAddress, text)
		}
		require.LessOrEqual(t, len(m.texts), 6)
		log := ether.Log()
		require.LessOrEqual(t, len(log), 8+6*perRetry)
		for _, d := range log {
			require.True(t, strings.HasSuffix(d.Text, "\n"))
			require.Equal(t, 1, strings.Count(d.Text, "\n"))
		}
		via.close()
		_, err = via.receive()
		for err == nil {
			_, err = via.receive()
		}
	})
}

var discard = slog.New(slog.DiscardHandler)

func command(name string) legacy.Command { return legacy.Command{Target: "n_1_2", Name: name} }
