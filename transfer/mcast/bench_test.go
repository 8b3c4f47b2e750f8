package mcast

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/freeport"
)

// BenchmarkRoad is the whole road of blocks, from the memory of a sender into
// that of a receiver, by each way; one goroutine does both in turn, so nothing
// is lost and nobody waits. cpu-s/GB is for 10⁹ bytes of payload, both ends and
// the kernel between them.
func BenchmarkRoad(b *testing.B) {
	for _, m := range []Mode{{Offload, Offload}, {Offload, Mmsg}, {Mmsg, Mmsg}, {Single, Single}} {
		b.Run(m.String(), func(b *testing.B) {
			c := mustOpen(b, m.open, Options{Group: group1, Port: freeport.UDP(b), Local: local(1)})
			const n, payload = 62, 1024
			heads, bodies := make([][]byte, n), make([][]byte, n)
			chunk := make([]byte, n*payload)
			for i := range heads {
				heads[i], bodies[i] = make([]byte, 24), chunk[i*payload:(i+1)*payload]
			}
			into := make([]byte, n*payload)
			ds := make([]Datagram, BatchSize)
			used := func() float64 {
				var u syscall.Rusage
				require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
				return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
			}
			b.SetBytes(n * payload)
			b.ReportAllocs()
			b.ResetTimer()
			before := used()
			for range b.N {
				require.NoError(b, c.(PartsSender).SendParts(heads, bodies))
				for got := 0; got < n; {
					k, err := c.Receive(ds)
					require.NoError(b, err)
					for _, d := range ds[:k] {
						copy(into[got*payload:(got+1)*payload], d.Data[24:])
						got++
					}
				}
			}
			b.StopTimer()
			b.ReportMetric((used()-before)*1e9/(float64(b.N)*n*payload), "cpu-s/GB")
		})
	}
}
