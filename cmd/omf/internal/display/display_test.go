package display_test

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
	"loadnode/internal/golden"
)

const job = "01k3v9qe8nq5w3k2m1h0g9f8e7"

func ref(node string, attempt int) events.NodeRef {
	return events.NodeRef{Job: job, Node: node, Attempt: attempt, Boot: "b" + strconv.Itoa(attempt)}
}

// story is a job of three nodes: one fine, one that needs two attempts, one
// that fails.
func story() []events.Data {
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	image := events.Image{Name: "wireless-2.6.ndz", Size: 3 << 20, Chunks: 3, DiskBytes: 96 << 20, DataBytes: 20 << 20}
	return []events.Data{
		events.JobRequested{Job: job, Request: events.LoadRequest{Nodes: "[1,1..3]", Image: image.Name}, Requester: "ann"},
		events.JobAccepted{
			Job: job, Image: image, Quorum: 3, Deadline: began.Add(10 * time.Minute),
			Nodes:   []events.PlannedNode{{Name: "n1-1", Disk: "/dev/sda", Agent: "native", Power: "bus"}, {Name: "n1-2"}, {Name: "n1-3"}},
			Missing: []string{"n1-9"},
		},
		events.RebootRequested{NodeRef: ref("n1-1", 1)},
		events.RebootRequested{NodeRef: ref("n1-2", 1), Hard: true},
		events.RebootRequested{NodeRef: ref("n1-3", 1)},
		events.PxeUp{NodeRef: ref("n1-1", 1), Address: "127.1.0.1"},
		events.ImageServed{Job: job, Image: image, Session: events.Session{Group: "239.192.77.1", Port: 7000, Server: "127.0.0.1"}},
		events.LoadStarted{NodeRef: ref("n1-1", 1), Disk: events.Disk{Path: "/dev/sda"}},
		events.Progress{NodeRef: ref("n1-1", 1), Phase: "receiving", Percent: 40, BytesWritten: 8 << 20},
		events.PxeUp{NodeRef: ref("n1-2", 1), Address: "127.1.0.2"},
		events.LoadStarted{NodeRef: ref("n1-2", 1)},
		events.LoadFailed{NodeRef: ref("n1-2", 1), Class: events.ClassStalled, Message: "joined, no data for 3 s", Retry: true},
		events.LoadStarted{NodeRef: ref("n1-2", 2)},
		events.LoadDone{NodeRef: ref("n1-1", 1), Assurance: events.AssuranceWritten, BytesWritten: 20 << 20, Took: events.Duration(1500 * time.Millisecond)},
		events.ShutdownRequested{NodeRef: ref("n1-1", 1), Then: events.ThenShutdown},
		events.NodeFailed{NodeRef: ref("n1-3", 1), Class: events.ClassCheckin, Message: "did not come up in 30s", Hint: "omf tell reset n1-3"},
		events.ShutdownDone{NodeRef: ref("n1-1", 1), Seen: "leaving"},
		events.Progress{NodeRef: ref("n1-1", 1), Phase: "receiving", Percent: 41, BytesWritten: 1},
		events.JobFinished{
			Job: job, Outcome: events.OutcomePartial, OK: 2, Failed: 1, Quorum: 3, Began: began, Ended: began.Add(12 * time.Second),
			Results: []events.NodeResult{
				{Node: "n1-1", OK: true, Assurance: events.AssuranceWritten, Attempts: 1, Bytes: 20 << 20},
				{Node: "n1-2", OK: true, Assurance: events.AssuranceWritten, Attempts: 2, Bytes: 20 << 20},
				{Node: "n1-3", Class: events.ClassCheckin, Error: "did not come up in 30s", Hint: "omf tell reset n1-3", Attempts: 2},
			},
		},
	}
}

// saveStory is a save whose first attempt is cut.
func saveStory() []events.Data {
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	image := events.Image{Name: "a.ndz", Digest: strings.Repeat("ab", 32), Size: 3 << 20, Chunks: 3}
	disk := events.Disk{Path: "/dev/sda", Size: 96 << 20}
	return []events.Data{
		events.JobRequested{Job: job, Save: &events.SaveRequest{Node: "[1,1]"}, Requester: "ann"},
		events.JobAccepted{
			Job: job, Image: events.Image{Name: "a.ndz"}, Save: &events.SavePlan{Image: "a.ndz"}, Quorum: 1, Deadline: began.Add(10 * time.Minute),
			Nodes: []events.PlannedNode{{Name: "n1-1", Disk: "/dev/sda", Agent: "native", Power: "bus"}},
		},
		events.RebootRequested{NodeRef: ref("n1-1", 1)},
		events.PxeUp{NodeRef: ref("n1-1", 1), Address: "127.1.0.1"},
		events.SaveStarted{NodeRef: ref("n1-1", 1), Image: "a.ndz", Disk: disk},
		events.SaveProgress{NodeRef: ref("n1-1", 1), Phase: "capturing", Percent: 40, BytesRead: 8 << 20, BytesSent: 1 << 20},
		events.SaveFailed{NodeRef: ref("n1-1", 1), Class: events.ClassStore, Message: "the connection broke", Retryable: true, Retry: true},
		events.SaveProgress{NodeRef: ref("n1-1", 0), Phase: "capturing", Percent: 41},
		events.SaveStarted{NodeRef: ref("n1-1", 2), Image: "a.ndz", Disk: disk},
		events.SaveProgress{NodeRef: ref("n1-1", 2), Phase: "storing", Percent: 99, BytesRead: 20 << 20, BytesSent: 3 << 20},
		events.SaveDone{NodeRef: ref("n1-1", 2), Image: image, DiskBytes: 96 << 20, BytesRead: 20 << 20, BytesSent: 3 << 20, Took: events.Duration(1500 * time.Millisecond)},
		events.ShutdownRequested{NodeRef: ref("n1-1", 1), Then: events.ThenShutdown},
		events.ShutdownDone{NodeRef: ref("n1-1", 1), Seen: "leaving"},
		events.JobFinished{
			Job: job, Outcome: events.OutcomeOK, OK: 1, Quorum: 1, Began: began, Ended: began.Add(12 * time.Second),
			Results: []events.NodeResult{{Node: "n1-1", OK: true, Attempts: 2, Bytes: 20 << 20}},
		},
		events.ImageAdded{Image: image, Origin: "save", Provenance: &events.Provenance{Node: "n1-1"}},
	}
}

// TestSave is a save in lines, live and at its end.
func TestSave(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	screen := &terminal{width: 90, height: 6}
	live, j := display.NewLive(screen, false), display.NewJob(job)
	var b strings.Builder
	for i, d := range saveStory() {
		if acc, ok := d.(events.JobAccepted); ok {
			acc.Deadline = at.Add(10 * time.Minute)
			d = acc
		}
		b.WriteString(display.Line(at.Add(time.Duration(i)*250*time.Millisecond), events.Address{Kind: d.Kind()}, d, nil) + "\n")
		j.Apply(d)
		require.NoError(t, live.Draw(j, time.Duration(i)*time.Second, screen.width, screen.height))
		b.WriteString(screen.String() + "\n")
	}
	require.True(t, j.Saves())
	require.NoError(t, display.Summary(&b, j, 0))
	planned := display.NewJob(job)
	acc := saveStory()[1].(events.JobAccepted)
	acc.DryRun = true
	planned.Apply(acc)
	planned.Apply(events.JobFinished{Outcome: events.OutcomePlanned})
	require.NoError(t, display.Summary(&b, planned, 0))
	golden.Equal(t, "save.txt", b.String())
}

func TestLines(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	var b strings.Builder
	node := regexp.MustCompile(`^n\d`)
	for i, d := range story() {
		a := events.Address{Kind: d.Kind()}
		if ref, ok := events.RefOf(d); ok && node.MatchString(ref.Node) {
			a.Node = ref.Node
		}
		// Deadlines are printed in local time: take them out of the golden file.
		if acc, ok := d.(events.JobAccepted); ok {
			acc.Deadline = at.Add(10 * time.Minute)
			d = acc
		}
		b.WriteString(display.Line(at.Add(time.Duration(i)*250*time.Millisecond), a, d, nil) + "\n")
	}
	b.WriteString(display.Line(at, events.Address{Leases: true, Kind: events.KindLeased}, events.Leased{Job: job, Nodes: []string{"n1-1", "n1-2"}}, nil) + "\n")
	session := events.ImageServed{Image: events.Image{Name: "a.ndz"}, Session: events.Session{Group: "239.192.77.1", Port: 7000, Server: "127.0.0.1"}, Leases: []string{job}}
	b.WriteString(display.Line(at, events.Address{Image: "a.ndz", Kind: events.KindImageServed}, session, nil) + "\n")
	session.Leases = nil
	b.WriteString(display.Line(at, events.Address{Image: "a.ndz", Kind: events.KindImageServed}, session, nil) + "\n")
	b.WriteString(display.Line(at, events.Address{Job: job, Kind: "later.word"}, nil, errors.New("not in this vocabulary")) + "\n")
	b.WriteString(display.Line(at, events.Address{Job: job, Node: "n1-1", Kind: events.KindNodeFailed}, events.NodeFailed{Class: events.ClassWrite, Message: "evil\x1b[2J\nline"}, nil) + "\n")
	golden.Equal(t, "lines.txt", b.String())
}

// TestLive draws after each fact on a small terminal that is emulated here,
// and compares what the user would see.
func TestLive(t *testing.T) {
	screen := &terminal{width: 72, height: 8}
	live := display.NewLive(screen, false)
	j := display.NewJob(job)
	var b strings.Builder
	show := func(title string) { fmt.Fprintf(&b, "== %s\n%s\n", title, screen.String()) }
	require.NoError(t, live.Draw(j, 0, screen.width, screen.height))
	show("nothing yet")
	for i, d := range story() {
		j.Apply(d)
		require.NoError(t, live.Draw(j, time.Duration(i)*time.Second, screen.width, screen.height))
		if ref, ok := events.RefOf(d); ok {
			show(string(d.Kind()) + " " + ref.Node)
		} else {
			show(string(d.Kind()))
		}
	}
	require.NoError(t, live.Clear())
	require.Empty(t, strings.TrimSpace(screen.String()))
	golden.Equal(t, "live.txt", b.String())
}

// TestLiveMany shows the interesting nodes where the terminal is too low.
func TestLiveMany(t *testing.T) {
	screen := &terminal{width: 60, height: 6}
	j := display.NewJob(job)
	acc := events.JobAccepted{Image: events.Image{Name: "a.ndz"}}
	for x := range 20 {
		acc.Nodes = append(acc.Nodes, events.PlannedNode{Name: fmt.Sprintf("n1-%d", x+1)})
	}
	j.Apply(acc)
	j.Apply(events.LoadStarted{NodeRef: ref("n1-17", 1)})
	j.Apply(events.NodeFailed{NodeRef: ref("n1-19", 1), Class: events.ClassPower, Message: "no answer"})
	require.NoError(t, display.NewLive(screen, false).Draw(j, time.Second, screen.width, screen.height))
	golden.Equal(t, "many.txt", screen.String()+"\n")
}

// TestBarNeedsRoom has a save, whose amounts are long, on a narrow terminal.
func TestBarNeedsRoom(t *testing.T) {
	j := display.NewJob(job)
	for _, d := range saveStory() {
		j.Apply(d)
	}
	for width, bar := range map[int]bool{100: true, 60: false} {
		screen := &terminal{width: width, height: 6}
		require.NoError(t, display.NewLive(screen, false).Draw(j, time.Second, screen.width, screen.height))
		require.Contains(t, screen.String(), "100%")
		require.Equal(t, bar, strings.Contains(screen.String(), "["), screen.String())
	}
}

func TestSummary(t *testing.T) {
	var b bytes.Buffer
	done := display.NewJob(job)
	for _, d := range story() {
		done.Apply(d)
	}
	require.True(t, done.Ended())
	require.NoError(t, display.Summary(&b, done, 0))
	refused := display.NewJob(job)
	refused.Apply(events.JobRejected{Error: events.Error{Code: events.CodeLeased, Message: "n1-1 is held by job x", Hint: "omf job show x"}})
	require.NoError(t, display.Summary(&b, refused, 0))
	planned := display.NewJob(job)
	acc := story()[1].(events.JobAccepted)
	acc.DryRun = true
	planned.Apply(acc)
	planned.Apply(events.JobFinished{Outcome: events.OutcomePlanned})
	require.NoError(t, display.Summary(&b, planned, 0))
	require.NoError(t, display.Summary(&b, display.NewJob(job), 0))
	golden.Equal(t, "summary.txt", b.String())

	// Long errors are broken into lines on a terminal, and only there.
	b.Reset()
	long := display.NewJob(job)
	long.Apply(events.JobFinished{Outcome: events.OutcomePartial, OK: 1, Failed: 3, Results: []events.NodeResult{
		{Node: "n1-1", OK: true},
		{Node: "n1-2", Class: events.ClassWrite, Error: "write 65536 bytes at 1048576 of /dev/disk/by-id/ata-SAMSUNG_HE160HJ_S209J9DZ508917: input/output error\n(agent of boot 7c1f)", Hint: "look at dmesg and SMART of the node before you run: omf load 'n1-2' wireless-2.6.ndz"},
		{Node: "omf.nicta.node-with-a-name", Class: events.ClassCheckin, Error: "no agent reported within 3m30s of the second boot; the power controller saw the machine on", Hint: "watch its console (boot order, DHCP, boot flag) while you run: omf load 'omf.nicta.node-with-a-name' wireless-2.6.ndz"},
		{Node: "n1-4", Class: events.ClassPower},
	}})
	for _, width := range []int{0, 110, 80, 40} {
		fmt.Fprintf(&b, "== %d\n", width)
		from := b.Len()
		require.NoError(t, display.Summary(&b, long, width))
		for line := range strings.Lines(b.String()[from:]) {
			if width >= 110 { // a long word may stick out of a narrow one
				require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), width, line)
			}
		}
	}
	golden.Equal(t, "long.txt", b.String())
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536 << 10: "1.5 MiB", 5 << 40: "5.0 TiB"} {
		require.Equal(t, want, display.Bytes(n))
	}
}

// TestLiveFits checks for any job and any terminal that no line is wider and
// no drawing higher than it, and that control characters of others stay out.
func TestLiveFits(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		width, height := rapid.IntRange(20, 120).Draw(rt, "width"), rapid.IntRange(3, 40).Draw(rt, "height")
		screen := &terminal{width: width, height: height}
		live := display.NewLive(screen, false)
		j := display.NewJob(job)
		for range rapid.IntRange(0, 60).Draw(rt, "steps") {
			n := ref("n"+strconv.Itoa(rapid.IntRange(1, 30).Draw(rt, "node")), rapid.IntRange(1, 3).Draw(rt, "attempt"))
			text := rapid.String().Draw(rt, "text")
			j.Apply(rapid.SampledFrom([]events.Data{
				events.RebootRequested{NodeRef: n}, events.PxeUp{NodeRef: n}, events.LoadStarted{NodeRef: n},
				events.Progress{NodeRef: n, Phase: text, Percent: rapid.Float64Range(-10, 1000).Draw(rt, "percent")},
				events.SaveStarted{NodeRef: n}, events.SaveProgress{NodeRef: n, Phase: text, Percent: 50, BytesRead: 1 << 62, BytesSent: 1 << 62},
				events.LoadDone{NodeRef: n}, events.NodeFailed{NodeRef: n, Class: events.ClassWrite, Message: text},
			}).Draw(rt, "fact"))
			if err := live.Draw(j, time.Second, width, height); err != nil {
				rt.Fatal(err)
			}
		}
		if screen.err != "" {
			rt.Fatal(screen.err)
		}
	})
}

// terminal emulates what Live uses of a terminal.
type terminal struct {
	width, height int
	rows          []string
	row           int
	err           string
}

var sequence = regexp.MustCompile(`^\x1b\[(\d*)([A-Z])`)

func (t *terminal) Write(p []byte) (int, error) {
	text := ""
	flush := func() {
		for len(t.rows) <= t.row {
			t.rows = append(t.rows, "")
		}
		if text != "" {
			if n := utf8.RuneCountInString(text); n > t.width {
				t.err = fmt.Sprintf("a line of %d cells on a terminal of %d", n, t.width)
			}
			t.rows[t.row] = text
			text = ""
		}
	}
	for s := string(p); s != ""; {
		var m []string
		if s[0] == 0x1b {
			m = sequence.FindStringSubmatch(s)
		}
		if m != nil {
			keep := text
			flush()
			switch m[2] {
			case "A":
				n, _ := strconv.Atoi(m[1])
				t.row -= n
			case "K": // to the end of the line: the line was written anew
				t.rows[t.row] = keep
			case "J":
				t.rows = t.rows[:t.row]
			}
			s = s[len(m[0]):]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '\r':
		case r == '\n':
			flush()
			t.row++
		case r < ' ':
			t.err = fmt.Sprintf("control character %q", r)
		default:
			text += s[:n]
		}
		s = s[n:]
	}
	flush()
	if t.row < 0 || t.row >= t.height {
		t.err = fmt.Sprintf("cursor on row %d of %d", t.row, t.height)
	}
	return len(p), nil
}

func (t *terminal) String() string { return strings.Join(t.rows, "\n") }
