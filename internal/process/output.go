package process

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
)

// Output is what a program has printed, for somebody who waits for a line of it.
type Output struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{} // closed and replaced at each write
}

// NewOutput makes an empty one.
func NewOutput() *Output { return &Output{more: make(chan struct{})} }

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.buf.Write(p)
}

// String is all of it.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Await returns the first line with a beginning, without white space around it, as soon as it is there as a whole.
func (o *Output) Await(ctx context.Context, prefix string) (line string, err error) {
	text, ok := o.await(ctx, func(text string) bool {
		for l := range strings.Lines(text) {
			if strings.HasPrefix(l, prefix) && strings.HasSuffix(l, "\n") {
				line = strings.TrimSpace(l)
				return true
			}
		}
		return false
	})
	if !ok {
		return "", fmt.Errorf("no line %q…: %w; there was %q", prefix, ctx.Err(), text)
	}
	return line, nil
}

// AwaitText returns all of the output as soon as some text is in it, or what there was when ctx ended.
func (o *Output) AwaitText(ctx context.Context, want string) (string, error) {
	text, ok := o.await(ctx, func(text string) bool { return strings.Contains(text, want) })
	if !ok {
		return text, fmt.Errorf("no %q: %w", want, ctx.Err())
	}
	return text, nil
}

// await returns the output when there is what is looked for; ok is false if ctx ended before.
func (o *Output) await(ctx context.Context, there func(text string) bool) (text string, ok bool) {
	for {
		o.mu.Lock()
		text, more := o.buf.String(), o.more
		o.mu.Unlock()
		if there(text) {
			return text, true
		}
		select {
		case <-more:
		case <-ctx.Done():
			return text, false
		}
	}
}
