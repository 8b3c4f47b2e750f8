package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/internal/process"
)

func TestAbsence(t *testing.T) {
	var a absence
	at := time.Now()
	for _, tc := range []struct {
		after     time.Duration
		connected bool
		want      string
	}{
		{0, true, ""},
		{1 * time.Second, false, ""},
		{2900 * time.Millisecond, false, ""},
		{3 * time.Second, false, "bus is away, waiting …"},
		{9 * time.Second, false, ""},
		{10 * time.Second, true, "bus is back"},
		{11 * time.Second, false, ""},
		{12 * time.Second, true, ""}, // too short to be told
		{13 * time.Second, false, ""},
		{14500 * time.Millisecond, false, ""},
		{15 * time.Second, false, "bus is away, waiting …"}, // away again is told again
	} {
		require.Equal(t, tc.want, a.note(at.Add(tc.after), tc.connected), "after %s", tc.after)
	}
}

// TestServerAway: a load whose server is killed says that it waits, and goes
// on when the server is back; so does a watch.
func TestServerAway(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	c := newCluster(t, "server")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	run := func(args ...string) (stderr *process.Output, done <-chan int, stop func()) {
		out, errs := process.NewOutput(), process.NewOutput()
		a := newApp(strings.NewReader(""), out, errs)
		a.environ, a.system = []string{"HOME=" + t.TempDir()}, ""
		ended := make(chan int, 1)
		ctx, stop := context.WithCancel(ctx)
		go func() { ended <- a.execute(ctx, append(args, "--server", c.nats)) }()
		return errs, ended, stop
	}
	watch, watched, stop := run("watch", "--start")
	defer stop()
	load, loaded, _ := run("load", "all", "small.ndz")
	_, err := load.AwaitText(ctx, "reboot.requested")
	require.NoError(t, err)
	c.victim.Kill()
	text, err := load.AwaitText(ctx, "bus is away, waiting")
	require.NoError(t, err, text)
	require.Contains(t, text, "omf watch ")
	_, err = watch.AwaitText(ctx, "bus is away, waiting")
	require.NoError(t, err)
	c.victim.Begin()
	c.victim.Ready()
	_, err = load.AwaitText(ctx, "bus is back")
	require.NoError(t, err)
	_, err = watch.AwaitText(ctx, "bus is back")
	require.NoError(t, err)
	require.Zero(t, <-loaded, load)
	stop()
	require.Equal(t, exitInterrupted, <-watched)
}
