package display

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
)

// Live draws a job again and again in the same place of a terminal: one line
// for each node up to the height of the terminal, then a summary. It is not
// safe for concurrent use.
type Live struct {
	out    io.Writer
	colour bool
	drawn  int // lines on the screen that the next drawing replaces
}

// NewLive returns a display that writes to out, which must understand ANSI
// escape sequences. Colour adds some.
func NewLive(out io.Writer, colour bool) *Live { return &Live{out: out, colour: colour} }

// Draw replaces what was drawn before. Width and height are those of the
// terminal in cells; no line is wider, no drawing is higher. The whole drawing
// is one write, so that it does not flicker.
func (l *Live) Draw(j *Job, since time.Duration, width, height int) error {
	var b bytes.Buffer
	l.rewind(&b)
	lines := l.lines(j, since, max(width, 20), max(height, 3))
	for _, s := range lines {
		b.WriteString(s)
		b.WriteString("\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	l.drawn = len(lines)
	_, err := l.out.Write(b.Bytes())
	return err
}

// Clear removes the drawing, so that something else can be written there.
func (l *Live) Clear() error {
	var b bytes.Buffer
	l.rewind(&b)
	b.WriteString("\x1b[J")
	l.drawn = 0
	_, err := l.out.Write(b.Bytes())
	return err
}

func (l *Live) rewind(b *bytes.Buffer) {
	if l.drawn > 0 {
		fmt.Fprintf(b, "\x1b[%dA\r", l.drawn)
	}
}

func (l *Live) lines(j *Job, since time.Duration, width, height int) []string {
	room := height - 2 // the summary, and the line of the cursor
	shown := j.Nodes
	if len(shown) > room {
		shown = pick(j.Nodes, room-1)
	}
	name := 6
	for _, n := range shown {
		name = min(max(name, len(n.Name)), 24)
	}
	var out []string
	for _, n := range shown {
		out = append(out, l.paint(n.State, cut(nodeLine(n, name, width), width-1)))
	}
	if rest := len(j.Nodes) - len(shown); rest > 0 {
		out = append(out, cut(fmt.Sprintf("… and %d more", rest), width-1))
	}
	return append(out, cut(summary(j, since), width-1))
}

// pick chooses the nodes to show where not all can be: what is going on and
// what failed before what is done or waits, else in order.
func pick(nodes []*Node, room int) []*Node {
	var out []*Node
	for _, want := range [][]string{
		{"failed"}, {"loading", "saving", "leaving", "loaded", "saved"}, {"up", "rebooting"}, {"pending"}, {"done"},
	} {
		for _, n := range nodes {
			for _, s := range want {
				if n.State == s && len(out) < room {
					out = append(out, n)
				}
			}
		}
	}
	return out
}

func nodeLine(n *Node, name, width int) string {
	s := fmt.Sprintf("%-*s %-9s", name, n.Name, n.State)
	switch n.State {
	case "loading", "loaded", "saving", "saved", "leaving", "done":
		amount, room := fmt.Sprintf("%9s", Bytes(n.Written)), width
		if n.Read > 0 || n.Sent > 0 || n.State == "saving" || n.State == "saved" {
			amount, room = moved(n.Read, n.Sent), width-20
		}
		s += bar(n.Percent, barWidth(room)) + fmt.Sprintf(" %3.0f%% %s", n.Percent, amount)
		if n.Phase != "" && (n.State == "loading" || n.State == "saving") {
			s += " " + n.Phase
		}
	case "failed":
		s += " " + words(string(n.Class)+":", n.Message)
	case "up":
		if n.Class != "" {
			s += " after " + words(string(n.Class)+":", n.Message)
		}
	}
	if n.Attempt > 1 && !n.Ended() {
		s += fmt.Sprintf(" (attempt %d)", n.Attempt)
	}
	if n.Alarms > 0 {
		s += " " + count(n.Alarms, "alarm")
	}
	return strings.TrimRight(Clean(s), " ")
}

func barWidth(width int) int { return min(max(width-50, 0), 30) }

// bar is drawn with a space before it, or not at all where there is no room.
func bar(percent float64, width int) string {
	if width == 0 {
		return ""
	}
	full := int(percent / 100 * float64(width))
	full = min(max(full, 0), width)
	return " [" + strings.Repeat("#", full) + strings.Repeat("-", width-full) + "]"
}

func summary(j *Job, since time.Duration) string {
	c := j.Counts()
	parts := []string{fmt.Sprintf("%s %s", seconds(since), j.State)}
	if j.Image.Name != "" {
		parts = append(parts, j.Image.Name)
	}
	for _, s := range []string{"pending", "rebooting", "up", "loading", "loaded", "saving", "saved", "leaving", "done", "failed"} {
		if c[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c[s], s))
		}
	}
	return Clean(strings.Join(parts, " · "))
}

func (l *Live) paint(state, s string) string {
	if !l.colour {
		return s
	}
	switch state {
	case "failed":
		return "\x1b[31m" + s + "\x1b[0m"
	case "done":
		return "\x1b[32m" + s + "\x1b[0m"
	case "pending":
		return "\x1b[2m" + s + "\x1b[0m"
	}
	return s
}

// cut shortens s to at most width cells; every rune here is one cell wide.
func cut(s string, width int) string {
	r := []rune(s)
	if len(r) <= width {
		return s
	}
	return string(r[:max(width-1, 0)]) + "…"
}
