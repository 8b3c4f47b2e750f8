package bridge

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"loadnode/agent/legacy"
)

// errLost says that the connection to an agent is gone, and with it everything the agent ran (§a.4).
var errLost = errors.New("the connection to the agent is lost")

// maxHeld bounds the events of one program that wait to be taken.
const maxHeld = 1024

// link is one connection to an agent.
type link struct {
	via    transport
	name   string // the agent's, once enrolled
	timing Timing

	mu       sync.Mutex
	count    int // of programs started
	inboxes  map[string]*inbox
	heard    time.Time
	image    string        // what the agent's WHOAMI says it runs; "" if it said nothing
	enrolled chan struct{} // closed by the first message signed with name
	over     chan struct{} // closed when the connection is gone
	err      error
}

// inbox holds the events of one program.
type inbox struct {
	events []legacy.Event
	wake   chan struct{}
}

func newLink(via transport, name string, timing Timing) *link {
	l := &link{via: via, name: name, timing: timing, inboxes: map[string]*inbox{}, heard: time.Now(),
		enrolled: make(chan struct{}), over: make(chan struct{})}
	go l.read()
	return l
}

// close ends the link and waits for its end.
func (l *link) close() {
	l.via.close()
	<-l.over
}

// read takes what the agent says until the link ends.
func (l *link) read() {
	var err error
	defer func() {
		l.via.close()
		l.mu.Lock()
		if l.err == nil {
			l.err = fmt.Errorf("%w: %w", errLost, err)
		}
		l.mu.Unlock()
		close(l.over)
	}()
	for err == nil {
		var texts []string
		texts, err = l.via.receive()
		for _, text := range texts {
			if e := l.take(text); e != nil {
				err = e
				return
			}
		}
	}
}

// take acts on one message. Only the refusal of a second controller is an error: whatever else an agent says that
// nobody understands does not concern imaging.
func (l *link) take(text string) error {
	m, err := legacy.ParseMessage(text)
	if errors.Is(err, legacy.ErrConnected) {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = time.Now()
	if err != nil {
		return nil
	}
	if m.Sender == l.name {
		select {
		case <-l.enrolled:
		default:
			close(l.enrolled)
		}
	}
	if m.Name == legacy.WhoAmI && len(m.Args) > 4 && m.Args[4] != "unknown" {
		l.image = m.Args[4]
	}
	if e, ok := m.Event(); ok {
		if in := l.inboxes[e.ID]; in != nil {
			if len(in.events) == maxHeld {
				in.events = in.events[1:] // output; the end is the last that comes
			}
			in.events = append(in.events, e)
			poke(in.wake)
		}
	} else if m.Name == legacy.ErrorWord && len(m.Args) > 1 && m.Args[0] == "EXECUTION" {
		// It names the command, not the program: only one is being started at a time.
		for _, in := range l.inboxes {
			in.events = append(in.events, legacy.Event{Kind: legacy.ErrorWord, Text: m.String()})
			poke(in.wake)
		}
	}
	return nil
}

// send sends a command. Commands that start something are numbered, so that a repetition would be ignored.
func (l *link) send(numbered bool, target, name string, args ...string) error {
	return l.via.send(numbered, legacy.Command{Target: target, Name: name, Args: args})
}

// reset has the agent end everything and forget us; it does not answer. Whom else that would concern is left in peace.
func (l *link) reset() {
	target := legacy.Any
	if l.via.shared() {
		target = l.name
	}
	_ = l.send(false, target, legacy.Reset)
	l.via.close()
}

// lost is why the link ended; call it after over is closed.
func (l *link) lost() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// silent is for how long the agent has said nothing.
func (l *link) silent() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.heard)
}

// enrol makes the agent ours: before that it obeys nothing (§a.6). An agent that does not know itself by the address
// is called by any name, where nobody else hears it.
func (l *link) enrol(ctx context.Context, address string) error {
	targets := []string{address, legacy.Any}
	if l.via.shared() {
		targets[1] = address
	}
	for _, target := range targets {
		if err := l.send(false, target, legacy.YouAre, l.name, strconv.Itoa(l.via.ignore())); err != nil {
			return err
		}
		select {
		case <-l.enrolled:
			return nil
		case <-l.over:
			return l.lost()
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(l.timing.Enrol):
		}
	}
	return fmt.Errorf("the agent does not answer to its enrolment as %s: is it an OMF 4 agent?", l.name)
}

// watch pings until the link is lost or ctx ends. An agent that says nothing although it is asked is gone, or does not
// know us any more.
func (l *link) watch(ctx context.Context) {
	tick := time.NewTicker(l.timing.Ping)
	defer tick.Stop()
	for {
		select {
		case <-l.over:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s := l.silent(); s > l.timing.Dead {
			l.mu.Lock()
			l.err = fmt.Errorf("%w: it has said nothing for %s, although it was asked", errLost, s.Round(time.Second))
			l.mu.Unlock()
			l.via.close()
			return
		}
		if l.send(false, l.name, legacy.Rallo) != nil {
			return // the reader sees it too
		}
	}
}

// open takes the events of a program with an id; close it when done.
func (l *link) open(id string) (*inbox, func()) {
	in := &inbox{wake: make(chan struct{}, 1)}
	l.mu.Lock()
	l.inboxes[id] = in
	l.mu.Unlock()
	return in, func() {
		l.mu.Lock()
		delete(l.inboxes, id)
		l.mu.Unlock()
	}
}

// events gives what has come for a program.
func (l *link) events(in *inbox) []legacy.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := in.events
	in.events = nil
	return out
}

// maxTries is how often a question is asked whose answer was lost in part.
const maxTries = 4

// ask is run for programs that may be run again: where messages can be lost it repeats until none was.
func (l *link) ask(ctx context.Context, words ...string) (lines []string, code int, err error) {
	for try := 1; ; try++ {
		before := l.via.missing()
		lines, code, err = l.run(ctx, words...)
		whole := err == nil && l.via.missing() == before
		select {
		case <-l.over:
			return nil, 0, l.lost()
		default:
		}
		if !l.via.shared() || whole || ctx.Err() != nil || try == maxTries {
			return lines, code, err
		}
	}
}

// run has the agent execute a small program and gives the lines it printed on its standard output, and its exit code.
func (l *link) run(ctx context.Context, words ...string) (lines []string, code int, err error) {
	l.mu.Lock()
	l.count++
	id := fmt.Sprintf("loadnode/%d", l.count)
	l.mu.Unlock()
	in, shut := l.open(id)
	defer shut()
	if err := l.send(true, l.name, legacy.Exec, append([]string{id}, words...)...); err != nil {
		return nil, 0, err
	}
	patience := time.After(l.timing.Answer)
	var last <-chan time.Time
	for {
		for _, e := range l.events(in) {
			switch e.Kind {
			case legacy.Stdout:
				lines = append(lines, e.Text)
			case legacy.DoneOK, legacy.DoneError:
				code, _, _ = e.ExitStatus()
				if e.Kind == legacy.DoneError && code == 0 {
					code = -1
				}
				last = time.After(l.timing.Last) // output may come behind the end (§a.2)
			case legacy.ErrorWord:
				return nil, 0, errors.New(e.Text)
			}
		}
		select {
		case <-in.wake:
		case <-last:
			return lines, code, nil
		case <-patience:
			return nil, 0, fmt.Errorf("%q has not ended after %s", words, l.timing.Answer)
		case <-l.over:
			return nil, 0, l.lost()
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}
