package host

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"loadnode/agent"
	"loadnode/agent/legacy"
	"loadnode/agent/legacy/listener"
	"loadnode/events"
	"loadnode/transfer/client"
	"loadnode/transfer/install"
)

// Exit codes of frisbee (frisbee-protocol §5).
const (
	exitDisk  = 1
	exitFatal = 255
)

// quitTime is how long a controller's last answers may take before the machine leaves.
const quitTime = 500 * time.Millisecond

// Machine acts on an agent's machine.
type Machine struct {
	Machine agent.Machine
	Memory  int64 // bytes of chunk buffers; 0: the agent's default
}

// Load implements listener.Machine.
func (m *Machine) Load(group string, port uint16, path string) listener.Program {
	return func(ctx context.Context, print func(stream, line string)) int {
		code, err := m.load(ctx, events.Session{Group: group, Port: port, Server: group}, path, print)
		if err != nil {
			print(legacy.Stderr, err.Error())
			return listener.Exit(code)
		}
		return 0
	}
}

func (m *Machine) load(ctx context.Context, session events.Session, path string, print func(stream, line string)) (code int, err error) {
	if !m.Machine.Imaging() {
		return exitDisk, fmt.Errorf("opening output file: %s is a disk of the running system, and this is not the imaging system", path)
	}
	target, _, err := m.Machine.OpenDisk(ctx, path, 0, 0)
	if err != nil {
		return exitDisk, fmt.Errorf("opening output file: %w", err)
	}
	defer target.Close()
	conn, err := m.Machine.Join(session)
	if err != nil {
		return exitFatal, err
	}
	defer conn.Close()
	in, err := install.New(install.Config{Target: target})
	if err != nil {
		return exitFatal, err
	}
	begun := time.Now()
	marks := &marks{Installer: in, print: print, begun: begun}
	memory := m.Memory
	if memory == 0 {
		memory = agent.DefaultMemory
	}
	// A client of the original waits for ever; whoever started it ends it.
	c, err := client.New(client.Config{
		Conn: conn, Installer: marks, Workers: runtime.GOMAXPROCS(0), Memory: memory,
		JoinTimeout: 365 * 24 * time.Hour, StallTimeout: 365 * 24 * time.Hour,
	})
	if err != nil {
		return exitFatal, err
	}
	marks.chunks = func() int { return c.Progress().Chunks }
	if _, err := c.Run(ctx); err != nil {
		return exitFatal, fmt.Errorf("write error: %w", err)
	}
	result, err := in.Finish(ctx)
	if err != nil {
		return exitFatal, fmt.Errorf("write error: %w", err)
	}
	print(legacy.Stderr, fmt.Sprintf("Wrote %d bytes (%d actual)", result.BytesDescribed, result.BytesWritten))
	print(legacy.Stdout, "")
	print(legacy.Stdout, fmt.Sprintf("Left the team after %d seconds on the field!", int(time.Since(begun).Seconds())))
	return 0, nil
}

// marks prints progress at 10, 20 … 90 %.
type marks struct {
	client.Installer
	print  func(stream, line string)
	begun  time.Time
	chunks func() int

	mu         sync.Mutex
	done, mark int
}

func (p *marks) Install(ctx context.Context, index int, chunk []byte) error {
	if err := p.Installer.Install(ctx, index, chunk); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	all := p.chunks()
	if all == 0 {
		return nil
	}
	if reached := p.done * 10 / all * 10; reached > p.mark && reached < 100 {
		p.mark = reached
		p.print(legacy.Stdout, fmt.Sprintf("Progress: %d%% %.6d %.6d", reached, int(time.Since(p.begun).Seconds()), all-p.done))
	}
	return nil
}

// Save implements listener.Machine. OMF 4 saves through a mount of NFS, which this system does not make.
func (m *Machine) Save(dir, _, _ string) (listener.Program, error) {
	//lint:ignore ST1005 the controller gets this text as the original agent words it
	return nil, fmt.Errorf("While mounting %s: this agent does not mount NFS; save with omf save", dir)
}

// Command implements listener.Machine. Of all programs only those that end the system are run: whoever reaches the port
// needs no password.
func (m *Machine) Command(words []string) listener.Program {
	how, known := leaving(words)
	return func(_ context.Context, print func(stream, line string)) int {
		if !known {
			print(legacy.Stderr, fmt.Sprintf("exec failed for '%s'(this agent runs no programs for controllers)", strings.Join(words, " ")))
			return listener.Exit(1)
		}
		m.leaveSoon(how)
		return 0
	}
}

// leaving says which end of the system a command means.
func leaving(words []string) (events.Verb, bool) {
	if len(words) == 0 {
		return "", false
	}
	switch program := words[0][strings.LastIndex(words[0], "/")+1:]; program {
	case "shutdown":
		for _, w := range words[1:] {
			switch w {
			case "-h", "-P", "-H":
				return events.VerbHalt, true
			case "-r":
				return events.VerbReboot, true
			}
		}
		return "", false
	case "halt", "poweroff":
		return events.VerbHalt, true
	case "reboot":
		return events.VerbReboot, true
	}
	return "", false
}

// Reboot implements listener.Machine.
func (m *Machine) Reboot() { m.leaveSoon(events.VerbReboot) }

// leaveSoon ends the system once the controller has its answer.
func (m *Machine) leaveSoon(how events.Verb) {
	time.AfterFunc(quitTime, func() { _ = m.Machine.Leave(context.Background(), how) })
}
