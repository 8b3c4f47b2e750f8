package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the build.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGHUP)
	interrupts := make(chan os.Signal, 4)
	signal.Notify(interrupts, os.Interrupt)
	a := newApp(os.Stdin, os.Stdout, os.Stderr)
	a.interrupts = interrupts
	code := a.execute(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
