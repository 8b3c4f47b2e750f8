package power

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"loadnode/events"
	"loadnode/handler/inventory"
)

const (
	maxOutput  = 64 << 10 // kept of what a script prints
	maxStderr  = 4 << 10  // kept of the end of its errors
	errLines   = 5        // of them in an error
	outputWait = time.Second
)

// ExitError is a script that ended with an error.
type ExitError struct {
	Program string
	Code    int    // exit code; -1 if a signal ended it
	Signal  string // that signal
	Stderr  string // its last lines
}

// Error names the program, the code and the last lines.
func (e *ExitError) Error() string {
	how := fmt.Sprintf("exit code %d", e.Code)
	if e.Signal != "" {
		how = "ended by signal " + e.Signal
	}
	if e.Stderr == "" {
		return fmt.Sprintf("%s: %s, no error text", e.Program, how)
	}
	return fmt.Sprintf("%s: %s: %s", e.Program, how, e.Stderr)
}

// script runs a program for each action. There is no shell between.
type script struct {
	spec    inventory.Power
	deps    Deps
	environ []string
}

func newExec(spec inventory.Power, deps Deps) (Driver, error) {
	if err := inventory.CheckCommand(spec.Command); err != nil {
		return nil, fmt.Errorf("power driver exec: %w: %w", ErrDriver, err)
	}
	spec.Command = slices.Clone(spec.Command)
	return &script{spec, deps, deps.environ()}, nil
}

// Repeatable: nobody knows what a script remembers.
func (s *script) Repeatable() bool { return false }

func (s *script) Do(ctx context.Context, r Request) (State, error) {
	return attempt(ctx, r, s.spec.Timeout, "", s.run)
}

func (s *script) run(ctx context.Context, r Request) (State, error) {
	words, err := s.words(r)
	if err != nil {
		return State{}, err
	}
	text, err := run(ctx, words, s.environ)
	if err != nil {
		return State{}, err
	}
	return parseAnswer(text, r.Action == events.PowerStatus)
}

// run runs a program and returns what it printed. Its errors are an *ExitError
// or that of the context.
func run(ctx context.Context, words, environ []string) (string, error) {
	stdout := &head{most: maxOutput}
	stderr := &tail{most: maxStderr}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = environ
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// A script's children must end with it, or a stuck one would hold its
	// output open and act when nobody expects it any more.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = outputWait
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		// The script is done and well; something it left behind still held
		// its output.
		_ = killGroup(cmd.Process.Pid)
		err = nil
	}
	if err != nil && ctx.Err() != nil {
		if said := stderr.lines(); said != "" {
			return "", fmt.Errorf("%w; it said: %s", ctx.Err(), said)
		}
		return "", ctx.Err()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		e := &ExitError{Program: words[0], Code: exit.ExitCode(), Stderr: stderr.lines()}
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			e.Signal = ws.Signal().String()
		}
		return "", e
	}
	if err != nil {
		return "", fmt.Errorf("run %s: %w", words[0], err)
	}
	if stdout.over {
		return "", fmt.Errorf("%w: it printed more than %d bytes", ErrAnswer, maxOutput)
	}
	return string(stdout.text), nil
}

// killGroup ends a script and all of its children that stayed in its group.
func killGroup(pid int) error {
	err := syscall.Kill(-pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone // it was faster: its own result counts
	}
	return err
}

// words puts the request into the command.
func (s *script) words(r Request) ([]string, error) {
	values := []string{"{node}", r.Node, "{action}", r.Action, "{testbed}", r.Testbed, "{effect}", r.Effect}
	if s.uses("{mac}") || s.uses("{ip}") {
		mac, ip := s.deps.addresses(r)
		if mac == "" && s.uses("{mac}") || ip == "" && s.uses("{ip}") {
			return nil, fmt.Errorf("%w: the inventory does not know mac or ip of %s, which the command uses", ErrRequest, r.Node)
		}
		values = append(values, "{mac}", mac, "{ip}", ip)
	}
	for i := 1; i < len(values); i += 2 {
		// A value that begins with - would be an option of the program.
		if v := values[i]; len(v) > 1024 || strings.HasPrefix(v, "-") || strings.ContainsFunc(v, func(c rune) bool { return !unicode.IsPrint(c) }) {
			return nil, fmt.Errorf("%w: %s is %s", ErrRequest, values[i-1], quote(v))
		}
	}
	replace := strings.NewReplacer(values...)
	words := make([]string, len(s.spec.Command))
	for i, w := range s.spec.Command {
		words[i] = replace.Replace(w)
	}
	return words, nil
}

func (s *script) uses(placeholder string) bool {
	return slices.ContainsFunc(s.spec.Command, func(w string) bool { return strings.Contains(w, placeholder) })
}
