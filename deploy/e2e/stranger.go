package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// strangerFlag makes the program another computer in the machines' network,
// which has taken a machine's MAC and address: -stranger DEVICE MAC
// ADDRESS/BITS URL. It asks until the answer is not that no job waits, and
// prints status and body.
const strangerFlag = "-stranger"

// stranger is that computer, from outside.
type stranger struct {
	cmd *exec.Cmd
	out bytes.Buffer
	err bytes.Buffer
}

// newStranger connects a computer that passes for m, and has it ask for m's
// configuration.
func newStranger(ctx context.Context, m *machine) (*stranger, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	inside, outside := fmt.Sprintf("in%d", m.index), fmt.Sprintf("out%d", m.index)
	x := &stranger{cmd: exec.CommandContext(ctx, self, strangerFlag, inside, hardware(m.index).String(), address(m.index).String()+"/24", configURL(m))}
	x.cmd.Stdout, x.cmd.Stderr = &x.out, &x.err
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	begin, err := x.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := x.cmd.Start(); err != nil {
		return nil, err
	}
	err = do(ctx, fmt.Sprintf("link add name %s type veth peer name %s\nlink set dev %s netns %d\nlink set dev %s master br0 up\n",
		outside, inside, inside, x.cmd.Process.Pid, outside), "ip", "-batch", "-")
	if err == nil {
		_, err = io.WriteString(begin, "\n")
	}
	if err := errors.Join(err, begin.Close()); err != nil {
		_ = x.cmd.Process.Kill() // it may have ended
		return nil, errors.Join(err, x.cmd.Wait())
	}
	return x, nil
}

// answer waits for what it was told.
func (x *stranger) answer() (status int, body string, err error) {
	if err := x.cmd.Wait(); err != nil {
		return 0, "", fmt.Errorf("stranger: %w: %s", err, bytes.TrimSpace(x.err.Bytes()))
	}
	first, body, _ := strings.Cut(x.out.String(), "\n")
	status, err = strconv.Atoi(first)
	return status, body, err
}

// beStranger is its inside, in a network namespace of its own.
func beStranger(ctx context.Context, device, mac, address, url string, in io.Reader, out io.Writer) error {
	if _, err := bufio.NewReader(in).ReadString('\n'); err != nil {
		return fmt.Errorf("no cable: %w", err)
	}
	if err := do(ctx, fmt.Sprintf("link set dev %s address %s\naddr add %s dev %s\nlink set dev %s up\n", device, mac, address, device, device), "ip", "-batch", "-"); err != nil {
		return err
	}
	pause := time.NewTicker(100 * time.Millisecond)
	defer pause.Stop()
	for {
		status, body, err := get(ctx, url)
		if err == nil && status != http.StatusNotFound {
			_, err := fmt.Fprintf(out, "%d\n%s", status, body)
			return err
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// get asks once.
func get(ctx context.Context, url string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	return r.StatusCode, string(text), err
}

// configURL is where a machine asks who it is.
func configURL(m *machine) string {
	return fmt.Sprintf("http://%s/boot/config?mac=%s", net.JoinHostPort(server, webPort), hardware(m.index))
}
