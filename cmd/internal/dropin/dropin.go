// Package dropin is what the drop-in commands (frisbee, frisbeed, imagezip, imageunzip) have in common as processes:
// their streams, the signals that end them, and the answers to -h, -v and to a command line that is not understood.
// What their options mean, what else they print and with which codes they end is their own; getopt splits the line.
package dropin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"loadnode/cmd/internal/getopt"
)

// Streams are the standard ones.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Main runs the whole program and ends the process with the code it returns. The first SIGINT or SIGTERM ends the
// context, a second one the process.
func Main(run func(ctx context.Context, args []string, std Streams) int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], Streams{os.Stdin, os.Stdout, os.Stderr}))
}

// Errors of Parse that ask for words in place of work.
var (
	ErrHelp    = errors.New("help was asked for")        // -h
	ErrVersion = errors.New("the version was asked for") // -v
)

// Parse gives every option of a command line to set and returns the operands. Options -h and -v, which every command
// has, are ErrHelp and ErrVersion if all others are right.
func Parse(args []string, known []getopt.Option, set func(getopt.Found) error) (operands []string, err error) {
	found, operands, err := getopt.Parse(args, append(known, getopt.Option{Name: "h"}, getopt.Option{Name: "v"}))
	if err != nil {
		return nil, err
	}
	var words error
	for _, f := range found {
		switch f.Name {
		case "h":
			words = ErrHelp
		case "v":
			if words == nil {
				words = ErrVersion
			}
		default:
			if err := set(f); err != nil {
				return nil, err
			}
		}
	}
	return operands, words
}

// About is what a command says of itself.
type About struct {
	Name    string
	Speaks  string // which versions of formats and protocols, for -v
	Usage   string // for -h
	Mistake int    // exit code for a command line that is wrong
}

// Explain answers a command line for which Parse, or what came after it, has an error. It returns the exit code.
func (a About) Explain(err error, std Streams) int {
	switch {
	case errors.Is(err, ErrHelp):
		fmt.Fprint(std.Out, a.Usage)
	case errors.Is(err, ErrVersion):
		fmt.Fprintf(std.Out, "%s (loadnode), %s\n", a.Name, a.Speaks)
	default:
		fmt.Fprintf(std.Err, "%s: %v\nTry %s -h.\n", a.Name, err, a.Name)
		return a.Mistake
	}
	return 0
}

// Fail says why the work was not done. Of work that a signal ended, the signal is the reason; what else the error says,
// such as that a disk is incomplete, stays.
func (a About) Fail(ctx context.Context, err error, std Streams) {
	text := err.Error()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		text = strings.Replace(text, context.Canceled.Error(), context.Cause(ctx).Error(), 1)
	}
	fmt.Fprintf(std.Err, "%s: %s\n", a.Name, text)
}
