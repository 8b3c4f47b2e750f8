package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/cloudevents/sdk-go/v2/event"

	"loadnode/agent"
	"loadnode/agent/initramfs"
	"loadnode/bus"
)

// environment are the settings of the agent that process 1 of the imaging
// system starts, as environment variables.
func environment(a initramfs.Assignment) []string {
	env := []string{
		prefix + "NATS=" + strings.Join(a.Servers, ","), prefix + "TESTBED=" + a.Testbed, prefix + "NODE=" + a.Node,
		prefix + "ADDRESS=" + a.Address, prefix + "IMAGING=true", prefix + "REBOOT_SYSCALL=true", prefix + "CHILD=true",
		"PATH=/sbin:/bin", "HOME=/",
	}
	if a.Debug {
		env = append(env, prefix+"DEBUG=true")
	}
	if a.Credential != nil {
		secret, err := json.Marshal(a.Credential)
		if err == nil { // three strings
			env = append(env, prefix+"CREDENTIAL="+string(secret))
		}
	}
	return env
}

// watched says in the log when the first report was taken: the end of the boot.
func (s settings) watched(conn *bus.Conn, log *slog.Logger) agent.Bus {
	if !s.child {
		return conn
	}
	return &firstReport{Conn: conn, log: log}
}

type firstReport struct {
	*bus.Conn
	log  *slog.Logger
	done atomic.Bool
}

func (f *firstReport) Publish(ctx context.Context, subject string, ev event.Event) (bus.Ack, error) {
	ack, err := f.Conn.Publish(ctx, subject, ev)
	if err == nil && !f.done.Swap(true) {
		f.log.Info("first report taken", "subject", subject)
	}
	return ack, err
}
