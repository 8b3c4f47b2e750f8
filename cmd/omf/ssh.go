package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

const (
	// sshTimeout is how long a node may take from the first packet to its banner.
	sshTimeout = 3 * time.Second
	// maxBanner bounds what is read before and with the banner, in bytes.
	maxBanner = 8 << 10
)

// sshBanner connects to a server of SSH and returns how it identifies itself.
// An open port alone is no answer: a system that is coming up may accept
// connections long before it serves them. Lines before the identification are
// allowed (RFC 4253, section 4.2).
func sshBanner(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sshTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	banner, err := readBanner(conn)
	if errors.Is(err, errNoBanner) {
		return "", fmt.Errorf("%s does not speak SSH", address)
	}
	return banner, err
}

// errNoBanner says that a server said something else, or too much, or nothing.
var errNoBanner = errors.New("no SSH identification")

// readBanner reads how a server of SSH identifies itself: a line that begins
// with SSH-, after any others (RFC 4253, section 4.2). The server is not
// trusted; what cannot be printed is not part of what is returned.
func readBanner(from io.Reader) (string, error) {
	r := bufio.NewReader(io.LimitReader(from, maxBanner))
	for {
		line, err := r.ReadString('\n')
		if strings.HasPrefix(line, "SSH-") && err == nil {
			return strings.Map(printable, strings.TrimRight(line, "\r\n")), nil
		}
		if errors.Is(err, io.EOF) {
			return "", errNoBanner
		}
		if err != nil {
			return "", err
		}
	}
}

// printable lets the characters pass that an identification may have.
func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return -1
	}
	return r
}
