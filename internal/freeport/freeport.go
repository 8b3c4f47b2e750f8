// Package freeport finds ports for tests that have to know them before
// anybody listens, or that listen on the same one again later.
//
// They are below those that the kernel gives to whoever asks for any port, so
// that no connection of another test takes one while nobody listens on it.
package freeport

import (
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

const first, count = 10000, 20000 // ports 10000 to 29999

var given sync.Map // ports that this process was told already

// TCP is a TCP port of an address of this machine that nobody listens on now.
func TCP(t testing.TB, host string) uint16 {
	t.Helper()
	return find(t, func(port string) (io.Closer, error) { return net.Listen("tcp4", net.JoinHostPort(host, port)) })
}

// UDP is a UDP port that nobody of this machine has now.
func UDP(t testing.TB) uint16 {
	t.Helper()
	return find(t, func(port string) (io.Closer, error) { return net.ListenPacket("udp4", ":"+port) })
}

func find(t testing.TB, open func(port string) (io.Closer, error)) uint16 {
	t.Helper()
	var err error
	for range 100 {
		port := first + rand.IntN(count)
		if _, again := given.LoadOrStore(port, true); again {
			continue
		}
		var c io.Closer
		if c, err = open(strconv.Itoa(port)); err == nil {
			c.Close()
			return uint16(port)
		}
	}
	t.Fatalf("no free port in 100 attempts: %v", err)
	return 0
}
