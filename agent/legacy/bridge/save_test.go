package bridge

import (
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/agent/internal/lab"
	"loadnode/agent/legacy"
	"loadnode/agent/legacy/internal/transcript"
	"loadnode/agent/legacy/listener"
	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

func (b *bench) saveCommand(address string, attempt int) events.SaveCommand {
	return events.SaveCommand{
		NodeRef: events.NodeRef{Job: jobID, Node: nodeName, Attempt: attempt, Boot: b.boot}, Effect: events.EffectID(jobID, nodeName, "save", attempt),
		Image: "new.ndz", Disk: "/dev/hda", Place: events.Place{Image: "new.ndz", Address: address, State: events.PlaceOpen},
	}
}

func (b *bench) saveOutcome(attempt int) events.Data {
	b.t.Helper()
	var out events.Data
	bustest.Await(b.t, b.handler, bus.StreamReports, events.NodeReports(bustest.Testbed, nodeName), func(m bus.Message) bool {
		d, err := events.Decode(m.Event)
		if err != nil {
			return false
		}
		switch d := d.(type) {
		case events.SaveDone:
			out = d
			return d.Attempt == attempt
		case events.SaveFailed:
			out = d
			return d.Attempt == attempt
		}
		return false
	})
	return out
}

// TestSave: a legacy node pipes its disk to a plain place.
func TestSave(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	n := imaging()
	n.Execute = func(ctx context.Context, words []string, print func(stream, line string)) int {
		print(legacy.Stderr, "Slice 1 (type 0x83) is EXT2FS")
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", net.JoinHostPort(words[len(words)-2], words[len(words)-1]))
		if err != nil {
			print(legacy.Stderr, err.Error())
			return listener.Exit(1)
		}
		defer conn.Close()
		_, err = io.WriteString(conn, "image")
		require.NoError(t, err)
		return 0
	}
	b := newBench(t, n, nil, lab.NewImage(t, 1, 1))
	b.up()
	b.obeyed(events.VerbSave, b.saveCommand(ln.Addr().String(), 1))
	conn, err := ln.Accept()
	require.NoError(t, err)
	defer conn.Close()
	came, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "image", string(came))
	d := b.saveOutcome(1)
	require.IsType(t, events.SaveDone{}, d, "%+v", d)
	done := d.(events.SaveDone)
	require.Equal(t, events.Image{Name: "new.ndz"}, done.Image, "the node does not know what it sent")
	require.Equal(t, map[string]int64{"legacy": 1, "unverified": 1}, done.Counters)
	require.NotZero(t, done.DiskBytes)
	_, started := bustest.AwaitReport(t, b.handler, nodeName, events.KindSaveStarted)
	require.Equal(t, "/dev/hda", started.(events.SaveStarted).Disk.Path)
	said := slices.DeleteFunc(n.Commands(), func(s string) bool { return !strings.Contains(s, "imagezip") })
	host, port, err := net.SplitHostPort(ln.Addr().String())
	require.NoError(t, err)
	require.Equal(t, []string{"(imagezip -z1 /dev/hda - || echo imagezip-failed 1>&2) | nc -q 0 " + host + " " + port}, said)
}

func TestSaveFailures(t *testing.T) {
	for name, c := range map[string]struct {
		says   string
		code   int
		change func(*events.SaveCommand)
		class  events.Class
		again  bool
	}{
		"imagezip failed, netcat did not": {says: failedWord, class: events.ClassRead},
		"the disk cannot be read":         {says: "/dev/hda: read error: Input/output error", code: 1, class: events.ClassRead},
		"netcat failed":                   {says: "Connection refused", code: 1, class: events.ClassStore, again: true},
		"no netcat":                       {says: "sh: nc: not found", code: 127, class: events.ClassRefused},
		"no such disk":                    {change: func(c *events.SaveCommand) { c.Disk = "/dev/sdx" }, class: events.ClassRefused},
		"a disk with a shell in it":       {change: func(c *events.SaveCommand) { c.Disk = "/dev/hda;reboot" }, class: events.ClassRefused},
		"no plain place":                  {change: func(c *events.SaveCommand) { c.Place.Address = "" }, class: events.ClassStore, again: true},
		"a place with a shell in it":      {change: func(c *events.SaveCommand) { c.Place.Address = "1.2.3.4;reboot:9000" }, class: events.ClassStore, again: true},
	} {
		t.Run(name, func(t *testing.T) {
			n := imaging()
			n.Execute = func(_ context.Context, _ []string, print func(stream, line string)) int {
				print(legacy.Stderr, c.says)
				return listener.Exit(c.code)
			}
			b := newBench(t, n, nil, lab.NewImage(t, 1, 1))
			b.up()
			cmd := b.saveCommand("127.0.0.1:9000", 1)
			if c.change != nil {
				c.change(&cmd)
			}
			b.obeyed(events.VerbSave, cmd)
			d := b.saveOutcome(1)
			require.IsType(t, events.SaveFailed{}, d)
			f := d.(events.SaveFailed)
			require.Equal(t, c.class, f.Class, f.Message)
			require.Equal(t, c.again, f.Retryable)
			if c.change != nil {
				require.False(t, slices.ContainsFunc(n.Commands(), func(s string) bool { return strings.Contains(s, "imagezip") }))
			}
		})
	}
}

const exported = "frisbee:/export/orbit/image/tmp"

// TestSaveToDirectory: a node of OMF 4.4 writes its disk to a file in a directory that it mounts. The recorded agent
// was told the same but for the disk, which it took for granted.
func TestSaveToDirectory(t *testing.T) {
	step := recordedSave(t, "omf-agent-04-failures-and-save.txt", "node-1-2-2009-02-11-14-30-00.ndz")
	told := make(chan string, 2)
	n := imaging()
	n.Saved = func(nfs, name, disk string) listener.Program {
		told <- strings.Join([]string{legacy.SaveImage, nfs, name, disk}, " ")
		return func(_ context.Context, print func(stream, line string)) int {
			print(legacy.Stderr, "Slice 1 (type 0x83) is EXT2FS")
			return 0
		}
	}
	b := prepare(t, n, lab.NewImage(t, 1, 1))
	where := b.dialled()
	where.NFS = exported
	b.run(where, nil, nil)
	b.up()
	cmd := b.saveCommand("", 1)
	cmd.Place.File = "node-1-2-2009-02-11-14-30-00.ndz"
	b.obeyed(events.VerbSave, cmd)
	d := b.saveOutcome(1)
	require.IsType(t, events.SaveDone{}, d, "%+v", d)
	require.Equal(t, events.Image{Name: "new.ndz"}, d.(events.SaveDone).Image)
	require.Equal(t, strings.TrimSuffix(strings.SplitN(step.Sent, " ", 3)[2], "\n")+" /dev/hda", <-told)
	require.Equal(t, []string{
		"n_1_2 0 APP_EVENT STARTED builtin:save_image", `n_1_2 0 APP_EVENT STDOUT builtin:save_image "Slice 1 (type 0x83) is EXT2FS"`,
		`n_1_2 0 APP_EVENT DONE.OK builtin:save_image "status: 0"`,
	}, step.Heard, "what this node says, which is the listener's business")
}

// recordedSave is the recorded save of an image.
func recordedSave(t *testing.T, file, image string) transcript.Step {
	for _, s := range transcript.Read(t, file) {
		if strings.HasSuffix(s.Sent, image+"\n") {
			return s
		}
	}
	require.Fail(t, "not recorded", image)
	return transcript.Step{}
}

func TestSaveToDirectoryFailures(t *testing.T) {
	reading := func(_ context.Context, print func(stream, line string)) int {
		print(legacy.Stderr, "/dev/hda: read error: Input/output error")
		return listener.Exit(1)
	}
	full := func(_ context.Context, print func(stream, line string)) int {
		print(legacy.Stderr, "write: No space left on device")
		return listener.Exit(1)
	}
	missing := func(_ context.Context, print func(stream, line string)) int {
		print(legacy.Stdout, "exec failed for 'imagezip'(No such file or directory - imagezip)")
		return listener.Exit(1)
	}
	for name, c := range map[string]struct {
		nfs, file string
		run       listener.Program
		class     events.Class
		again     bool
	}{
		"the disk cannot be read":        {exported, "a.ndz", reading, events.ClassRead, false},
		"there is no imagezip":           {exported, "a.ndz", missing, events.ClassRefused, false},
		"the directory is full":          {exported, "a.ndz", full, events.ClassStore, true},
		"the directory is not mounted":   {exported, "a.ndz", nil, events.ClassStore, true},
		"the handler knows no directory": {exported, "", full, events.ClassRefused, false},
		"the bridge knows no directory":  {"", "a.ndz", full, events.ClassRefused, false},
		"a way out of the directory":     {exported, "../a.ndz", full, events.ClassRefused, false},
	} {
		t.Run(name, func(t *testing.T) {
			n := imaging()
			if c.run != nil {
				n.Saved = func(string, string, string) listener.Program { return c.run }
			}
			b := prepare(t, n, lab.NewImage(t, 1, 1))
			where := b.dialled()
			where.NFS = c.nfs
			b.run(where, nil, nil)
			b.up()
			cmd := b.saveCommand("", 1)
			cmd.Place.File = c.file
			b.obeyed(events.VerbSave, cmd)
			d := b.saveOutcome(1)
			require.IsType(t, events.SaveFailed{}, d)
			require.Equal(t, c.class, d.(events.SaveFailed).Class, d.(events.SaveFailed).Message)
			require.Equal(t, c.again, d.(events.SaveFailed).Retryable)
		})
	}
}
