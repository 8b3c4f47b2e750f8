package main

import (
	"loadnode/transfer/mcast"
	"loadnode/transfer/server"
)

// setMode chooses how datagrams cross between program and kernel, such as
// "gso/gro", "mmsg" and "single"; "" takes the best way.
func setMode(o *mcast.Options, text string) error {
	return o.Mode.UnmarshalText([]byte(text))
}

// mode is the one in use.
func mode(c mcast.Conn) string {
	if m, ok := c.(mcast.Modal); ok {
		return m.Mode().String()
	}
	return "unknown"
}

// share divides a link of so many bit/s among sessions, nil Limiters for 0.
func share(rate int64, sessions int) ([]server.Limiter, error) {
	out := make([]server.Limiter, sessions)
	if rate == 0 {
		return out, nil
	}
	link := server.NewLink(rate, nil)
	for i := range out {
		s, err := link.Session(1, 0)
		if err != nil {
			return nil, err
		}
		out[i] = s
	}
	return out, nil
}
