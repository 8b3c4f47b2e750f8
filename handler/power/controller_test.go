package power_test

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/handler/power"
	"loadnode/handler/power/powertest"
)

func ask(t *testing.T, spec inventory.Power, deps power.Deps, action string, netboot bool) (power.State, error) {
	t.Helper()
	if spec.Timeout == 0 {
		spec.Timeout = time.Minute
	}
	return make1(t, spec, deps).Do(t.Context(), power.Request{Testbed: "default", Node: "n1-1", Action: action, Netboot: netboot})
}

func redfishOf(t *testing.T, names ...string) (*powertest.Redfish, *powertest.Machines, inventory.Power) {
	m := powertest.NewMachines("default", names...)
	srv := powertest.NewRedfish(t, m, names...)
	return srv, m, inventory.Power{Driver: "redfish", URL: srv.URL, User: "admin", Password: "geheim", Fingerprint: srv.Fingerprint()}
}

// The next start comes from the network if the request says so, and the only
// system is found.
func TestRedfishNetboot(t *testing.T) {
	srv, m, spec := redfishOf(t, "n1-1")
	require.True(t, power.Netboots(make1(t, inventory.Power{Driver: "redfish", URL: srv.URL, User: "u", Password: "p", Insecure: true, Timeout: time.Second}, power.Deps{})))
	_, err := ask(t, spec, power.Deps{}, events.PowerOn, false)
	require.NoError(t, err)
	require.Empty(t, srv.Override("n1-1"))
	_, err = ask(t, spec, power.Deps{}, events.PowerReset, true)
	require.NoError(t, err)
	require.Equal(t, "Pxe", srv.Override("n1-1"))
	require.Equal(t, 2, m.Look("n1-1").Cycles)

	srv, _, spec = redfishOf(t, "n1-1")
	spec.Bootdev = inventory.BootdevNone
	_, err = ask(t, spec, power.Deps{}, events.PowerOn, true)
	require.NoError(t, err)
	require.Empty(t, srv.Override("n1-1"))
}

// What a system allows is used, whether it says so itself, in an ActionInfo or
// not at all.
func TestRedfishResetTypes(t *testing.T) {
	for name, c := range map[string]struct {
		types []string
		info  bool
		fails string
	}{
		"info":     {[]string{"On", "ForceOff", "ForceRestart"}, true, ""},
		"not said": {nil, false, ""},
		"no reset": {[]string{"On", "ForceOff"}, false, "redfish cannot do reset: the system allows On ForceOff, and it takes ForceRestart or PowerCycle"},
	} {
		t.Run(name, func(t *testing.T) {
			srv, m, spec := redfishOf(t, "n1-1")
			srv.Types, srv.InfoOnly = c.types, c.info
			_, err := ask(t, spec, power.Deps{}, events.PowerOn, false)
			require.NoError(t, err)
			_, err = ask(t, spec, power.Deps{}, events.PowerReset, false)
			if c.fails != "" {
				require.ErrorIs(t, err, power.ErrUnsupported)
				require.ErrorContains(t, err, c.fails)
				require.False(t, bus.IsTransient(err))
				_, err = ask(t, spec, power.Deps{}, events.PowerCycle, false) // in two steps
				require.NoError(t, err)
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, 2, m.Look("n1-1").Cycles)
		})
	}
}

// Sessions are ended, whatever came of the action.
func TestRedfishSessions(t *testing.T) {
	srv, _, spec := redfishOf(t, "n1-1")
	spec.Auth = inventory.AuthSession
	_, err := ask(t, spec, power.Deps{}, events.PowerStatus, false)
	require.NoError(t, err)
	spec.System = "/redfish/v1/Systems/none"
	_, err = ask(t, spec, power.Deps{}, events.PowerStatus, false)
	require.ErrorContains(t, err, "power status n1-1: redfish: GET "+srv.URL+"/redfish/v1/Systems/none: it answered 500")
	require.ErrorContains(t, err, "no machine none")
	made, open := srv.Sessions()
	require.Equal(t, [2]int{2, 0}, [2]int{made, open})
	spec.Password = "wrong"
	_, err = ask(t, spec, power.Deps{}, events.PowerStatus, false)
	require.ErrorContains(t, err, "it answered 401")
	require.ErrorContains(t, err, "wrong name or password")
	require.False(t, bus.IsTransient(err), "a wrong password is not tried again and again")
}

// Who is not the service that is meant gets no password.
func TestRedfishTrust(t *testing.T) {
	srv, _, good := redfishOf(t, "n1-1")
	for name, c := range map[string]struct {
		change func(*inventory.Power)
		fails  string
	}{
		"pinned":    {func(*inventory.Power) {}, ""},
		"other pin": {func(s *inventory.Power) { s.Fingerprint = strings.Repeat("ab", 32) }, "its certificate has the fingerprint " + srv.Fingerprint()},
		"system":    {func(s *inventory.Power) { s.Fingerprint = "" }, "certificate"},
		"insecure":  {func(s *inventory.Power) { s.Fingerprint, s.Insecure = "", true }, ""},
		"authority": {func(s *inventory.Power) {
			s.Fingerprint, s.CAFile = "", filepath.Join(t.TempDir(), "ca.pem")
			require.NoError(t, os.WriteFile(s.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			spec := good
			c.change(&spec)
			_, err := ask(t, spec, power.Deps{}, events.PowerStatus, false)
			if c.fails == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.fails)
		})
	}
	spec := good
	spec.Fingerprint, spec.CAFile = "", "/nowhere.pem"
	_, err := power.New(spec, power.Deps{})
	require.ErrorContains(t, err, "its timeout is 0s")
	spec.Timeout = time.Second
	_, err = power.New(spec, power.Deps{})
	require.ErrorIs(t, err, power.ErrDriver)
}

func TestRedfishSeveralSystems(t *testing.T) {
	_, _, spec := redfishOf(t, "a", "b")
	_, err := ask(t, spec, power.Deps{}, events.PowerOn, false)
	require.ErrorIs(t, err, power.ErrRequest)
	require.ErrorContains(t, err, "the service has 2 systems (/redfish/v1/Systems/a /redfish/v1/Systems/b); write system: in the inventory")
}

// What controllers may do wrong: errors say who was asked for what, and what
// came.
func TestHTTPAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		action string
		want   string
	}{
		"redirect":   {http.RedirectHandler("http://example.org/", http.StatusFound).ServeHTTP, "on", `it answered 302, to go to "http://example.org/"; redirects are not followed`},
		"too long":   {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", 70000)) }, "on", "longer than 65536 bytes"},
		"page":       {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html><b>Login</b></html>") }, "on", `it said "Login"; want on, off or ok`},
		"not status": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }, "status", `it said "ok"; want on, off or ok`},
		"not found":  {http.NotFound, "reset", `it answered 404: "404 page not found"`},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(c.answer)
			defer srv.Close()
			_, err := ask(t, inventory.Power{Driver: "cmc", Form: "card", URL: srv.URL}, power.Deps{}, c.action, false)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "power "+c.action+" n1-1: cmc: GET "+srv.URL+"/"+c.action)
		})
	}
	_, err := ask(t, inventory.Power{Driver: "cmc", Form: "orbit", URL: "http://127.0.0.1:1"}, power.Deps{}, "on", false)
	require.ErrorContains(t, err, "does not know the place of n1-1")
}

// The calls are those of the services.
func TestCMCCalls(t *testing.T) {
	var asked string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked = q.URL.String()
		fmt.Fprint(w, "OK")
	}))
	defer srv.Close()
	deps := power.Deps{Place: func(string, string) (int, int) { return 3, 4 }}
	for want, spec := range map[string]inventory.Power{
		"/cmc/offSoft?x=3&y=4":                   {Form: "orbit", URL: srv.URL + "/cmc"},
		"/cmc/offSoft?domain=sb1&x=3&y=4":        {Form: "orbit", URL: srv.URL + "/cmc", Domain: "sb1"},
		"/cmc/offSoft?domain=default&hrn=n1-1":   {Form: "orbit5", URL: srv.URL + "/cmc"},
		"/cmc/offSoft?domain=omf.nicta&hrn=n1-1": {Form: "orbit5", URL: srv.URL + "/cmc", Domain: "omf.nicta"},
	} {
		spec.Driver = "cmc"
		_, err := ask(t, spec, deps, events.PowerSoft, false)
		require.NoError(t, err)
		require.Equal(t, want, asked)
	}
}

func TestIPMI(t *testing.T) {
	b := newIPMIBench(t, "n1-1")
	_, err := ask(t, b.spec, power.Deps{}, events.PowerOn, true)
	require.NoError(t, err)
	require.Equal(t, "pxe", b.get("n1-1.bootdev"))
	b.spec.Password = "wrong"
	_, err = ask(t, b.spec, power.Deps{}, events.PowerStatus, false)
	require.ErrorContains(t, err, "power status n1-1: ipmi: chassis power status at bmc-n1-1: ")
	require.ErrorContains(t, err, "Unable to establish IPMI v2 / RMCP+ session")
	require.NotContains(t, err.Error(), "wrong")
}

// Passwords come from a file that is not for everybody, or the environment.
func TestPasswords(t *testing.T) {
	b := newIPMIBench(t, "n1-1")
	b.spec.Password, b.spec.PasswordFile = "", filepath.Join(t.TempDir(), "pw")
	for name, c := range map[string]struct {
		text  string
		mode  os.FileMode
		fails string
	}{
		"good": {"geheim\n", 0o640, ""}, "dos": {"geheim\r\nmore", 0o600, ""}, "open": {"geheim\n", 0o644, "everybody may use password file"},
		"empty": {"\n", 0o600, "does not have a password in its first line"}, "long": {strings.Repeat("x", 5000), 0o600, "does not have a password"},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(b.spec.PasswordFile, []byte(c.text), 0o600))
			require.NoError(t, os.Chmod(b.spec.PasswordFile, c.mode))
			_, err := ask(t, b.spec, power.Deps{}, events.PowerStatus, false)
			if c.fails == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.fails)
			require.NotContains(t, err.Error(), "geheim")
		})
	}
	b.spec.PasswordFile, b.spec.PasswordEnv = "", "BMC"
	_, err := ask(t, b.spec, power.Deps{Getenv: func(string) string { return "" }}, events.PowerStatus, false)
	require.ErrorContains(t, err, "the environment variable BMC with the password is not set")
}
