package listener

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"loadnode/agent/legacy"
)

const (
	// readBuffer is that of the original; a longer line counts as cut there.
	readBuffer = 1024
	// quiet is how long a piece without a newline waits for the rest of its line.
	quiet = 50 * time.Millisecond
	// writeTime is how long a controller may take no bytes before it counts as gone.
	writeTime = 10 * time.Second
	// maxPrograms bounds what one controller can have running.
	maxPrograms = 64
)

// session is the time with one controller.
type session struct {
	cfg    Config
	post   func(text string) // sends a message, or ends the session
	crowd  *crowd            // of the multicast transport; nil on a connection
	log    *slog.Logger
	ctx    context.Context // of everything it starts
	cancel context.CancelFunc
	all    sync.WaitGroup

	// What follows belongs to the goroutine that reads, but for the name, which messages are signed with.
	address string
	aliases []string
	seen    int // highest number of a command

	mu       sync.Mutex
	name     string // "": not enrolled, and silent
	resets   int    // what was started before one is not heard after it
	programs map[string]context.CancelFunc
}

func newSession(ctx context.Context, cfg Config, address string, log *slog.Logger) *session {
	s := &session{cfg: cfg, log: log, address: address, programs: map[string]context.CancelFunc{}}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

// converse obeys a controller on a connection until that or the context ends, and then kills what it started.
func (s *session) converse(c net.Conn) {
	defer s.all.Wait()
	defer s.cancel()
	defer c.Close()
	s.post = func(text string) {
		_ = c.SetWriteDeadline(time.Now().Add(writeTime))
		if _, err := c.Write([]byte(text)); err != nil {
			c.Close() // the reader sees it
		}
	}
	stop := context.AfterFunc(s.ctx, func() { c.Close() })
	defer stop()
	var held []byte
	buf := make([]byte, readBuffer)
	for {
		wait := time.Time{}
		if len(held) > 0 {
			wait = time.Now().Add(quiet)
		}
		_ = c.SetReadDeadline(wait)
		n, err := c.Read(buf)
		held = append(held, buf[:n]...)
		for {
			line, rest, found := bytes.Cut(held, []byte("\n"))
			if !found {
				break
			}
			s.obey(string(line))
			held = append(held[:0], rest...)
		}
		timeout := false
		if e, ok := err.(net.Error); ok && e.Timeout() {
			timeout = true
		}
		if len(held) >= readBuffer || timeout || err != nil && len(held) > 0 {
			s.obey(string(held))
			held = held[:0]
		}
		if err != nil && !timeout {
			return
		}
	}
}

// say sends a message, if the agent is enrolled: before that it is silent (§a.6). Each message is one write.
func (s *session) say(name string, args ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(name, args...)
}

// event sends an event of a program which was started after so many resets.
func (s *session) event(resets int, kind, id string, text ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resets == resets {
		s.write(legacy.AppEvent, append([]string{kind, id}, text...)...)
	}
}

// write sends a message. s.mu is held.
func (s *session) write(name string, args ...string) {
	if s.name == "" {
		return
	}
	m := legacy.Message{Sender: s.name, Name: name, Args: args}
	if s.crowd != nil {
		m = s.crowd.number(m)
	}
	s.post(m.String())
}

func (s *session) enrolled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name != ""
}

// rename sets the name the agent signs with; "" makes it silent.
func (s *session) rename(name string) {
	s.mu.Lock()
	s.name = name
	s.mu.Unlock()
}

// agentName is the form names must have: a_X_Y (§a.6).
var agentName = regexp.MustCompile(`^[A-Za-z]+_-?[0-9]+_-?[0-9]+$`)

// obey does what a line says. Lines of less than three words, for somebody else, or seen before are passed over in
// silence, and so is everything but YOUARE and REBOOT before enrolment.
func (s *session) obey(line string) {
	cmd, err := legacy.ParseCommand(line)
	if err != nil {
		if strings.TrimSpace(line) != "" {
			s.log.Debug("command is too short", "line", line)
		}
		return
	}
	seq := max(cmd.Seq, -cmd.Seq)
	if seq != 0 {
		if seq <= s.seen {
			return
		}
		if s.crowd != nil && s.enrolled() && s.crowd.early(s.seen, seq, cmd) {
			return
		}
		s.seen = seq // also with commands for others: there is one counter for all
	}
	s.perform(cmd)
}

// perform does what a command says whose turn it is.
func (s *session) perform(cmd legacy.Command) {
	s.mu.Lock()
	names := append([]string{s.address, s.name}, s.aliases...)
	s.mu.Unlock()
	enrolled := s.enrolled()
	switch {
	case !cmd.Addresses(names...), !enrolled && cmd.Name != legacy.YouAre && cmd.Name != legacy.Reboot:
		return
	}
	s.log.Debug("command", "name", cmd.Name, "args", cmd.Args)
	switch cmd.Name {
	case legacy.YouAre:
		if !enrolled || cmd.Seq != 0 {
			s.youAre(cmd)
		}
	case legacy.Alias:
		s.aliases = append(s.aliases, cmd.Args[:min(len(cmd.Args), 32)]...)
	case legacy.Rallo:
		s.say(legacy.Allo, s.cfg.Now().Format(time.TimeOnly))
	case legacy.Reset:
		s.reset()
	case legacy.Reboot:
		s.say(legacy.Status, "system", "REBOOTING")
		s.cfg.Machine.Reboot()
	case legacy.LoadImage:
		s.load(cmd)
	case legacy.SaveImage:
		s.save(cmd)
	case legacy.Exec:
		s.exec(cmd)
	case legacy.Kill:
		s.kill(cmd)
	case legacy.Retry:
		if s.crowd != nil {
			s.repeat(cmd)
		}
	case "STDIN":
	default:
		s.say(legacy.ErrorWord, "UNKNOWN_CMD", cmd.Name)
	}
}

// youAre enrols the agent: a name, and the highest number to ignore.
func (s *session) youAre(cmd legacy.Command) {
	if len(cmd.Args) < 2 {
		return // an agent that is not enrolled says nothing
	}
	ignore, err := strconv.Atoi(cmd.Args[1])
	if err != nil || strconv.Itoa(ignore) != cmd.Args[1] || !agentName.MatchString(cmd.Args[0]) {
		s.log.Warn("enrolment refused: a name of the form n_1_2 and a number are needed", "args", cmd.Args)
		s.rename("")
		return
	}
	s.seen = ignore
	s.aliases = append([]string{}, cmd.Args[2:min(len(cmd.Args), 34)]...)
	s.rename(cmd.Args[0])
	if s.crowd != nil {
		s.introduce(cmd.Args[0]) // its heartbeat comes in its time
		return
	}
	s.say(legacy.Heartbeat, "-1", "-1", "-1", "-1")
}

// reset kills everything and forgets the name; it is not answered.
func (s *session) reset() {
	s.aliases = nil
	if s.crowd != nil {
		s.crowd.forget()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.name = ""
	s.resets++
	for _, end := range s.programs {
		end()
	}
}

// fault is the original's answer to a command that cannot be carried out.
func (s *session) fault(cmd legacy.Command, text string) {
	s.say(legacy.ErrorWord, "EXECUTION", fmt.Sprintf("'%s' with '%s'", cmd.Name, strings.Join(cmd.Args, " ")), text)
}
