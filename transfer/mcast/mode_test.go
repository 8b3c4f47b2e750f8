package mcast

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"loadnode/internal/freeport"
)

func TestModeText(t *testing.T) {
	for text, want := range map[string]Mode{
		"": {}, "auto": {}, "gso": {Offload, Offload}, "gro": {Offload, Offload}, "mmsg": {Mmsg, Mmsg}, "single": {Single, Single},
		"gso/single": {Offload, Single}, "auto/gro": {Auto, Offload}, "mmsg/auto": {Mmsg, Auto},
	} {
		var m Mode
		require.NoError(t, m.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, m, text)
	}
	for _, m := range modes() {
		text, err := m.MarshalText()
		require.NoError(t, err)
		var again Mode
		require.NoError(t, again.UnmarshalText(text))
		require.Equal(t, m, again, "%s", text)
	}
	for _, text := range []string{"fast", "gro/gso", "gso/", "/gro", "mmsg/single/auto", "GSO"} {
		var m Mode
		require.ErrorIs(t, m.UnmarshalText([]byte(text)), ErrOptions, text)
	}
	_, err := Mode{Receive: 9}.MarshalText()
	require.ErrorContains(t, err, "auto/way 9")
}

// TestModeInUse: what is asked for is what is done.
func TestModeInUse(t *testing.T) {
	for _, m := range modes() {
		c := mustOpen(t, m.open, Options{Group: group1, Port: freeport.UDP(t), Local: local(1)})
		got := c.(Modal).Mode()
		require.NotEqual(t, Auto, got.Send)
		require.NotEqual(t, Auto, got.Receive)
		if m != (Mode{}) {
			require.Equal(t, m, got)
		}
	}
	// Without a size a filter cannot see through several datagrams as one.
	c := mustOpen(t, Open, Options{Group: group1, Port: freeport.UDP(t), Local: local(1), Ignore: []Match{{Offset: 4, Word: 3}}})
	require.Equal(t, Mmsg, c.(Modal).Mode().Receive)
}

// TestMemory: a receiver takes as much memory as the traffic needs, up to 4 MB.
func TestMemory(t *testing.T) {
	port := freeport.UDP(t)
	a := mustOpen(t, Mode{Send: Offload}.open, Options{Group: group1, Port: port, Local: local(1)})
	b := mustOpen(t, Open, Options{Group: group1, Port: port, Local: local(2)})
	r := b.(*conn).main.in
	ds := make([]Datagram, BatchSize)
	blocks := make([][]byte, BatchSize)
	for i := range blocks {
		blocks[i] = make([]byte, 1048)
	}
	receive := func(total int) {
		require.NoError(t, b.SetReadDeadline(time.Now().Add(10*time.Second)))
		for got := 0; got < total; {
			n, err := b.Receive(ds)
			require.NoError(t, err)
			got += n
		}
	}
	for range 100 {
		require.NoError(t, a.Send(blocks))
		receive(BatchSize)
	}
	require.LessOrEqual(t, len(r.memory), firstSlots)
	for range 4 {
		for _, d := range blocks {
			require.NoError(t, a.Send([][]byte{d}))
		}
	}
	receive(4 * BatchSize)
	require.Greater(t, len(r.memory), firstSlots)
	require.LessOrEqual(t, len(r.memory)*r.size, 4<<20)
	require.LessOrEqual(t, len(r.memory), groupSlots)
}

// TestRejoin: who joins again is still a member, and hears what comes after.
func TestRejoin(t *testing.T) {
	port := freeport.UDP(t)
	a := mustOpen(t, Open, Options{Group: group1, Port: port, Local: local(1)})
	b := mustOpen(t, Open, Options{Group: group1, Port: port, Local: local(2)})
	for _, word := range []string{"one", "two", "three"} {
		require.NoError(t, b.(Rejoiner).Rejoin())
		send(t, a, word)
		expect(t, b, a.Addr(), word)
	}
	require.NoError(t, b.Close())
	require.ErrorIs(t, b.(Rejoiner).Rejoin(), net.ErrClosed)
	c := mustOpen(t, Open, Options{Group: local(1), Port: freeport.UDP(t), Local: local(3)})
	require.NoError(t, c.(Rejoiner).Rejoin())
}

// refusing is a system call which fails for messages of several datagrams.
func refusing(c Conn, errno unix.Errno) (attempts *int) {
	s, attempts := c.(*conn).own.out, new(int)
	s.fn = func(fd uintptr) bool {
		if s.holds[s.from] > 1 {
			*attempts++
			s.err = errno
			return true
		}
		return s.sendmsg(fd)
	}
	return attempts
}

// TestInterfaceRefusesOffload: datagrams arrive once each and in order all the same,
// and it is not tried for ever.
func TestInterfaceRefusesOffload(t *testing.T) {
	for errno, want := range map[unix.Errno]Way{unix.EIO: Mmsg, unix.EOPNOTSUPP: Mmsg, unix.EINVAL: Offload, unix.EMSGSIZE: Offload} {
		t.Run(errno.Error(), func(t *testing.T) {
			port := freeport.UDP(t)
			a := mustOpen(t, Mode{Send: Offload}.open, Options{Group: group1, Port: port, Local: local(1)})
			b := mustOpen(t, Open, Options{Group: group1, Port: port, Local: local(2)})
			attempts := refusing(a, errno)
			var ds []string
			for i := range 100 {
				d := make([]byte, 1048)
				d[0] = byte(i)
				ds = append(ds, string(d))
			}
			ds = append(ds[:10:10], append([]string{"short"}, ds[10:]...)...)
			for range 3 {
				send(t, a, ds...)
				expect(t, b, a.Addr(), ds...)
			}
			require.Equal(t, 1, *attempts, "the size is not tried again")
			require.Equal(t, want, a.(Modal).Mode().Send)
		})
	}
}

// TestErrorsAreNotHidden: what is not about offload is told.
func TestErrorsAreNotHidden(t *testing.T) {
	a := mustOpen(t, Mode{Send: Offload}.open, Options{Group: group1, Port: freeport.UDP(t), Local: local(1)})
	refusing(a, unix.EPERM)
	err := a.Send([][]byte{{1}, {2}})
	require.ErrorIs(t, err, unix.EPERM)
	require.ErrorContains(t, err, group1.String())
}

// TestNoRoom: a full queue of the interface is waited for, and nothing is sent twice.
func TestNoRoom(t *testing.T) {
	port := freeport.UDP(t)
	a := mustOpen(t, Open, Options{Group: group1, Port: port, Local: local(1)})
	b := mustOpen(t, Open, Options{Group: group1, Port: port, Local: local(2)})
	s := a.(*conn).own.out
	calls := 0
	s.fn = func(fd uintptr) bool {
		if calls++; calls%3 != 0 {
			s.err = unix.ENOBUFS
			return true
		}
		return s.sendmmsg(fd)
	}
	send(t, a, "1", "22", "333")
	send(t, a, "4")
	expect(t, b, a.Addr(), "1", "22", "333", "4")
	require.Equal(t, 6, calls)
}

// TestSendAllocatesNothing: not per batch either.
func TestSendAllocatesNothing(t *testing.T) {
	heads, bodies := make([][]byte, 62), make([][]byte, 62)
	for i := range heads {
		heads[i], bodies[i] = make([]byte, 24), make([]byte, 1024)
	}
	for _, way := range []Way{Offload, Mmsg, Single} {
		a := mustOpen(t, Mode{Send: way, Receive: way}.open, Options{Group: group1, Port: freeport.UDP(t), Local: local(1)})
		ds := make([]Datagram, BatchSize)
		require.Zero(t, testing.AllocsPerRun(20, func() {
			if a.(PartsSender).SendParts(heads, bodies) != nil {
				panic("not sent")
			}
			for n := 0; n < 62; {
				k, err := a.Receive(ds)
				if err != nil {
					panic(err)
				}
				n += k
			}
		}))
	}
}
