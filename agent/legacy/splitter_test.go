package legacy

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/agent/legacy/internal/transcript"
)

// heard are the segments an agent sent in a recording, in their order.
func heard(t *testing.T, file string) (segments []string) {
	for _, step := range transcript.Read(t, file) {
		segments = append(segments, step.Heard...)
	}
	return segments
}

var recordings = []string{
	"omf-agent-01-load-real-frisbee.txt", "omf-agent-02-protocol-edge-cases.txt", "omf-agent-03a-disconnect-mid-load.txt",
	"omf-agent-04-failures-and-save.txt", "omf-agent-05-loopback-seed-form.txt", "omf-agent-07-tcp-client-mode.txt", "omf-comm-01-tcp-wire.txt",
}

// TestRecordedStreams: every segment of the recordings comes apart into messages that parse, and so does all of a
// recording when it arrives glued into one piece.
func TestRecordedStreams(t *testing.T) {
	for _, file := range recordings {
		t.Run(file, func(t *testing.T) {
			var apart []string
			segments := heard(t, file)
			for _, segment := range segments {
				s := NewSplitter("10.18.1.2", "127.0.0.1", "n_1_2", "image")
				messages := append(s.Write([]byte(segment)), s.Flush()...)
				require.Equal(t, segment, strings.Join(messages, ""))
				for _, text := range messages {
					m, err := ParseMessage(text)
					require.NoError(t, err, text)
					if !strings.ContainsAny(text, `\`+"\n") {
						require.Equal(t, text, m.String())
					}
				}
				apart = append(apart, messages...)
			}
			s := NewSplitter("10.18.1.2", "127.0.0.1", "n_1_2", "image")
			require.Equal(t, apart, append(s.Write([]byte(strings.Join(segments, ""))), s.Flush()...))
		})
	}
}

func TestGluedEnds(t *testing.T) {
	m := func(s string) string { return "n_0_1 0 APP_EVENT STDOUT builtin:load_image" + s }
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"nothing between":          {m("") + m(` "0 297 433"`), []string{m(""), m(` "0 297 433"`)}},
		"words that glue":          {"n_0_1 0 HBn_0_1 0 HBn_0_1 0 HB -1", []string{"n_0_1 0 HB", "n_0_1 0 HB", "n_0_1 0 HB -1"}},
		"quoted look-alike":        {m(` "see n_0_1 0 HB -1 for it"`) + m(" x"), []string{m(` "see n_0_1 0 HB -1 for it"`), m(" x")}},
		"quote inside":             {m(` "a \" n_0_1 0 HB b"`) + m(""), []string{m(` "a \" n_0_1 0 HB b"`), m("")}},
		"bare quote":               {m(` x"y`) + m(" z"), []string{m(` x"y`), m(" z")}},
		"bare quote first":         {m(` "y`) + m(" z"), []string{m(` "y`), m(" z")}},
		"digits before the sender": {m(" 7") + m(""), []string{m(" 7"), m("")}},
		"no sender":                {"ERROR Already connected to a handler", []string{"ERROR Already connected to a handler"}},
		"stranger":                 {"n_9_9 0 HB -1n_0_1 0 HB -1", []string{"n_9_9 0 HB -1", "n_0_1 0 HB -1"}},
		"newline in a string":      {m(" \"a\n\nb\"") + m(""), []string{m(" \"a\n\nb\""), m("")}},
	} {
		s := NewSplitter("n_0_1")
		require.Equal(t, c.want, append(s.Write([]byte(c.in)), s.Flush()...), name)
		require.False(t, s.Pending(), name)
	}
}

func TestSecondController(t *testing.T) {
	_, err := ParseMessage("ERROR Already connected to a handler")
	require.ErrorIs(t, err, ErrConnected)
	for _, bad := range []string{"", "n_1_2", "n_1_2 0", "n_1_2 x HB", "n_1_2 0 NOSUCH", "n_1_2 99999999999 HB"} {
		_, err := ParseMessage(bad)
		require.ErrorIs(t, err, ErrMessage, bad)
	}
}

func TestEvents(t *testing.T) {
	event := func(text string) Event {
		m, err := ParseMessage(text)
		require.NoError(t, err)
		e, ok := m.Event()
		require.True(t, ok)
		return e
	}
	e := event(`n_1_2 0 APP_EVENT STDOUT builtin:load_image "Progress: 10% 000002 000098"`)
	percent, ok := e.Percent()
	require.True(t, ok)
	require.Equal(t, 10, percent)
	covered, written, ok := event(`n_1_2 0 APP_EVENT STDOUT builtin:load_image "Wrote 112640000 bytes (1126 actual)"`).Wrote()
	require.True(t, ok)
	require.Equal(t, []int64{112640000, 1126}, []int64{covered, written})
	n, ok := event(`n_1_2 0 APP_EVENT STDOUT x "Joined the team after 0 sec. ID is 1234. File is 286 chunks (292864 blocks)"`).Chunks()
	require.True(t, ok)
	require.Equal(t, 286, n)
	for text, want := range map[string][2]int{"256": {1, 0}, "768": {3, 0}, "65280": {255, 0}, "9": {0, 9}, "0": {}} {
		code, signal, ok := event(`n_1_2 0 APP_EVENT DONE.ERROR x "status: ` + text + `"`).ExitStatus()
		require.True(t, ok)
		require.Equal(t, want, [2]int{code, signal})
	}
	for _, odd := range []string{"Progress: x", "Progress: 999% 1 2", "Wrote 99999999999999999999 bytes (1 actual)", "status: -1", "status: 65536"} {
		e := event(`n_1_2 0 APP_EVENT STDOUT x "` + odd + `"`)
		_, a := e.Percent()
		_, _, b := e.Wrote()
		_, _, c := e.ExitStatus()
		require.False(t, a || b || c, odd)
	}
}

func TestCommands(t *testing.T) {
	line, err := Command{Target: "10.18.1.2", Name: YouAre, Args: []string{"n_1_2", "0"}}.Line()
	require.NoError(t, err)
	require.Equal(t, "0 10.18.1.2 YOUARE n_1_2 0\n", line)
	for in, want := range map[string]Command{
		"S 10.18.1.2 LOAD_IMAGE 224.0.0.2 7000 /dev/hda\n": {Target: "10.18.1.2", Name: LoadImage, Args: []string{"224.0.0.2", "7000", "/dev/hda"}},
		"-7 * rallo\r\n":                          {Seq: -7, Target: "*", Name: Rallo, Args: []string{}},
		"12x \"image sender \" REBOOT":            {Seq: 12, Target: "image sender ", Name: Reboot, Args: []string{}},
		"+3 * RALLO":                              {Seq: 3, Target: "*", Name: Rallo, Args: []string{}},
		"--3 * RALLO":                             {Target: "*", Name: Rallo, Args: []string{}},
		"99999999999 * RALLO":                     {Target: "*", Name: Rallo, Args: []string{}},
		"2 n_1_2 EXEC shutdown/1 shutdown -h now": {Seq: 2, Target: "n_1_2", Name: Exec, Args: []string{"shutdown/1", "shutdown", "-h", "now"}},
	} {
		got, err := ParseCommand(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, short := range []string{"", "\n", "22 *\n", "  "} {
		_, err := ParseCommand(short)
		require.ErrorIs(t, err, ErrCommand, short)
	}
	_, err = Command{Target: Any, Name: Exec, Args: []string{strings.Repeat("x", 600)}}.Line()
	require.ErrorIs(t, err, ErrCommand)
	_, err = Command{Target: Any, Name: Exec, Args: []string{"a\n1 * REBOOT"}}.Line()
	require.ErrorIs(t, err, ErrCommand)
}

func TestTargets(t *testing.T) {
	names := []string{"n_1_2", "10.18.1.2", "image"}
	for target, want := range map[string]bool{
		"*": true, "n_1_2": true, "n_1_*": true, "10.18.1.2": true, "10018.1.2": false, "10x18x1x2": false, "n.1.2": true, "foo bar image ": true,
		"n_9_9": false, "n_1": false, "": false, "(": false, "( image": true, "NOBODY": false, "n_1_[23]": true,
	} {
		require.Equal(t, want, Command{Target: target}.Addresses(names...), target)
	}
}

// TestAnyCutOfAStream: however a stream arrives, the messages are the same.
func TestAnyCutOfAStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-zA-Z0-9:._%/-]{1,12}`)
		text := rapid.OneOf(word, rapid.StringMatching(`[a-z]{1,5}( [a-z"]{1,5}){1,4}`))
		var want []string
		for range rapid.IntRange(1, 8).Draw(t, "messages") {
			m := Message{Sender: "n_1_2", Name: rapid.SampledFrom(words).Draw(t, "word"), Args: rapid.SliceOfN(text, 0, 4).Draw(t, "args")}
			want = append(want, m.String())
		}
		stream := strings.Join(want, "")
		s := NewSplitter("n_1_2", "10.18.1.2")
		var got []string
		for len(stream) > 0 {
			n := rapid.IntRange(1, len(stream)).Draw(t, "cut")
			got = append(got, s.Write([]byte(stream[:n]))...)
			stream = stream[n:]
		}
		require.Equal(t, want, append(got, s.Flush()...))
	})
}

// FuzzSplitter: nothing is lost, nothing is made up, memory stays bounded.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte(`n_1_2 0 APP_EVENT DONE.OK x "status: 0"n_1_2 0 HB -1`), 7)
	f.Add([]byte(` " n_1_2 0 HB"`), 3)
	f.Fuzz(func(t *testing.T, stream []byte, step int) {
		step = max(1, step)
		s := NewSplitter("n_1_2", "10.18.1.2")
		squeeze := strings.NewReplacer(" ", "", "\r", "", "\n", "", "\t", "", "\x00", "")
		want := squeeze.Replace(string(stream))
		var got strings.Builder
		for len(stream) > 0 {
			n := min(step, len(stream))
			for _, m := range s.Write(stream[:n]) {
				got.WriteString(m)
				_, _ = ParseMessage(m)
			}
			require.LessOrEqual(t, len(s.buf), MaxBuffer)
			stream = stream[n:]
		}
		for _, m := range s.Flush() {
			got.WriteString(m)
		}
		require.Equal(t, want, squeeze.Replace(got.String()))
	})
}

// FuzzCommand: any line is a command or an error, and whoever it addresses is found without a crash.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{"S 10.18.1.2 LOAD_IMAGE 224.0.0.2 7000 /dev/hda\n", "-7 * rallo\r\n", "1 \"a ( b\" X", "1 [z-a] X"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c, err := ParseCommand(line)
		if err != nil {
			return
		}
		require.Equal(t, strings.ToUpper(c.Name), c.Name)
		c.Addresses("10.18.1.2", "n_1_2")
	})
}
