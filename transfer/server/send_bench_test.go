package server

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/mcast"
	"loadnode/transfer/wire"
)

// repeated is a large image that needs little memory; reading it costs what
// reading from the page cache does.
type repeated struct {
	base []byte
	size int64
}

func (r *repeated) Size() int64 { return r.size }
func (r *repeated) ReadAt(b []byte, off int64) (int, error) {
	return copy(b, r.base[off%int64(len(r.base)):]), nil
}

// cpu is the time this process has used, user and system.
func cpu(t testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// receiverEnv makes TestReceiverProcess a receiver on this address.
const receiverEnv = "LOADNODE_TEST_RECEIVER"

var benchOptions = mcast.Options{Group: netip.MustParseAddr("239.255.84.1"), Port: 9084, Local: netip.MustParseAddr("127.84.0.1")}

// TestReceiverProcess is no test but the receiving process of BenchmarkSend: it
// takes what comes until its input ends.
func TestReceiverProcess(t *testing.T) {
	addr := os.Getenv(receiverEnv)
	if addr == "" {
		t.Skip("only BenchmarkSend runs this")
	}
	o := benchOptions
	o.Local = netip.MustParseAddr(addr)
	c, err := mcast.Open(o)
	require.NoError(t, err)
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		_ = c.Close()
	}()
	fmt.Println("ready")
	ds := make([]mcast.Datagram, mcast.BatchSize)
	for err == nil {
		_, err = c.Receive(ds)
	}
}

// receiver starts a receiving process.
func receiver(b *testing.B, addr string) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestReceiverProcess$")
	cmd.Env = append(os.Environ(), receiverEnv+"="+addr)
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	for line := bufio.NewScanner(out); line.Scan() && line.Text() != "ready"; {
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // it is killed by nobody, and its result is of no interest
	})
}

// BenchmarkSend is a whole server with each way of sending, on loopback without
// a limit or at a rate, alone or with a receiver in another process. cpu-s/GB is
// what the server's process used for 10⁹ bytes of image, the kernel's work for
// it included; on loopback that is also the delivery to whoever listens. Hashing
// is not in it.
func BenchmarkSend(b *testing.B) {
	for _, receivers := range []int{0, 1} {
		for _, rate := range []int64{Unlimited, 1e9, 300e6} {
			for _, mode := range []mcast.Mode{{Send: mcast.Offload}, {Send: mcast.Mmsg}, {Send: mcast.Single}} {
				name := [...]string{mcast.Offload: "gso", mcast.Mmsg: "mmsg", mcast.Single: "single"}[mode.Send]
				pace := "unlimited"
				if rate > 0 {
					pace = fmt.Sprintf("%dMbit", rate/1e6)
				}
				b.Run(fmt.Sprintf("%s/%s/receivers=%d", name, pace, receivers), func(b *testing.B) {
					if receivers > 0 {
						receiver(b, "127.84.1.1")
					}
					benchmarkSend(b, mode, rate)
				})
			}
		}
	}
}

func benchmarkSend(b *testing.B, mode mcast.Mode, rate int64) {
	o := benchOptions
	o.Mode = mode
	conn, err := Listen(o)
	require.NoError(b, err)
	defer conn.Close()
	base, err := func() ([]byte, error) {
		m := image(16)
		all := make([]byte, m.Size())
		_, err := m.ReadAt(all, 0)
		return all, err
	}()
	require.NoError(b, err)
	s, err := New(Config{Conn: conn, Image: &repeated{base, int64(b.N) * wire.ChunkSize}, Rate: rate, Fixed: true})
	require.NoError(b, err)
	want := wire.FullBitmap()
	s.mu.Lock()
	for c := range b.N {
		s.plan.addFirst(c, &want)
	}
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	b.SetBytes(wire.ChunkSize)
	b.ReportAllocs()
	b.ResetTimer()
	used := cpu(b)
	go func() { done <- s.Run(ctx) }()
	for s.Stats().BlocksSent < uint64(b.N)*wire.BlocksPerChunk {
		time.Sleep(20 * time.Millisecond)
	}
	used = cpu(b) - used
	b.StopTimer()
	cancel()
	require.ErrorIs(b, <-done, context.Canceled)
	b.ReportMetric(used.Seconds()*1e9/(float64(b.N)*wire.ChunkSize), "cpu-s/GB")
}
