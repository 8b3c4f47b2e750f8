package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/cmd/omf/internal/config"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
)

// result is what a command line did.
type result struct {
	code           int
	stdout, stderr string
}

// omf runs a command line in this process, away from the configuration of
// this machine.
func omf(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return omfContext(t.Context(), t, stdin, args...)
}

func omfContext(ctx context.Context, t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	a := newApp(strings.NewReader(stdin), &out, &err)
	a.environ, a.system = []string{"HOME=" + t.TempDir()}, filepath.Join(t.TempDir(), "none")
	code := a.execute(ctx, args)
	return result{code, out.String(), err.String()}
}

func TestUsage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.ndz")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	for line, want := range map[string]string{
		"frobnicate":                            `unknown command "frobnicate"`,
		"load":                                  "wants NODES and IMAGE",
		"load all":                              "wants NODES and IMAGE",
		"load all a.ndz --timeout soon":         "--timeout",
		"load all a.ndz --nonsense":             "unknown flag: --nonsense",
		"load all a.ndz --then dance":           "want shutdown, reboot or stay",
		"load all a.ndz --verify twice":         "want readback",
		"load all a.ndz --require 101%":         "want a share",
		"load all a.ndz --require 0":            "want a share",
		"load all a.ndz --require most":         "want a share",
		"load all a.ndz --weight 101":           "--weight 101: want 1 to 100",
		"load all a.ndz --timeout -3s":          "cannot be negative",
		"load 1 4 a.ndz 800":                    "--timeout 800s",
		"load @/does/not/exist a.ndz":           "/does/not/exist",
		"load all a.ndz -o yaml":                "want text, json or jsonl",
		"load all a.ndz --credential /none":     "/none",
		"watch one two":                         "one job at most",
		"watch nonsense":                        "is not a job id",
		"watch -o json":                         "use -o jsonl",
		"job":                                   "wants a command: cancel, show",
		"job frob":                              `unknown command "frob"`,
		"job show":                              "wants one job",
		"job show 123":                          "is not a job id",
		"job cancel":                            "wants one job",
		"jobs now":                              "wants no words",
		"images frob":                           `unknown command "frob"`,
		"images add":                            "wants one image",
		"images upload":                         "wants one file",
		"images upload /does/not/exist.ndz":     "/does/not/exist.ndz",
		"images upload FILE --name ../x":        `"../x" has a part that begins with a dot`,
		"images upload FILE --name a/b/c.ndz":   "more than one sub-directory",
		"images upload FILE --name /a.ndz":      "is the path absolute?",
		"images upload FILE --name a:b":         "allowed are 0-9 A-Z a-z",
		"images upload /tmp/no+name":            "--name",
		"images upload FILE --http server:5012": "want a URL such as",
		"nodes release":                         "wants NODES",
		"serve --roles nats,cook":               "nats, auth, handler, frisbee, bridge, netboot, sim",
		"serve --roles nats,bridge":             "no node with agent: legacy",
		"serve --roles sim":                     "needs --sim",
		"serve --roles handler --sim 2x2":       "add it to --roles",
		"serve --nats nats://a --roles nats":    "leave it out",
		"serve --nats nats://a --nats-listen b": "nats-listen",
		"serve --sim 2":                         "want COLSxROWS",
		"serve --sim 0x2":                       "want COLSxROWS",
		"serve --grid 2x":                       "want COLSxROWS",
		"serve --inventory /does/not/exist":     "/does/not/exist",
		"serve --rate fast":                     "want bits per second",
		"serve --group 10.0.0.1 --state STATE --nats-listen 127.0.0.1:0 --http none": "10.0.0.1",
		"serve --rate 1":                      "want bits per second",
		"serve --interface here":              "want an IPv4 address",
		"serve --window 0":                    "want a number from 1",
		"serve --checkin never":               "want a time",
		"serve --silence -1s":                 "want a time",
		"serve --log loud":                    "want debug, info",
		"serve --sim 2x2 --fault hiccup:n1-1": "noboot",
		"serve --sim 2x2 --boot 2s-1s":        "the shorter first",
		"serve --testbed other --sim 2x2":     "--inventory",
		"sim":                                 "--grid",
		"sim --grid 2x2 --fault loss:n1-1":    "loss",
		"demo --nodes 0":                      "want 1 to",
		"demo --nodes 8 --fault noboot:n9-9":  "there is no node n9-9",
		"demo --fault boom":                   "boom",
		"config":                              "wants a command",
		"version now":                         "wants no words",
	} {
		t.Run(line, func(t *testing.T) {
			r := omf(t, "", strings.Fields(strings.NewReplacer("STATE", t.TempDir(), "FILE", file).Replace(line))...)
			require.Equal(t, exitUsage, r.code, r.stderr)
			require.Contains(t, r.stderr, want)
			if !strings.Contains(line, "-o json") {
				require.Empty(t, r.stdout)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	r := omf(t, "", "--help")
	require.Zero(t, r.code)
	for _, c := range strings.Fields("load watch jobs job images nodes serve sim demo config version completion") {
		require.Regexp(t, `(?m)^  `+c+` `, r.stdout)
		require.Zero(t, omf(t, "", c, "--help").code)
	}
	require.Empty(t, r.stderr)
	require.Contains(t, omf(t, "", "completion", "bash").stdout, "bash completion")
}

func TestVersion(t *testing.T) {
	require.Equal(t, result{0, "omf dev\n", ""}, omf(t, "", "version"))
	require.Equal(t, result{0, `{"version":"dev"}` + "\n", ""}, omf(t, "", "version", "-o", "json"))
}

func TestConfigShow(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "omf.yaml")
	require.NoError(t, os.WriteFile(file, []byte("server: nats://a:1\nserve: {http: \"127.0.0.1:1\"}\n"), 0o600))
	show := func(env []string, args ...string) result {
		var out, err bytes.Buffer
		a := newApp(strings.NewReader(""), &out, &err)
		a.environ, a.system = append(env, "LOADNODE_CONFIG="+file), ""
		return result{a.execute(t.Context(), append([]string{"config", "show"}, args...)), out.String(), err.String()}
	}
	r := show([]string{"LOADNODE_TESTBED=east"}, "--origin", "--output", "text")
	require.Zero(t, r.code, r.stderr)
	require.Regexp(t, `(?m)^server +nats://a:1 +`+file+`:1$`, r.stdout)
	require.Regexp(t, `(?m)^serve.http +127.0.0.1:1 +`+file+`:2$`, r.stdout)
	require.Regexp(t, `(?m)^testbed +east +environment LOADNODE_TESTBED$`, r.stdout)
	require.Regexp(t, `(?m)^output +text +flag --output$`, r.stdout)
	require.Regexp(t, `(?m)^serve.grid +20x20 +default$`, r.stdout)

	r = show([]string{"LOADNODE_SERVER=nats://b:2"}, "--server", "nats://c:3", "-o", "json")
	var all []struct{ Key, Value, Origin string }
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &all))
	require.Len(t, all, len(config.Settings()))
	require.Equal(t, "nats://c:3", all[0].Value, "a flag wins over the environment")
	require.Equal(t, "flag --server", all[0].Origin)

	require.NoError(t, os.WriteFile(file, []byte("serer: x\n"), 0o600))
	r = show(nil)
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, file+":1: serer: no such setting; did you mean server?")
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	r := omf(t, "", "load", "all", "a.ndz", "--server", "nats://127.0.0.1:1", "-o", "json")
	require.Equal(t, exitUnreachable, r.code)
	require.Contains(t, r.stderr, "omf serve")
	var o struct {
		Error events.Error
		Exit  int
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &o))
	require.Equal(t, exitUnreachable, o.Exit)
	require.Equal(t, events.CodeUnavailable, o.Error.Code)
	require.NotEmpty(t, o.Error.Hint)
}

// TestExitOf holds the table of exit codes for ended jobs.
func TestExitOf(t *testing.T) {
	asked := func(require string) events.JobRequested {
		return events.JobRequested{Request: events.LoadRequest{Require: require}}
	}
	for name, tc := range map[string]struct {
		facts []events.Data
		want  int
	}{
		"all ok":            {[]events.Data{asked(""), events.JobFinished{Outcome: events.OutcomeOK, OK: 2, Quorum: 2}}, exitOK},
		"quorum met":        {[]events.Data{asked("75%"), events.JobFinished{Outcome: events.OutcomeOK, OK: 3, Failed: 1, Quorum: 3}}, exitOK},
		"some failed":       {[]events.Data{asked(""), events.JobFinished{Outcome: events.OutcomePartial, OK: 1, Failed: 1, Quorum: 2}}, exitFailed},
		"all failed":        {[]events.Data{asked(""), events.JobFinished{Outcome: events.OutcomeFailed, Failed: 2, Quorum: 2}}, exitFailed},
		"quorum missed":     {[]events.Data{asked("75%"), events.JobFinished{Outcome: events.OutcomeFailed, OK: 2, Failed: 2, Quorum: 3}}, exitTimeout},
		"all were asked":    {[]events.Data{asked("100%"), events.JobFinished{Outcome: events.OutcomePartial, OK: 1, Failed: 1, Quorum: 2}}, exitTimeout},
		"deadline":          {[]events.Data{asked(""), events.JobFinished{Outcome: events.OutcomeTimeout, OK: 1, Failed: 1, Quorum: 2}}, exitTimeout},
		"planned":           {[]events.Data{asked(""), events.JobFinished{Outcome: events.OutcomePlanned}}, exitOK},
		"cancelled":         {[]events.Data{asked(""), events.JobFinished{Outcome: events.OutcomeCancelled}}, exitFailed},
		"leased":            {[]events.Data{events.JobRejected{Error: events.Error{Code: events.CodeLeased}}}, exitRefused},
		"expired":           {[]events.Data{events.JobRejected{Error: events.Error{Code: events.CodeExpired}}}, exitRefused},
		"no image service":  {[]events.Data{events.JobRejected{Error: events.Error{Code: events.CodeUnavailable}}}, exitUnreachable},
		"nothing ended yet": {[]events.Data{asked("")}, exitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			j := display.NewJob("x")
			for _, d := range tc.facts {
				j.Apply(d)
			}
			require.Equal(t, tc.want, exitOf(j))
		})
	}
}

func TestRoles(t *testing.T) {
	for _, tc := range []struct {
		text                  string
		external, sim, legacy bool
		want                  []string
	}{
		{"", false, false, false, []string{"nats", "handler", "frisbee"}},
		{"", false, true, false, []string{"nats", "handler", "frisbee", "sim"}},
		{"", true, false, false, []string{"handler", "frisbee"}},
		{"", false, false, true, []string{"nats", "handler", "frisbee", "bridge"}},
		{"handler", true, false, true, []string{"handler"}},
		{" frisbee , handler,frisbee", false, false, false, []string{"frisbee", "handler"}},
	} {
		got, err := parseRoles(tc.text, tc.external, tc.sim, tc.legacy)
		require.NoError(t, err)
		require.Equal(t, tc.want, got)
	}
}

func TestParseRate(t *testing.T) {
	for s, want := range map[string]int64{"64000": 64000, "500M": 500e6, "2.5g": 2.5e9, "100k": 100e3} {
		got, err := parseRate(s)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, s := range []string{"", "M", "-5M", "NaN", "1e30G", "7"} {
		_, err := parseRate(s)
		require.Error(t, err, s)
	}
}

func TestLegacyTimeout(t *testing.T) {
	a := newApp(nil, new(bytes.Buffer), new(bytes.Buffer))
	a.environ, a.system = nil, ""
	c, _, err := a.root().Find([]string{"load"})
	require.NoError(t, err)
	require.NoError(t, c.ParseFlags([]string{"-o", "800"}))
	require.NoError(t, a.configure(c))
	require.Equal(t, "text", a.output)
	req, err := a.loadRequest([]string{"[1,1]", "[1,2]", "a.ndz"}, loadFlags{then: "shutdown"})
	require.NoError(t, err)
	require.Equal(t, "13m20s", req.Timeout.String())
	require.Equal(t, "[1,1] [1,2]", req.Nodes)
}
