package power_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/handler/inventory"
	"loadnode/handler/power"
)

func shell(t *testing.T, deps power.Deps, text string, args ...string) power.Driver {
	t.Helper()
	command := append([]string{"/bin/sh", "-c", text, "power", "{action}"}, args...)
	return make1(t, inventory.Power{Driver: "exec", Timeout: time.Minute, Command: command}, deps)
}

var status = power.Request{Testbed: "grid", Node: "n1-2", Action: "status", Effect: "j:n1-2:look:1"}

// Words reach the program as they are: no shell, no splitting.
func TestExecArguments(t *testing.T) {
	out := filepath.Join(t.TempDir(), "words")
	deps := power.Deps{
		Addresses: func(tb, node string) (string, string) {
			require.Equal(t, "grid/n1-2", tb+"/"+node)
			return "00:11:22:33:44:55", "10.18.1.2"
		},
		Environ: []string{"MARK=42"},
	}
	d := shell(t, deps, `{ for w; do echo "<$w>"; done; echo "$MARK/$HOME"; pwd; } >`+out+`; echo on`,
		"{node}.cmc", "$(id) `id` ; * {x", "", "{mac}-{ip}-{testbed}-{effect}", `{"a":1}`)
	_, err := d.Do(t.Context(), status)
	require.NoError(t, err)
	text, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, "<status>\n<n1-2.cmc>\n<$(id) `id` ; * {x>\n<>\n<00:11:22:33:44:55-10.18.1.2-grid-j:n1-2:look:1>\n<{\"a\":1}>\n42/\n/\n", string(text))
}

// The service's own environment, which may hold credentials, stays here.
func TestExecEnvironment(t *testing.T) {
	t.Setenv("LOADNODE_SECRET", "s3cret")
	d := shell(t, power.Deps{}, `test -z "$LOADNODE_SECRET" && test -n "$PATH" && test "$LC_ALL" = C && echo on`)
	state, err := d.Do(t.Context(), status)
	require.NoError(t, err)
	require.Equal(t, "on", state.Power)
}

func TestExecRefusesValues(t *testing.T) {
	d := shell(t, power.Deps{}, "exit 9", "{node}", "{effect}")
	for _, r := range []power.Request{
		{Testbed: "t", Node: "--all", Action: "off"},
		{Testbed: "t", Node: "a\nb", Action: "off"},
		{Testbed: "t", Node: "a\x00b", Action: "off"},
		{Testbed: "t", Node: "n", Action: "off", Effect: "-e"},
		{Testbed: "t", Node: strings.Repeat("n", 2000), Action: "off"},
	} {
		_, err := d.Do(t.Context(), r)
		require.ErrorIs(t, err, power.ErrRequest)
	}
	d = shell(t, power.Deps{}, "exit 9", "{mac}")
	_, err := d.Do(t.Context(), status)
	require.ErrorIs(t, err, power.ErrRequest)
	require.ErrorContains(t, err, "does not know mac or ip of n1-2")
}

func TestExecAnswers(t *testing.T) {
	unknown := power.State{Power: "unknown", Cycles: -1}
	for _, c := range []struct {
		action, printed string
		want            power.State
		problem         string
	}{
		{"status", "on", power.State{Power: "on", Cycles: -1}, ""},
		{"status", " OFF\r\n", power.State{Power: "off", Cycles: -1}, ""},
		{"status", "POWERON", power.State{Power: "on", Cycles: -1}, ""},
		{"status", "Chassis Power is off", power.State{Power: "off", Cycles: -1}, ""},
		{"status", "power:on on", power.State{Power: "on", Cycles: -1}, ""},
		{"status", "unknown", unknown, ""},
		{"status", `{"power":"on","boot":"b1","last_effect":"e","cycles":7,"watts":80}`, power.State{Power: "on", Boot: "b1", LastEffect: "e", Cycles: 7}, ""},
		{"status", `{"power":"off"}`, power.State{Power: "off", Cycles: -1}, ""},
		{"status", `{"boot":"b1"}`, power.State{}, `no "power"`},
		{"status", `{"power":"on"`, power.State{}, "printed"},
		{"status", `{"power":"half"}`, power.State{}, "want on, off or unknown"},
		{"status", "", power.State{}, "printed nothing"},
		{"status", "NODE NOT AVAILABLE", power.State{}, "want on, off"},
		{"status", "on or off?", power.State{}, "both on and off"},
		{"status", "money", power.State{}, "want on, off"},
		{"on", "", unknown, ""},
		{"on", "powering off and on", unknown, ""},
		{"on", `{"power":"on","cycles":2}`, power.State{Power: "on", Cycles: 2}, ""},
		{"on", `{"cycles":2}`, power.State{Power: "unknown", Cycles: 2}, ""},
		{"on", `{"power":1}`, power.State{}, "printed"},
	} {
		t.Run(c.action+" "+c.printed, func(t *testing.T) {
			d := shell(t, power.Deps{}, `printf '%s\n' "$2"`, c.printed)
			r := status
			r.Action = c.action
			state, err := d.Do(t.Context(), r)
			if c.problem != "" {
				require.ErrorIs(t, err, power.ErrAnswer)
				require.ErrorContains(t, err, c.problem)
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, c.want, state)
		})
	}
}

func TestExecFailures(t *testing.T) {
	do := func(text string) error {
		_, err := shell(t, power.Deps{}, text).Do(t.Context(), status)
		require.Error(t, err)
		return err
	}
	var exit *power.ExitError
	require.ErrorAs(t, do(`for i in 1 2 3 4 5 6 7; do echo line $i >&2; done; echo on; exit 17`), &exit)
	require.Equal(t, power.ExitError{Program: "/bin/sh", Code: 17, Stderr: "line 3 / line 4 / line 5 / line 6 / line 7"}, *exit)

	require.ErrorAs(t, do(`kill -9 $$`), &exit)
	require.Equal(t, power.ExitError{Program: "/bin/sh", Code: -1, Signal: "killed"}, *exit)
	require.EqualError(t, exit, "/bin/sh: ended by signal killed, no error text")

	err := do(`head -c 100000 /dev/zero | tr '\0' x >&2; exit 1`)
	require.ErrorAs(t, err, &exit)
	require.Len(t, exit.Stderr, 4096, "the errors are bounded")

	require.ErrorIs(t, do(`head -c 100000 /dev/zero | tr '\0' ' '; echo on`), power.ErrAnswer)

	d := make1(t, inventory.Power{Driver: "exec", Timeout: time.Minute, Command: []string{"/no/such/program", "{action}"}}, power.Deps{})
	_, err = d.Do(t.Context(), status)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "power status n1-2: run /no/such/program")
}

// gone reports whether a process has ended; one that nobody has collected yet
// has.
func gone(t *testing.T, pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X")
}

func readPid(file string) (int, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid, err == nil
}

// A script that is stopped takes its children with it.
func TestExecKillsGroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	d := shell(t, power.Deps{}, `echo reaching for the switch >&2; sleep 1000 & echo $! >`+file+`; wait`)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := d.Do(ctx, status)
		done <- err
	}()
	var child int
	require.Eventually(t, func() (ok bool) { child, ok = readPid(file); return ok }, time.Minute, 5*time.Millisecond)
	cancel()
	err := <-done
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "reaching for the switch")
	require.Eventually(t, func() bool { return gone(t, child) }, time.Minute, 5*time.Millisecond)
}

// A script that leaves something behind is done when it is done; what it left
// ends too.
func TestExecLeftovers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	d := shell(t, power.Deps{}, `sleep 1000 & echo $! >`+file+`; echo on`)
	state, err := d.Do(t.Context(), status)
	require.NoError(t, err)
	require.Equal(t, "on", state.Power)
	child, ok := readPid(file)
	require.True(t, ok)
	require.Eventually(t, func() bool { return gone(t, child) }, time.Minute, 5*time.Millisecond)
}
