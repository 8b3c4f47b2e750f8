package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"loadnode/deploy/lab"
)

// place is where programs run that talk to each other: hosts of a lab, or
// addresses of the loopback interface.
type place struct {
	net     *lab.Network // nil: loopback
	why     error        // of that
	taskset string       // "": processes cannot be pinned
	pinned  bool         // senders have the first processor, all else the second
}

// hosts is one server, its clients and what else a measurement needs.
const hosts = 17

// settle makes the place.
func (b *bench) settle(ctx context.Context) error {
	b.place = &place{}
	b.place.taskset, _ = exec.LookPath("taskset")
	net, err := lab.New(ctx, hosts)
	switch {
	case err == nil:
		b.place.net = net
	case errors.Is(err, lab.ErrUnavailable):
		b.place.why = err
	default:
		return err
	}
	return nil
}

func (p *place) close() {
	if p.net != nil {
		if err := p.net.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
}

func (p *place) String() string {
	if p.net == nil {
		return fmt.Sprintf("addresses of the loopback interface (%v)", p.why)
	}
	return "network namespaces on a bridge"
}

// pin gives the server a processor of its own, and switch and clients another,
// as if they were other machines; or ends that. On loopback, and on machines
// with one processor, it cannot be done: then the server pays for its clients.
func (p *place) pin(ctx context.Context, on bool) error {
	if p.net == nil || p.taskset == "" || runtime.NumCPU() < 2 {
		return nil
	}
	processor := 1
	p.pinned = on
	if !on {
		return p.net.Deliver(ctx, 0, -1)
	}
	return p.net.Deliver(ctx, 0, processor)
}

// address of a host. The server is host 0.
func (p *place) address(host int) string {
	if p.net != nil {
		return p.net.Hosts[host].Addr.String()
	}
	return fmt.Sprintf("127.0.9.%d", host+1)
}

// command prepares a program on a host.
func (p *place) command(ctx context.Context, host int, name string, args ...string) *exec.Cmd {
	if p.pinned {
		processor := "1"
		if host == 0 {
			processor = "0"
		}
		name, args = p.taskset, append([]string{"-c", processor, name}, args...)
	}
	if p.net != nil {
		return p.net.Hosts[host].Command(ctx, name, args...)
	}
	return exec.CommandContext(ctx, name, args...)
}
