package embedded

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// logger hands the server's log to slog and remembers what was fatal: the
// server does not return it.
type logger struct {
	log *slog.Logger

	mu        sync.Mutex
	fatalText string
	lastText  string

	failed chan error // takes one
}

// storeFailure begins the line in which the server says that it could not
// write to a stream. It says so nowhere else, answers nobody, and writes
// nothing more to that stream until it is started again.
const storeFailure = "JetStream failed to store a msg on stream"

// watch reports a line that says that the store has failed.
func (l *logger) watch(text string) {
	if !strings.HasPrefix(text, storeFailure) {
		return
	}
	select {
	case l.failed <- fmt.Errorf("%w: %s", ErrStoreFailed, text):
	default: // known already
	}
}

func (l *logger) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatalText
}

func (l *logger) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastText
}

func (l *logger) note(fatal bool, format string, v []any) string {
	text := fmt.Sprintf(format, v...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastText = text
	if fatal && l.fatalText == "" {
		l.fatalText = text
	}
	return text
}

// Noticef is information about the server itself: its banner and addresses.
func (l *logger) Noticef(format string, v ...any) { l.log.Debug("nats: " + fmt.Sprintf(format, v...)) }

// Warnf is what may need attention.
func (l *logger) Warnf(format string, v ...any) { l.log.Warn("nats: " + l.note(false, format, v)) }

// Errorf is what went wrong.
func (l *logger) Errorf(format string, v ...any) {
	text := l.note(false, format, v)
	l.watch(text)
	l.log.Error("nats: " + text)
}

// Fatalf is what keeps the server from running.
func (l *logger) Fatalf(format string, v ...any) { l.log.Error("nats: " + l.note(true, format, v)) }

// Debugf is off.
func (l *logger) Debugf(string, ...any) {}

// Tracef is off.
func (l *logger) Tracef(string, ...any) {}
