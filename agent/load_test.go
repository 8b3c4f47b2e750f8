package agent_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"loadnode/agent"
	"loadnode/agent/internal/lab"
	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
	"loadnode/transfer/disk"
	"loadnode/transfer/ndz"
)

// slow is a rate at which the image of a bench takes half a minute, bit/s.
const slow = 1_200_000

func TestLoad(t *testing.T) {
	for verify, assurance := range map[string]events.Assurance{"": events.AssuranceWritten, events.VerifyReadback: events.AssuranceReadback} {
		t.Run("verify="+verify, func(t *testing.T) {
			b := newBench(t)
			b.images.StartData()
			up := b.up()
			require.True(t, up.Imaging)
			require.Equal(t, bootID, up.Boot)
			require.Len(t, up.Hardware.Disks, 1)

			cmd := b.command()
			cmd.Verify = verify
			require.Equal(t, "loading", b.obeyed(events.VerbLoad, cmd).State)
			started := b.started()
			require.Equal(t, cmd.NodeRef, started.NodeRef)
			require.Equal(t, cmd.Session.ID, started.Session)
			done := b.done()
			require.Equal(t, cmd.NodeRef, done.NodeRef)
			require.Equal(t, assurance, done.Assurance)
			require.Equal(t, cmd.Image.Digest, done.Digest)
			require.Equal(t, cmd.Image.Chunks, done.Chunks)
			require.Equal(t, cmd.Image.DataBytes, done.BytesWritten)
			require.Equal(t, cmd.Image.DiskBytes, done.DiskBytes)
			require.GreaterOrEqual(t, done.Counters["blocks"], int64(cmd.Image.Chunks)*1024)
			b.requireDisk(true)

			reply := b.obeyed(events.VerbProbe, nil)
			require.Equal(t, "loaded", reply.State)
			require.Equal(t, cmd.NodeRef, reply.NodeRef)
			require.Equal(t, 1, reply.Loads)
			require.InDelta(t, 100, reply.Percent, 0.01)
			require.NotNil(t, reply.Hardware)
			require.Equal(t, []events.Kind{events.KindUp, events.KindLoadStarted, events.KindLoadDone}, b.kinds())

			last := bustest.Await(t, b.handler, bus.StreamTelemetry, events.ProgressSubject(bustest.Testbed, jobID, nodeName), func(m bus.Message) bool {
				d, err := events.Decode(m.Event)
				return err == nil && d.(events.Progress).Phase == "done"
			})
			d, err := events.Decode(last.Event)
			require.NoError(t, err)
			require.Equal(t, cmd.Image.Chunks, d.(events.Progress).ChunksWritten)
			require.Equal(t, cmd.Image.DataBytes, d.(events.Progress).BytesWritten)
		})
	}
}

func TestRepeatedCommandLoadsOnceAndReportsAgain(t *testing.T) {
	b := newBench(t)
	cmd := b.loading()
	reply := b.obeyed(events.VerbLoad, cmd) // while it runs: started again
	require.Equal(t, "loading", reply.State)
	started := bustest.Await(t, b.handler, bus.StreamReports, events.ReportSubject(bustest.Testbed, nodeName, events.KindLoadStarted), nil)
	again := bustest.Await(t, b.handler, bus.StreamReports, events.ReportSubject(bustest.Testbed, nodeName, events.KindLoadStarted),
		func(m bus.Message) bool { return m.Event.ID() != started.Event.ID() })
	require.JSONEq(t, string(started.Event.Data()), string(again.Event.Data()))

	b.images.StopData()
	b.images.Pace(0)
	b.images.StartData()
	b.done()
	require.Equal(t, "loaded", b.obeyed(events.VerbLoad, cmd).State)
	first := bustest.Await(t, b.handler, bus.StreamReports, events.ReportSubject(bustest.Testbed, nodeName, events.KindLoadDone), nil)
	second := bustest.Await(t, b.handler, bus.StreamReports, events.ReportSubject(bustest.Testbed, nodeName, events.KindLoadDone),
		func(m bus.Message) bool { return m.Event.ID() != first.Event.ID() })
	require.JSONEq(t, string(first.Event.Data()), string(second.Event.Data()))

	// A probe that names the job asks for the report as well; one that does
	// not only looks.
	require.Equal(t, 1, b.obeyed(events.VerbProbe, events.NodeRef{Job: jobID, Attempt: 1}).Loads)
	bustest.Await(t, b.handler, bus.StreamReports, events.ReportSubject(bustest.Testbed, nodeName, events.KindLoadDone),
		func(m bus.Message) bool { return m.Event.ID() != first.Event.ID() && m.Event.ID() != second.Event.ID() })
	before := len(b.kinds())
	b.obeyed(events.VerbProbe, nil)
	require.Len(t, b.kinds(), before)
	b.requireDisk(true)
}

func TestCommandsThatAreRefused(t *testing.T) {
	b := newBench(t)
	b.images.StartData()
	b.up()
	for name, c := range map[string]struct {
		change func(*events.LoadCommand)
		code   events.Code
	}{
		"another boot":     {func(c *events.LoadCommand) { c.Boot = "boot-0" }, events.CodeStale},
		"no boot":          {func(c *events.LoadCommand) { c.Boot = "" }, events.CodeBadRequest},
		"another node":     {func(c *events.LoadCommand) { c.Node = "n1-2" }, events.CodeBadRequest},
		"no job":           {func(c *events.LoadCommand) { c.Job = "" }, events.CodeRefused},
		"no attempt":       {func(c *events.LoadCommand) { c.Attempt = 0 }, events.CodeBadRequest},
		"unknown check":    {func(c *events.LoadCommand) { c.Verify = "twice" }, events.CodeBadRequest},
		"negative attempt": {func(c *events.LoadCommand) { c.Attempt = -1 }, events.CodeBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			cmd := b.command()
			c.change(&cmd)
			b.refused(c.code, events.VerbLoad, cmd)
			reply := b.obeyed(events.VerbProbe, nil)
			require.Equal(t, "idle", reply.State)
			require.Zero(t, reply.Loads)
			require.Equal(t, []events.Kind{events.KindUp}, b.kinds())
			b.requireUntouched()
		})
	}
	for _, verb := range []events.Verb{events.VerbLoad, events.VerbStop, events.VerbHalt, events.VerbReboot, events.VerbProbe} {
		t.Run("not JSON: "+string(verb), func(t *testing.T) { b.in(t).refused(events.CodeBadRequest, verb, "x") })
	}
	t.Run("not in the imaging system", func(t *testing.T) {
		b := newBench(t, func(_ *agent.Config, m *fileMachine) { m.imaging = false })
		require.False(t, b.up().Imaging)
		b.refused(events.CodeRefused, events.VerbLoad, b.command())
		b.requireUntouched()
	})
}

func TestOnlyItsOwnCommandsReachAnAgent(t *testing.T) {
	b := newBench(t)
	b.images.StartData()
	b.up()
	other := b.bus.ConnectNode(t, "n1-2")
	for _, verb := range []events.Verb{events.VerbLoad, events.VerbStop, events.VerbHalt, events.VerbReboot, events.VerbProbe} {
		err := other.Request(t.Context(), events.CommandSubject(bustest.Testbed, nodeName, verb), b.command(), nil)
		require.ErrorIs(t, err, bus.ErrDenied, string(verb))
	}
	require.Zero(t, b.obeyed(events.VerbProbe, nil).Loads)
}

func TestFailuresHaveTheirClass(t *testing.T) {
	writeAt := func(f func(off int64, n int) error) func(*bench) {
		return func(b *bench) {
			b.machine.wrap = func(t disk.Target) disk.Target { return &faultyTarget{Target: t, write: f} }
		}
	}
	for name, c := range map[string]struct {
		prepare   func(*bench)
		change    func(*events.LoadCommand)
		noData    bool
		class     events.Class
		untouched bool
		check     func(*testing.T, *bench, events.LoadFailed)
	}{
		"the gate says no": {
			prepare: func(b *bench) { b.machine.refuse = fmt.Errorf("/dev/sda: %w on /", disk.ErrMounted) },
			class:   events.ClassRefused, untouched: true,
			check: func(t *testing.T, _ *bench, f events.LoadFailed) {
				require.Contains(t, f.Message, "mounted")
				require.False(t, f.Retryable)
			},
		},
		"a manifest of another image": {
			prepare: func(b *bench) { b.images.Spoil(func(p *lab.Page) { p.Chunks[0].DataSHA256[0]++ }) },
			class:   events.ClassImage, untouched: true,
		},
		"no manifest": {
			prepare: func(b *bench) { b.images.Before(notFound) },
			class:   events.ClassImage, untouched: true,
		},
		"nobody serves": {
			noData: true, change: func(c *events.LoadCommand) { c.Join = events.Duration(300 * time.Millisecond) },
			class: events.ClassJoin, untouched: true,
		},
		"a group that is none": {
			change: func(c *events.LoadCommand) { c.Session.Group = "x" }, class: events.ClassJoin, untouched: true,
		},
		"the server has another image": {
			prepare: func(b *bench) { b.images.Image.File = b.images.Image.File[:2*ndz.ChunkSize] },
			class:   events.ClassImage, untouched: true,
		},
		"a chunk is not what the manifest says": {
			prepare: func(b *bench) {
				b.images.Image.File = bytes.Clone(b.images.Image.File)
				b.images.Image.File[ndz.ChunkSize+8000] ^= 1
			},
			class: events.ClassReceive,
			check: func(t *testing.T, _ *bench, f events.LoadFailed) {
				require.Equal(t, 1, *f.Evidence.Chunk)
				require.EqualValues(t, ndz.ChunkSize, *f.Evidence.First)
				require.EqualValues(t, 2*ndz.ChunkSize, *f.Evidence.Last)
				require.EqualValues(t, 5, f.Evidence.Counters["corrupt"])
			},
		},
		"a write fails": {
			prepare: writeAt(func(off int64, n int) error {
				if off <= 3<<20 && 3<<20 < off+int64(n) {
					return unix.EIO
				}
				return nil
			}),
			class: events.ClassWrite,
			check: func(t *testing.T, _ *bench, f events.LoadFailed) {
				require.LessOrEqual(t, *f.Evidence.First, int64(3<<20))
				require.Greater(t, *f.Evidence.Last, int64(3<<20))
				require.Less(t, *f.Evidence.Last-*f.Evidence.First, int64(1<<20+1))
				require.Contains(t, f.Evidence.Text, "input/output error")
			},
		},
		"a disk changes behind our back": {
			prepare: func(b *bench) {
				b.machine.wrap = func(t disk.Target) disk.Target { return &faultyTarget{Target: t, sync: flipAt(1_000_000)} }
			},
			change: func(c *events.LoadCommand) { c.Verify = events.VerifyReadback },
			class:  events.ClassVerify,
			check: func(t *testing.T, _ *bench, f events.LoadFailed) {
				require.LessOrEqual(t, *f.Evidence.First, int64(1_000_000))
				require.Greater(t, *f.Evidence.Last, int64(1_000_000))
				require.LessOrEqual(t, *f.Evidence.Last-*f.Evidence.First, int64(64<<10))
			},
		},
		"a fault of ours": {
			prepare: writeAt(func(int64, int) error { panic("a bug in writing") }),
			class:   events.ClassReceive,
			check: func(t *testing.T, b *bench, f events.LoadFailed) {
				require.Contains(t, f.Evidence.Text, "a bug in writing")
				require.Contains(t, f.Evidence.Text, "goroutine")
				require.Equal(t, "failed", b.obeyed(events.VerbProbe, nil).State, "the agent lives on")
			},
		},
		"the deadline is in the past": {
			change: func(c *events.LoadCommand) { c.Deadline = time.Now().Add(-time.Hour) },
			noData: true, class: events.ClassTimeout, untouched: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if c.prepare != nil {
				c.prepare(b)
			}
			if !c.noData {
				b.images.StartData()
			}
			b.up()
			cmd := b.command()
			if c.change != nil {
				c.change(&cmd)
			}
			b.obeyed(events.VerbLoad, cmd)
			f := b.failed()
			require.Equal(t, c.class, f.Class, f.Message)
			require.Equal(t, cmd.NodeRef, f.NodeRef)
			require.NotEmpty(t, f.Message)
			if c.untouched {
				b.requireUntouched()
				require.NotContains(t, b.kinds(), events.KindLoadStarted)
			}
			if c.check != nil {
				c.check(t, b, f)
			}
			reply := b.obeyed(events.VerbProbe, nil)
			require.Equal(t, "failed", reply.State)
			require.Equal(t, f.Message, reply.LastError)
		})
	}
}

func notFound(w http.ResponseWriter) bool {
	w.WriteHeader(http.StatusNotFound)
	return true
}

func flipAt(off int64) func(disk.Target) {
	return func(t disk.Target) {
		var b [1]byte
		if _, err := t.ReadAt(b[:], off); err == nil {
			b[0] ^= 4
			_, _ = t.WriteAt(b[:], off) // read-back says what became of it
		}
	}
}

func TestFlippedBitWithoutReadBackIsNotCalledReadBack(t *testing.T) {
	b := newBench(t)
	b.machine.wrap = func(t disk.Target) disk.Target { return &faultyTarget{Target: t, sync: flipAt(1_000_000)} }
	b.images.StartData()
	b.up()
	b.obeyed(events.VerbLoad, b.command())
	require.Equal(t, events.AssuranceWritten, b.done().Assurance)
	b.requireDisk(false)
}

func TestStalledSession(t *testing.T) {
	t.Parallel() // it mostly waits
	b := newBench(t)
	b.images.Pace(slow)
	b.images.StartData()
	b.up()
	cmd := b.command()
	cmd.Stall = events.Duration(500 * time.Millisecond)
	b.obeyed(events.VerbLoad, cmd)
	b.started()
	b.images.StopData()
	require.Equal(t, events.ClassStalled, b.failed().Class)
}

func TestDeadlineEndsALoad(t *testing.T) {
	t.Parallel() // it mostly waits
	b := newBench(t)
	b.images.Pace(slow)
	b.images.StartData()
	b.up()
	cmd := b.command()
	cmd.Deadline = time.Now().Add(time.Second)
	b.obeyed(events.VerbLoad, cmd)
	f := b.failed()
	require.Equal(t, events.ClassTimeout, f.Class)
	require.Contains(t, f.Message, "deadline")
}

// TestClockOfTheMachineIsWrong: deadlines are in the time of the server.
func TestClockOfTheMachineIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		clock time.Duration // of the machine, against the server's
		left  time.Duration // until the deadline, at the server
		class events.Class  // "" for success
	}{
		"ahead by a year":                         {8760 * time.Hour, time.Hour, ""},
		"ahead by a year, the deadline passed":    {8760 * time.Hour, -time.Hour, events.ClassTimeout},
		"in 1970":                                 {-56 * 8760 * time.Hour, time.Hour, ""},
		"in 1970, the deadline passed":            {-56 * 8760 * time.Hour, -time.Hour, events.ClassTimeout},
		"a little off, which is not worth a word": {time.Second, time.Hour, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(cfg *agent.Config, _ *fileMachine) { cfg.Clock = wrongClock(c.clock) })
			b.images.StartData()
			b.up()
			cmd := b.command()
			cmd.Deadline = time.Now().Add(c.left)
			b.obeyed(events.VerbLoad, cmd)
			if c.class == "" {
				b.done()
				return
			}
			require.Equal(t, c.class, b.failed().Class)
			b.requireUntouched()
		})
	}
}

// wrongClock is a clock that is ahead.
type wrongClock time.Duration

func (w wrongClock) Now() time.Time                         { return time.Now().Add(time.Duration(w)) }
func (w wrongClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

func TestStopAndBusy(t *testing.T) {
	b := newBench(t)
	cmd := b.loading()

	other := cmd
	other.Job = otherJob
	require.Equal(t, jobID, b.refused(events.CodeBusy, events.VerbLoad, other).Job)
	b.refused(events.CodeBusy, events.VerbHalt, events.LeaveCommand{NodeRef: other.NodeRef})
	b.obeyed(events.VerbStop, events.StopCommand{NodeRef: other.NodeRef}) // nothing of that job runs
	require.Equal(t, "loading", b.obeyed(events.VerbProbe, nil).State)
	wrongBoot := cmd.NodeRef
	wrongBoot.Boot = "boot-0"
	b.refused(events.CodeStale, events.VerbStop, events.StopCommand{NodeRef: wrongBoot})

	b.obeyed(events.VerbStop, events.StopCommand{NodeRef: events.NodeRef{Job: jobID, Node: nodeName}})
	require.Equal(t, events.ClassCancelled, b.failed().Class)

	// The node is free for another job now, and the first one stays stopped.
	b.images.StopData()
	b.images.Pace(0)
	b.images.StartData()
	require.Equal(t, "failed", b.obeyed(events.VerbLoad, cmd).State)
	b.obeyed(events.VerbLoad, other)
	bustest.AwaitReport(t, b.handler, nodeName, events.KindLoadDone)
	require.Equal(t, 2, b.obeyed(events.VerbProbe, nil).Loads)
	b.requireDisk(true)
}

func TestLaterAttemptReplacesAnEarlierOne(t *testing.T) {
	b := newBench(t)
	cmd := b.loading()
	second := cmd
	second.Attempt = 2
	require.Equal(t, 2, b.obeyed(events.VerbLoad, second).Attempt)
	f := b.failed()
	require.Equal(t, 1, f.Attempt)
	require.Equal(t, events.ClassCancelled, f.Class)
	b.images.StopData()
	b.images.Pace(0)
	b.images.StartData()
	_, d := bustest.AwaitReport(t, b.handler, nodeName, events.KindLoadDone)
	require.Equal(t, 2, d.(events.LoadDone).Attempt)
	b.requireDisk(true)
	require.Equal(t, 1, b.obeyed(events.VerbLoad, cmd).Attempt, "the first attempt has its outcome and is not run again")
	require.Equal(t, 2, b.obeyed(events.VerbProbe, nil).Loads)
	stale := cmd
	stale.Attempt, second.Attempt = 3, 5
	b.obeyed(events.VerbLoad, second)
	b.refused(events.CodeStale, events.VerbLoad, stale)
}

// TestFreeSpace: what was on the disk before does not show through where the image is free.
func TestFreeSpace(t *testing.T) {
	b := newBench(t)
	b.up()
	b.images.StartData()
	image := b.images.Image
	require.NoError(t, os.WriteFile(b.machine.path, bytes.Repeat([]byte{0xee}, int(image.Manifest.Bytes())+4096), 0o600))
	cmd := b.command()
	cmd.Free, cmd.Verify = "burn", events.VerifyReadback
	b.refused(events.CodeBadRequest, events.VerbLoad, cmd)
	cmd.Free = events.FreeZero
	b.obeyed(events.VerbLoad, cmd)
	b.done()
	b.requireDisk(true)
	disk, err := os.ReadFile(b.machine.path)
	require.NoError(t, err)
	require.Equal(t, int64(len(disk)), image.Manifest.Bytes()+4096)
	require.NotContains(t, disk[len(disk)-4096:], byte(0xee), "behind the image")
	old := 0
	for i := 0; i+512 <= len(disk); i += 512 {
		if bytes.Equal(disk[i:i+512], bytes.Repeat([]byte{0xee}, 512)) {
			old++
		}
	}
	require.Zero(t, old)

	cmd.Free, cmd.Attempt = events.FreeDiscard, 2 // it takes what the disk can do
	cmd.Effect = events.EffectID(jobID, nodeName, "load", 2)
	b.obeyed(events.VerbLoad, cmd)
	bustest.Await(t, b.handler, bus.StreamReports, events.NodeReports(bustest.Testbed, nodeName), func(m bus.Message) bool {
		d, err := events.Decode(m.Event)
		done, ok := d.(events.LoadDone)
		return err == nil && ok && done.Attempt == 2
	})
	b.requireDisk(true)
}
