package initramfs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// shellFile is the emergency console, in images that were built with one.
const shellFile = "/bin/sh"

// tend starts the agent and waits until it ends, burying every other process
// that has lost its parent. An agent that halts the machine never comes back.
func tend(environ []string, log *slog.Logger) error {
	pid, err := syscall.ForkExec(program, []string{"omf-agent"}, &syscall.ProcAttr{
		Dir: "/", Env: environ, Files: []uintptr{0, 1, 2},
	})
	if err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	log.Info("agent started", "pid", pid)
	for {
		var status unix.WaitStatus
		dead, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return os.NewSyscallError("wait4", err)
		case dead == pid && status.Signaled():
			return fmt.Errorf("the agent was ended by signal %v", status.Signal())
		case dead == pid:
			return fmt.Errorf("the agent ended with code %d", status.ExitStatus())
		}
	}
}

// shell gives the console to a shell, if the image has one.
func shell(log *slog.Logger) {
	if _, err := os.Stat(shellFile); err != nil {
		log.Error("omf.console=1, and no shell is in the image: build it with -shell", "err", err)
		return
	}
	// A session of its own with the console as terminal.
	p, err := os.StartProcess("/bin/busybox", []string{"busybox", "setsid", "-c", shellFile, "-l"}, &os.ProcAttr{
		Dir: "/", Env: []string{"HOME=/", "TERM=linux", "PATH=/bin:/sbin", "PS1=imaging# "}, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		log.Error("emergency console", "err", err)
		return
	}
	// While the agent is looked after, the shell is buried there.
	_, _ = p.Wait()
}
