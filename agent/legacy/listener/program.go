package listener

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"loadnode/agent/legacy"
)

// DefaultDisk is what LOAD_IMAGE and SAVE_IMAGE mean when they name no disk.
const DefaultDisk = "/dev/hda"

// argument gives the n-th argument of a command, or answers what is missing.
func (s *session) argument(cmd legacy.Command, n int, what string) (string, bool) {
	if n >= len(cmd.Args) || cmd.Args[n] == "" {
		s.fault(cmd, what)
		return "", false
	}
	return cmd.Args[n], true
}

func (s *session) load(cmd legacy.Command) {
	group, ok := s.argument(cmd, 0, "Multicast address")
	if !ok {
		return
	}
	text, ok := s.argument(cmd, 1, "Multicast port")
	if !ok {
		return
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		s.fault(cmd, fmt.Sprintf("Multicast port %s is no port number", text))
		return
	}
	s.imaging(cmd, legacy.LoadProcess, s.cfg.Machine.Load(group, uint16(port), diskOf(cmd, 2)))
}

func (s *session) save(cmd legacy.Command) {
	dir, ok := s.argument(cmd, 0, "NSF path for saved image") // sic
	if !ok {
		return
	}
	name, ok := s.argument(cmd, 1, "Name of saved image")
	if !ok {
		return
	}
	program, err := s.cfg.Machine.Save(dir, name, diskOf(cmd, 2))
	if err != nil {
		s.fault(cmd, err.Error())
		return
	}
	s.imaging(cmd, legacy.SaveProcess, program)
}

func diskOf(cmd legacy.Command, n int) string {
	if n < len(cmd.Args) && cmd.Args[n] != "" {
		return cmd.Args[n]
	}
	return DefaultDisk
}

// imaging starts a load or a save. Two on one disk would ruin it, whatever their ids.
func (s *session) imaging(cmd legacy.Command, id string, p Program) {
	for _, other := range []string{legacy.LoadProcess, legacy.SaveProcess} {
		if s.running(other) {
			s.fault(cmd, fmt.Sprintf("%s is running already", other))
			return
		}
	}
	// Errors of imaging programs are reported as output (§a.8).
	s.start(cmd, id, func(ctx context.Context, print func(stream, line string)) int {
		return p(ctx, func(_, line string) { print(legacy.Stdout, line) })
	})
}

func (s *session) exec(cmd legacy.Command) {
	id, ok := s.argument(cmd, 0, "ID of install") // sic
	if !ok {
		return
	}
	s.mu.Lock()
	name := s.name
	s.mu.Unlock()
	s.start(cmd, id, s.cfg.Machine.Command(substitute(cmd.Args[1:], name)))
}

// substitute does what % at the beginning of a word asks for: it goes, and %x, %y, %n in the rest become the place and
// the name of the node (§a.8).
func substitute(words []string, name string) []string {
	parts := strings.Split(name, "_")
	out := make([]string, len(words))
	for i, w := range words {
		rest, ok := strings.CutPrefix(w, "%")
		if ok && len(parts) == 3 {
			rest = strings.NewReplacer("%x", parts[1], "%y", parts[2], "%n", name).Replace(rest)
		}
		out[i] = rest
	}
	return out
}

func (s *session) kill(cmd legacy.Command) {
	id, ok := s.argument(cmd, 0, "ID of process")
	if !ok {
		return
	}
	s.mu.Lock()
	end := s.programs[id]
	s.mu.Unlock()
	if end == nil {
		s.fault(cmd, fmt.Sprintf("no program %s runs", id))
		return
	}
	end() // whatever the signal, as the original does
}

func (s *session) running(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.programs[id] != nil
}

// start runs a program and reports its events: STARTED first, even if it cannot be started (§a.9).
func (s *session) start(cmd legacy.Command, id string, p Program) {
	ctx, cancel := context.WithCancel(s.ctx)
	s.mu.Lock()
	resets := s.resets
	full := len(s.programs) >= maxPrograms
	taken := s.programs[id] != nil
	if !full && !taken {
		s.programs[id] = cancel
	}
	s.mu.Unlock()
	if full || taken {
		cancel()
		s.fault(cmd, fmt.Sprintf("%s is running already, or too many programs are", id))
		return
	}
	s.event(resets, legacy.Started, id)
	s.all.Go(func() {
		defer cancel()
		status := p(ctx, func(stream, line string) { s.event(resets, stream, id, line) })
		if ctx.Err() != nil {
			status = killed
		}
		s.mu.Lock()
		delete(s.programs, id)
		s.mu.Unlock()
		kind := legacy.DoneOK
		if status != 0 {
			kind = legacy.DoneError
		}
		s.event(resets, kind, id, "status: "+strconv.Itoa(status))
	})
}
