package mcast

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/internal/freeport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type opener func(Options) (Conn, error)

// transports are all the ways to get a Conn; each must pass every conformance test.
func transports() map[string]func() opener {
	memory := func() opener { return NewNetwork(NetworkConfig{Seed: 1}).Open }
	faultless := func(open opener) opener {
		return func(o Options) (Conn, error) {
			c, err := open(o)
			if err != nil {
				return nil, err
			}
			return WithFaults(c, Faults{}, 1), nil
		}
	}
	all := map[string]func() opener{
		"memory":            memory,
		"memory with delay": func() opener { return NewNetwork(NetworkConfig{Delay: time.Millisecond}).Open },
		"sockets, faults":   func() opener { return faultless(Open) },
		"memory, faults":    func() opener { return faultless(memory()) },
	}
	for _, m := range modes() {
		all["sockets "+m.String()] = func() opener { return m.open }
	}
	return all
}

// modes are all combinations; what this kernel does not have is left out.
func modes() (all []Mode) {
	for _, send := range []Way{Auto, Offload, Mmsg, Single} {
		for _, receive := range []Way{Auto, Offload, Mmsg, Single} {
			if (send == Auto) == (receive == Auto) {
				all = append(all, Mode{Send: send, Receive: receive})
			}
		}
	}
	return all
}

// open opens with sockets of this mode.
func (m Mode) open(o Options) (Conn, error) {
	if o.Mode == (Mode{}) {
		o.Mode = m
	}
	return Open(o)
}

var (
	group1 = netip.MustParseAddr("239.255.77.1")
	group2 = netip.MustParseAddr("239.255.77.2")
)

func local(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 77, 0, byte(i)}) }

func mustOpen(t testing.TB, open opener, o Options) Conn {
	t.Helper()
	c, err := open(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// expect receives until it has the datagrams in order; anything else fails.
func expect(t testing.TB, c Conn, from netip.AddrPort, want ...string) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	ds := make([]Datagram, BatchSize)
	for len(want) > 0 {
		n, err := c.Receive(ds)
		require.NoError(t, err, "still waiting for %q", want[0])
		for _, d := range ds[:n] {
			require.NotEmpty(t, want, "unexpected datagram %q from %v", d.Data, d.From)
			require.Equal(t, want[0], string(d.Data))
			require.Equal(t, from, d.From)
			want = want[1:]
		}
	}
}

func send(t testing.TB, c Conn, ds ...string) {
	t.Helper()
	var bs [][]byte
	for _, d := range ds {
		bs = append(bs, []byte(d))
	}
	require.NoError(t, c.Send(bs))
}

func TestConformance(t *testing.T) {
	tests := map[string]func(t *testing.T, open opener, port uint16){
		"group reaches every member":     testGroup,
		"unicast reaches one":            testUnicast,
		"groups and ports do not mix":    testSeparate,
		"deadline":                       testDeadline,
		"close ends a receive":           testClose,
		"exclusive port":                 testExclusive,
		"ignored datagrams":              testIgnore,
		"bad sizes":                      testSizes,
		"nothing is lost when read":      testMany,
		"unicast mode":                   testUnicastMode,
		"late is not nothing":            testLate,
		"refused options":                testOptions,
		"short batch means empty queue":  testShortBatch,
		"shared address hears the group": testSharedAddress,
		"all sizes in order":             testRuns,
		"datagrams in two parts":         testParts,
		"ignored among others":           testIgnoreJoined,
		"unicast does not end a batch":   testSideBatch,
	}
	for transport, make := range transports() {
		for name, test := range tests {
			t.Run(transport+"/"+name, func(t *testing.T) { test(t, make(), freeport.UDP(t)) })
		}
	}
}

func testGroup(t *testing.T, open opener, port uint16) {
	server := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1)})
	var clients []Conn
	for i := range 9 {
		clients = append(clients, mustOpen(t, open, Options{Group: group1, Port: port, Local: local(10 + i)}))
	}
	require.Equal(t, netip.AddrPortFrom(local(1), port), server.Addr())
	require.Equal(t, netip.AddrPortFrom(group1, port), server.Group())
	send(t, server, "one", "two", "three")
	for _, c := range clients {
		expect(t, c, server.Addr(), "one", "two", "three")
	}
	expect(t, server, server.Addr(), "one", "two", "three") // on loopback one hears oneself
	send(t, clients[4], "hello")
	expect(t, clients[0], clients[4].Addr(), "hello")
	expect(t, server, clients[4].Addr(), "hello")
}

func testUnicast(t *testing.T, open opener, port uint16) {
	a := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1)})
	b := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(2)})
	c := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(3)})
	require.NoError(t, a.SendTo(b.Addr(), []byte("only you")))
	expect(t, b, a.Addr(), "only you")
	send(t, a, "all of you")
	expect(t, c, a.Addr(), "all of you")
	require.NoError(t, c.SendTo(a.Addr(), []byte("answer")))
	// a has two datagrams by two ways; their order is not promised.
	got := map[string]bool{}
	require.NoError(t, a.SetReadDeadline(time.Now().Add(10*time.Second)))
	ds := make([]Datagram, 4)
	for len(got) < 2 {
		n, err := a.Receive(ds)
		require.NoError(t, err)
		for _, d := range ds[:n] {
			got[string(d.Data)+" from "+d.From.String()] = true
		}
	}
	require.Equal(t, map[string]bool{"all of you from " + a.Addr().String(): true, "answer from " + c.Addr().String(): true}, got)
}

func testSeparate(t *testing.T, open opener, port uint16) {
	port2 := freeport.UDP(t)
	one := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1)})
	two := mustOpen(t, open, Options{Group: group2, Port: port, Local: local(2)})
	three := mustOpen(t, open, Options{Group: group1, Port: port2, Local: local(3)})
	for i, c := range []Conn{one, two, three} {
		send(t, c, fmt.Sprintf("mine %d", i))
	}
	for i, c := range []Conn{one, two, three} {
		expect(t, c, c.Addr(), fmt.Sprintf("mine %d", i))
		require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
		_, err := c.Receive(make([]Datagram, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "%d hears what is not for it", i)
	}
}

func testDeadline(t *testing.T, open opener, port uint16) {
	c := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1)})
	start := time.Now()
	require.NoError(t, c.SetReadDeadline(start.Add(30*time.Millisecond)))
	_, err := c.Receive(make([]Datagram, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.GreaterOrEqual(t, time.Since(start), 30*time.Millisecond)

	// A deadline in the past wakes whoever waits; unicast does so too.
	woken := make(chan error)
	receive := func() {
		_, err := c.Receive(make([]Datagram, 1))
		woken <- err
	}
	require.NoError(t, c.SetReadDeadline(time.Time{}))
	go receive()
	require.NoError(t, c.SetReadDeadline(time.Unix(1, 0)))
	require.ErrorIs(t, <-woken, os.ErrDeadlineExceeded)

	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	go receive()
	require.NoError(t, c.SendTo(c.Addr(), []byte("me")))
	require.NoError(t, <-woken)
	// And the deadline set before the unicast still holds.
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	go receive()
	require.ErrorIs(t, <-woken, os.ErrDeadlineExceeded)
}

func testClose(t *testing.T, open opener, port uint16) {
	o := Options{Group: group1, Port: port, Local: local(1), Exclusive: true}
	c := mustOpen(t, open, o)
	done := make(chan error)
	go func() {
		_, err := c.Receive(make([]Datagram, 1))
		done <- err
	}()
	require.NoError(t, c.Close())
	require.ErrorIs(t, <-done, net.ErrClosed)
	require.ErrorIs(t, c.Send([][]byte{[]byte("x")}), net.ErrClosed)
	mustOpen(t, open, o) // the port is free again
}

func testExclusive(t *testing.T, open opener, port uint16) {
	o := Options{Group: group1, Port: port, Local: local(1), Exclusive: true}
	mustOpen(t, open, o)
	_, err := open(o)
	require.ErrorIs(t, err, ErrPortInUse)
	require.ErrorContains(t, err, netip.AddrPortFrom(local(1), port).String())
	o.Exclusive = false
	mustOpen(t, open, o) // a client on the server's address
	o.Exclusive, o.Local = true, local(2)
	mustOpen(t, open, o) // another address is another server
}

func testIgnore(t *testing.T, open opener, port uint16) {
	word := func(w uint32) string { return "head" + string(binary.LittleEndian.AppendUint32(nil, w)) + "tail" }
	a := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1), Ignore: []Match{{Offset: 4, Word: 0x01020304}, {Offset: 4, Word: 7}}})
	send(t, a, word(0x01020304), "short", word(7), word(0x04030201), word(8))
	expect(t, a, a.Addr(), "short", word(0x04030201), word(8))
}

func testSizes(t *testing.T, open opener, port uint16) {
	a := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1)})
	require.ErrorIs(t, a.Send([][]byte{make([]byte, maxDatagram+1)}), ErrTooLarge)
	require.ErrorIs(t, a.SendTo(a.Addr(), nil), ErrTooLarge)
	big := string(make([]byte, 9000))
	send(t, a, big)
	expect(t, a, a.Addr(), big)
}

func testMany(t *testing.T, open opener, port uint16) {
	const total, nodes = 2000, 8
	server := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1)})
	errs := make(chan error, nodes)
	for i := range nodes {
		c := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(10 + i)})
		require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
		go func() {
			ds := make([]Datagram, BatchSize)
			for got := uint32(0); got < total; {
				n, err := c.Receive(ds)
				if err != nil {
					errs <- fmt.Errorf("after %d datagrams, %d overruns: %w", got, c.Overruns(), err)
					return
				}
				for _, d := range ds[:n] {
					if len(d.Data) != 1048 || binary.LittleEndian.Uint32(d.Data) != got {
						errs <- fmt.Errorf("datagram %d holds %x", got, d.Data[:4])
						return
					}
					got++
				}
			}
			errs <- nil
		}()
	}
	for i := 0; i < total; i += 50 {
		var batch [][]byte
		for k := range 50 {
			d := make([]byte, 1048)
			binary.LittleEndian.PutUint32(d, uint32(i+k))
			batch = append(batch, d)
		}
		require.NoError(t, server.Send(batch))
	}
	for range nodes {
		require.NoError(t, <-errs)
	}
	require.Zero(t, server.Overruns())
}

// testRuns sends datagrams of mixed sizes: runs which may go as one, one that
// is longer than that, ends that are shorter, and longer ones after shorter.
func testRuns(t *testing.T, open opener, port uint16) {
	a := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1)})
	b := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(2)})
	var ds []string
	add := func(n, size int) {
		for range n {
			d := make([]byte, size)
			for i := range d {
				d[i] = byte(i + len(ds))
			}
			ds = append(ds, string(d))
		}
	}
	add(70, 1048)
	add(1, 20)
	add(3, 1048)
	add(1, 1047)
	add(2, 1049)
	add(150, 1)
	add(9, 9000)
	add(1, 8999)
	add(1, 9000)
	send(t, a, ds...)
	expect(t, b, a.Addr(), ds...)
}

func testParts(t *testing.T, open opener, port uint16) {
	a := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1)})
	b := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(2)})
	p, ok := a.(PartsSender)
	if !ok {
		_, bare := a.(*faulty)
		require.True(t, bare, "%T sends no parts", a)
		return // a wrapper need not
	}
	chunk := make([]byte, 200*1024)
	var heads, bodies [][]byte
	var want []string
	for i := range 200 {
		chunk[i*1024] = byte(i)
		heads = append(heads, fmt.Appendf(nil, "head %3d", i))
		bodies = append(bodies, chunk[i*1024:(i+1)*1024])
		want = append(want, string(heads[i])+string(bodies[i]))
	}
	bodies[199] = bodies[199][:10]
	want[199] = want[199][:18]
	require.NoError(t, p.SendParts(heads, bodies))
	expect(t, b, a.Addr(), want...)
	require.NoError(t, p.SendParts(nil, nil))
	require.ErrorIs(t, p.SendParts(heads[:2], bodies[:1]), ErrOptions)
	require.ErrorIs(t, p.SendParts(heads[:1], nil), ErrOptions)
	require.ErrorIs(t, p.SendParts([][]byte{{1}}, [][]byte{{}}), ErrTooLarge)
	require.ErrorIs(t, p.SendParts([][]byte{{}}, [][]byte{{1}}), ErrTooLarge)
}

// testIgnoreJoined: what is to be ignored goes, and nothing else, also when
// they travel as one: in front, between and at the end of others.
func testIgnoreJoined(t *testing.T, open opener, port uint16) {
	word := func(w uint32, size int) string {
		return string(append(binary.LittleEndian.AppendUint32([]byte("head"), w), make([]byte, size-8)...))
	}
	block, other := word(3, 100), word(4, 100)
	a := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1)})
	b := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(2),
		Ignore: []Match{{Offset: 4, Word: 3, Size: 100}, {Offset: 4, Word: 9, Size: 12}}})
	var blocks []string
	for range 500 {
		blocks = append(blocks, block)
	}
	send(t, a, blocks...)
	send(t, a, block, block, word(3, 20))
	send(t, a, block, other, other)
	send(t, a, other, block, block)
	send(t, a, word(9, 12), word(9, 13), word(9, 12), word(9, 11))
	send(t, a, word(3, 200), "short", "last")
	expect(t, b, a.Addr(), word(3, 20), other, other, other, word(9, 13), word(9, 11), word(3, 200), "short", "last")
	require.NoError(t, b.SetReadDeadline(time.Unix(1, 0)))
	_, err := b.Receive(make([]Datagram, 4))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// testSideBatch: the group's datagrams come in the same batch as unicast ones,
// as many as there is room for.
func testSideBatch(t *testing.T, open opener, port uint16) {
	a := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1)})
	b := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(2)})
	var ds []string
	for i := range 3 * BatchSize {
		ds = append(ds, fmt.Sprintf("%03d", i))
	}
	send(t, a, ds...)
	require.NoError(t, a.SendTo(b.Addr(), []byte("you!")))
	expect(t, a, a.Addr(), ds...) // so all of them have arrived at b, too
	require.NoError(t, b.SetReadDeadline(time.Now().Add(10*time.Second)))
	got := map[string]bool{}
	full := 0
	for len(got) < len(ds)+1 {
		batch := make([]Datagram, BatchSize)
		n, err := b.Receive(batch)
		require.NoError(t, err)
		if n == BatchSize {
			full++
		}
		for _, d := range batch[:n] {
			require.False(t, got[string(d.Data)], "%q came twice", d.Data)
			got[string(d.Data)] = true
		}
	}
	require.GreaterOrEqual(t, full, 2)
}

func testUnicastMode(t *testing.T, open opener, port uint16) {
	a := mustOpen(t, open, Options{Group: local(2), Port: port, Local: local(1)})
	b := mustOpen(t, open, Options{Group: local(1), Port: port, Local: local(2)})
	send(t, a, "to b")
	expect(t, b, a.Addr(), "to b")
	send(t, b, "to a", "again")
	expect(t, a, b.Addr(), "to a", "again")
}

func testShortBatch(t *testing.T, open opener, port uint16) {
	a := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1)})
	send(t, a, "1", "2", "3")
	require.NoError(t, a.SetReadDeadline(time.Now().Add(10*time.Second)))
	got := 0
	for got < 3 {
		n, err := a.Receive(make([]Datagram, 2))
		require.NoError(t, err)
		require.LessOrEqual(t, n, 2)
		got += n
	}
	n, err := a.Receive(nil)
	require.NoError(t, err)
	require.Zero(t, n)
}

// testLate: a receiver that comes after its deadline finds what arrived before.
func testLate(t *testing.T, open opener, port uint16) {
	a := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1)})
	b := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(2)})
	send(t, a, "1")
	expect(t, b, a.Addr(), "1") // so the next one is there as soon as it is sent
	send(t, a, "2", "3")
	require.NoError(t, a.SetReadDeadline(time.Now().Add(10*time.Second)))
	got := 0
	for ds := make([]Datagram, 4); got < 3; {
		n, err := a.Receive(ds)
		require.NoError(t, err)
		got += n
	}
	require.NoError(t, b.SetReadDeadline(time.Unix(1, 0)))
	got = 0
	for ds := make([]Datagram, 1); got < 2; got++ {
		_, err := b.Receive(ds)
		require.NoError(t, err)
	}
	_, err := b.Receive(make([]Datagram, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func testSharedAddress(t *testing.T, open opener, port uint16) {
	server := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1), Exclusive: true})
	client := mustOpen(t, open, Options{Group: group1, Port: port, Local: local(1)})
	send(t, client, "request")
	expect(t, server, server.Addr(), "request")
	send(t, server, "reply")
	expect(t, client, server.Addr(), "request", "reply")
}

func testOptions(t *testing.T, open opener, port uint16) {
	good := Options{Group: group1, Port: port, Local: local(1)}
	for name, change := range map[string]func(*Options){
		"no group":        func(o *Options) { o.Group = netip.Addr{} },
		"IPv6 group":      func(o *Options) { o.Group = netip.MustParseAddr("ff02::1") },
		"broadcast":       func(o *Options) { o.Group = netip.MustParseAddr("255.255.255.255") },
		"port 0":          func(o *Options) { o.Port = 0 },
		"multicast local": func(o *Options) { o.Local = group1 },
		"IPv6 local":      func(o *Options) { o.Local = netip.IPv6Loopback() },
		"TTL 256":         func(o *Options) { o.TTL = 256 },
		"negative buffer": func(o *Options) { o.ReadBuffer = -1 },
		"negative offset": func(o *Options) { o.Ignore = []Match{{Offset: -1}} },
		"offset and size": func(o *Options) { o.Ignore = []Match{{Offset: 4, Size: 7}} },
		"no such mode":    func(o *Options) { o.Mode.Send = Single + 1 },
	} {
		o := good
		change(&o)
		_, err := open(o)
		require.ErrorIs(t, err, ErrOptions, name)
	}
}
