package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
)

// Command prepares a program to run on the host. It ends with this process.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, h.tools.ip, append([]string{"netns", "exec", h.space, name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Traffic is what a host received or sent, frames of all kinds.
type Traffic struct{ Packets, Bytes uint64 }

// Received is what reached the host since it was made.
func (h *Host) Received(ctx context.Context) (Traffic, error) {
	rx, _, err := h.traffic(ctx)
	return rx, err
}

// Sent is what left the host since it was made.
func (h *Host) Sent(ctx context.Context) (Traffic, error) {
	_, tx, err := h.traffic(ctx)
	return tx, err
}

func (h *Host) traffic(ctx context.Context) (rx, tx Traffic, err error) {
	out, err := output(ctx, "", h.tools.ip, "-n", h.space, "-s", "-j", "link", "show", "dev", "eth0")
	if err != nil {
		return rx, tx, err
	}
	var links []struct {
		Stats struct{ RX, TX Traffic } `json:"stats64"`
	}
	if err := json.Unmarshal(out, &links); err != nil || len(links) != 1 {
		return rx, tx, fmt.Errorf("counters of %s: %w: %s", h.space, err, out)
	}
	return links[0].Stats.RX, links[0].Stats.TX, nil
}

// Hears says whether what another host sends to a group arrives here, on the
// wire, whether or not any program listens.
func (h *Host) Hears(ctx context.Context, from *Host, group netip.Addr) (bool, error) {
	const words = 20 // more than what else may arrive meanwhile
	before, err := h.Received(ctx)
	if err != nil {
		return false, err
	}
	cmd := from.Command(ctx, h.tools.bash, "-c", fmt.Sprintf("for i in {1..%d}; do echo word >/dev/udp/%v/9; done", words, group))
	if out, err := cmd.CombinedOutput(); err != nil {
		return false, fmt.Errorf("%w: %s", err, out)
	}
	after, err := h.Received(ctx)
	if err != nil {
		return false, err
	}
	return after.Packets-before.Packets >= words, nil
}

// Segment makes the host's link take single datagrams only, as a cable does. By
// default trains of datagrams that were handed to the kernel in one piece stay
// one piece up to the receiver, and are lost as one.
func (h *Host) Segment(ctx context.Context) error {
	_, err := output(ctx, "", h.tools.ip, "-n", h.space, "link", "set", "eth0", "gso_max_segs", "1")
	return err
}

// ErrNoFilter says that the machine has no nft, or its kernel no nftables.
var ErrNoFilter = errors.New("no nftables here")

// Lose drops so many per cent of the UDP datagrams that reach the host on a
// port, by chance. It replaces what was before; 0 ends it.
func (h *Host) Lose(ctx context.Context, percent int, port uint16) error {
	if h.tools.nft == "" {
		return fmt.Errorf("%w: there is no program nft (package nftables)", ErrNoFilter)
	}
	rules := "flush ruleset\n"
	if percent > 0 {
		rules += fmt.Sprintf(`table ip lab {
	chain input {
		type filter hook input priority 0;
		udp dport %d numgen random mod 100 < %d counter drop
	}
}
`, port, percent)
	}
	if _, err := output(ctx, rules, h.tools.ip, "netns", "exec", h.space, h.tools.nft, "-f", "-"); err != nil {
		return fmt.Errorf("%w: %w", ErrNoFilter, err)
	}
	return nil
}

var packets = regexp.MustCompile(`counter packets (\d+)`)

// Lost is how many datagrams were dropped since Lose.
func (h *Host) Lost(ctx context.Context) (uint64, error) {
	out, err := output(ctx, "", h.tools.ip, "netns", "exec", h.space, h.tools.nft, "list", "ruleset")
	if err != nil {
		return 0, err
	}
	m := packets.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("no counter in the rules of %s: %s", h.space, out)
	}
	return strconv.ParseUint(string(m[1]), 10, 64)
}
