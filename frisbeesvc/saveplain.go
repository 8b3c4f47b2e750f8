package frisbeesvc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"loadnode/events"
)

// plainPatience is how long the sender of a plain place may take for its first
// byte: imagezip looks through the whole filesystem before it writes anything.
const plainPatience = 10 * time.Minute

// listen opens the first free port of those for plain places.
func (t *term) listen() (net.Listener, error) {
	for i := range t.s.cfg.SavePorts {
		address := net.JoinHostPort(t.s.cfg.Interface.String(), strconv.Itoa(int(t.s.cfg.SavePort)+i))
		ln, err := new(net.ListenConfig).Listen(t.ctx, "tcp4", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, &events.Error{Code: events.CodeFailed, Message: "port for an image: " + err.Error()}
		}
		return ln, nil
	}
	return nil, &events.Error{Code: events.CodeBusy, Retryable: true, Message: fmt.Sprintf("no free port for an image from %d on, %d of them were tried",
		t.s.cfg.SavePort, t.s.cfg.SavePorts)}
}

// receivePlain takes the bare image from the first connection to a plain
// place: from imagezip through netcat, as OMF 5 does it. There is no word of
// how much it is or whether it is all, but the end of the connection.
func (t *term) receivePlain(p *place) {
	closed := context.AfterFunc(p.ctx, func() { p.listener.Close() })
	conn, err := p.listener.Accept()
	closed()
	p.listener.Close() // one connection
	if err != nil {
		if p.ctx.Err() != nil {
			err = context.Cause(p.ctx)
		}
		t.places.end(p, nil, err)
		return
	}
	defer conn.Close()
	if !t.places.receiving(p) {
		return
	}
	t.s.log.Info("an image comes in", "image", p.image, "lease", p.lease, "from", conn.RemoteAddr().String())
	body := &impatient{r: conn, setDeadline: conn.SetReadDeadline, first: plainPatience, rest: t.s.cfg.SaveStall}
	stopped := context.AfterFunc(p.ctx, func() { body.stop(context.Cause(p.ctx)) })
	defer stopped()
	_, _ = t.store(p, body, nil, body.release) // the place tells what became of it, and store logs it
}
