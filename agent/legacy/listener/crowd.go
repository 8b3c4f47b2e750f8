package listener

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"loadnode/agent/legacy"
	"loadnode/agent/legacy/group"
)

// Timing of the multicast transport. Zero means what the original's configuration says (§a.4).
type Timing struct {
	Heartbeat time.Duration // between two words of life; 10 s
	Retry     time.Duration // between two requests for missing commands; 3 s
	Lost      time.Duration // of silence before the controller counts as almost lost; 40 s
}

func (t Timing) orDefault() Timing {
	return Timing{
		Heartbeat: cmp.Or(t.Heartbeat, 10*time.Second), Retry: cmp.Or(t.Retry, 3*time.Second), Lost: cmp.Or(t.Lost, 40*time.Second),
	}
}

const (
	// maxEarly bounds the commands that wait for those before them.
	maxEarly = 64
	// maxRetries is how often missing commands are asked for before the agent goes on without them: a gap must not
	// make an agent deaf (§a.7).
	maxRetries = 3
	// maxRepeat bounds what one RETRY gets.
	maxRepeat = 32
	// maxWarnings is how many silent times in a row make the agent forget its controller.
	maxWarnings = 2
)

// crowd is what a session on the multicast transport knows beside one on a connection: it hears what is meant for
// others, misses what is meant for it, and numbers what it says.
type crowd struct {
	sent  legacy.Sent[legacy.Message] // guarded by the session's mu
	since time.Time                   // when a controller was heard last

	waiting  map[int]legacy.Command // by number: they came before their turn
	retries  int
	warnings int
}

// number gives a message its number: all but those that keep the transport alive have one (§a.2). The session's mu is
// held.
func (c *crowd) number(m legacy.Message) legacy.Message {
	switch {
	case m.Name == legacy.Heartbeat, m.Name == legacy.WhoAmI, m.Name == legacy.Retry, m.Name == legacy.Warn:
	case m.Name == legacy.ErrorWord && len(m.Args) > 0 && m.Args[0] == lostController:
	default:
		m.Seq = c.sent.Next()
		c.sent.Add(m)
	}
	return m
}

// lostController is what an agent says before it gives its controller up.
const lostController = "LOST_HANDLER"

// early keeps a command that came before its turn, and says so.
func (c *crowd) early(seen, seq int, cmd legacy.Command) bool {
	if seq == seen+1 {
		return false
	}
	if len(c.waiting) < maxEarly {
		c.waiting[seq] = cmd
	}
	return true
}

func (c *crowd) forget() {
	clear(c.waiting)
	c.retries, c.warnings = 0, 0
}

// runGroup serves whoever speaks on the group until ctx ends.
func (l *Listener) runGroup(ctx context.Context) error {
	s := newSession(ctx, l.cfg, l.cfg.Name, l.cfg.Logger)
	s.crowd = &crowd{waiting: map[int]legacy.Command{}, since: l.cfg.Now()}
	s.post = func(text string) { _ = l.cfg.Group.Write([]byte(text)) } // what is lost can be asked for
	lines := make(chan string, maxEarly)
	failed := make(chan error, 1)
	go func() { failed <- hear(s.ctx, l.cfg.Group, lines) }()
	err := s.attend(lines, failed)
	s.cancel()
	l.cfg.Group.Close()
	if err == nil {
		<-failed
	}
	s.all.Wait()
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("legacy listener: %w", err)
}

// hear passes datagrams on until the connection or ctx ends.
func hear(ctx context.Context, c group.Conn, lines chan<- string) error {
	buf := make([]byte, readBuffer)
	for {
		n, _, err := c.Read(buf)
		if err != nil {
			return err
		}
		select {
		case lines <- string(buf[:n]):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// attend obeys, and says its words of life, until the context ends (nil) or the group fails.
func (s *session) attend(lines <-chan string, failed <-chan error) error {
	beat := time.NewTicker(s.cfg.Timing.Heartbeat)
	defer beat.Stop()
	retry := time.NewTicker(s.cfg.Timing.Retry)
	defer retry.Stop()
	for {
		select {
		case line := <-lines:
			s.crowd.since = s.cfg.Now()
			s.crowd.warnings = 0
			before := s.seen
			s.obey(line)
			s.catchUp()
			if len(s.crowd.waiting) > 0 && s.seen == before && s.crowd.retries == 0 {
				s.ask()
				retry.Reset(s.cfg.Timing.Retry)
			}
		case <-retry.C:
			s.ask()
		case <-beat.C:
			s.beat()
		case err := <-failed:
			return err
		case <-s.ctx.Done():
			return nil
		}
	}
}

// catchUp performs what waited for its turn, which has come.
func (s *session) catchUp() {
	c := s.crowd
	for {
		cmd, ok := c.waiting[s.seen+1]
		if !ok {
			break
		}
		s.seen++
		c.retries = 0
		delete(c.waiting, s.seen)
		s.perform(cmd)
	}
	for seq := range c.waiting {
		if seq <= s.seen {
			delete(c.waiting, seq)
		}
	}
}

// ask asks for the commands that are missing before those that wait. If nobody repeats them the agent goes on.
func (s *session) ask() {
	c := s.crowd
	if len(c.waiting) == 0 {
		c.retries = 0
		return
	}
	first := 0
	for seq := range c.waiting {
		if first == 0 || seq < first {
			first = seq
		}
	}
	if c.retries == maxRetries {
		s.log.Warn("commands were lost", "first", s.seen+1, "last", first-1)
		s.seen = first - 1
		s.catchUp()
		return
	}
	c.retries++
	s.say(legacy.Retry, strconv.Itoa(s.seen+1), strconv.Itoa(first-1))
}

// repeat says again what a controller has missed, under the numbers it had.
func (s *session) repeat(cmd legacy.Command) {
	first, ok := s.argument(cmd, 0, "First message to repeat")
	if !ok {
		return
	}
	from, err := strconv.Atoi(first)
	to := from
	if err == nil && len(cmd.Args) > 1 {
		to, err = strconv.Atoi(cmd.Args[1])
	}
	if err != nil {
		s.fault(cmd, "a message is named by its number")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	from = max(from, 1)
	for seq := from; seq <= min(to, s.crowd.sent.Last(), from+maxRepeat-1); seq++ {
		if m, ok := s.crowd.sent.Get(seq); ok {
			s.post(m.String())
		}
	}
}

// beat is the word of life (§a.4): who it is while the agent is not enrolled, then what it has sent and received. A
// controller that says nothing is warned of, and then forgotten.
func (s *session) beat() {
	if !s.enrolled() {
		s.introduce(s.address)
		return
	}
	c := s.crowd
	now := s.cfg.Now()
	silent := now.Sub(c.since)
	seconds := strconv.Itoa(int(silent / time.Second))
	if silent > s.cfg.Timing.Lost {
		c.warnings++
		if c.warnings >= maxWarnings {
			s.log.Warn("the controller is gone; what it started is killed", "silent", silent)
			s.say(legacy.ErrorWord, lostController, seconds)
			s.reset()
			return
		}
		s.say(legacy.Warn, "ALMOST_LOST_HANDLER", strconv.Itoa(c.warnings), seconds)
		return
	}
	s.mu.Lock()
	sent := s.crowd.sent.Last()
	s.mu.Unlock()
	s.say(legacy.Heartbeat, strconv.Itoa(sent), strconv.Itoa(s.seen), strconv.FormatInt(now.Unix(), 10), seconds)
}

// introduce says who the agent is, also before it is enrolled.
func (s *session) introduce(name string) {
	m := legacy.Message{Sender: name, Name: legacy.WhoAmI, Args: []string{"4.2", "-", "-1", "4.4.0", cmp.Or(s.cfg.System, "unknown")}}
	if a := s.cfg.Heard; a.IsValid() {
		m.Args[1], m.Args[2] = a.Addr().String(), strconv.Itoa(int(a.Port()))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.post(m.String())
}
