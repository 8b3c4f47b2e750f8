package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"loadnode/bus"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
)

// terminal reports whether v is a terminal.
func terminal(v any) bool {
	f, ok := v.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// screen shows the progress of one job: live on a terminal, in plain lines
// elsewhere or above the live view, or not at all.
type screen struct {
	out   io.Writer // of the live view, which is where its size is asked for
	live  *display.Live
	lines io.Writer // for a line for each fact; nil: none
	none  bool
	began time.Time
	now   func() time.Time
}

// screen chooses how progress is shown on standard error. Where standard
// output carries facts to the same terminal, they are the progress.
func (a *app) screen() *screen {
	s := &screen{out: a.stderr, began: a.now(), now: a.now}
	mixed := a.output == "jsonl" && terminal(a.stdout)
	switch {
	case a.quiet, a.output == "jsonl" && !terminal(a.stderr), mixed:
		s.none = true
	case terminal(a.stderr) && a.getenv("TERM") != "dumb":
		s.live = display.NewLive(a.stderr, a.getenv("NO_COLOR") == "")
	default:
		s.lines = a.stderr
	}
	return s
}

func (s *screen) size() (width, height int) { return size(s.out) }

// columns is the width at which text on standard output is broken into lines;
// 0 for programs, which want their lines whole.
func (a *app) columns() int {
	if !terminal(a.stdout) {
		return 0
	}
	width, _ := size(a.stdout)
	return width
}

// size is that of a terminal, in cells; 80x24 where it cannot tell.
func size(v any) (width, height int) {
	if f, ok := v.(*os.File); ok {
		if ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && ws.Col > 0 && ws.Row > 0 {
			return int(ws.Col), int(ws.Row)
		}
	}
	return 80, 24
}

// fact shows one fact of the job.
func (s *screen) fact(m bus.Message, d events.Data, err error) error {
	if s.none || s.lines == nil {
		return nil
	}
	if err := s.clear(); err != nil {
		return err
	}
	a := m.Address
	a.Job = ""
	_, werr := fmt.Fprintln(s.lines, display.Line(when(m), a, d, err))
	return werr
}

// draw refreshes the live view.
func (s *screen) draw(j *display.Job) error {
	if s.none || s.live == nil {
		return nil
	}
	w, h := s.size()
	return s.live.Draw(j, s.now().Sub(s.began), w, h)
}

// clear makes room for a line of text.
func (s *screen) clear() error {
	if s.none || s.live == nil {
		return nil
	}
	return s.live.Clear()
}

// when is the time of a fact: its own, else that of its storage.
func when(m bus.Message) time.Time {
	if m.Err == nil && !m.Event.Time().IsZero() {
		return m.Event.Time()
	}
	return m.Time
}

// dataOf decodes the data of a message.
func dataOf(m bus.Message) (events.Data, error) {
	if m.Err != nil {
		return nil, m.Err
	}
	return events.Decode(m.Event)
}
