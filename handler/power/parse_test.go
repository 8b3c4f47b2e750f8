package power

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBroadcastOf(t *testing.T) {
	_, n, err := net.ParseCIDR("10.18.1.2/16")
	require.NoError(t, err)
	require.Equal(t, "10.18.255.255", broadcastOf(n).String())
}

func TestParseChassis(t *testing.T) {
	const all = "<TESTBED_STATUS><detail><node name='n_1_1' state='POWERON' x='1' y='1'/><node name='n_1_2' state='NODE NOT AVAILABLE' x='1' y='2'/></detail></TESTBED_STATUS>"
	for _, c := range []struct {
		text  string
		x, y  int
		power string
		fails string
	}{
		{all, 1, 1, On, ""}, {all, 1, 2, Unknown, ""}, {all, 2, 2, "", "does not have the node"},
		{"<ERROR>no such <b>domain</b></ERROR>", 1, 1, "", "it refused"}, {"", 1, 1, "", "it said nothing"}, {"<html/>", 1, 1, "", "it said <html>"},
		{"<TESTBED_STATUS><detail>", 1, 1, "", "not understood"},
	} {
		st, err := parseChassis([]byte(c.text), "n", c.x, c.y)
		if c.fails != "" {
			require.ErrorContains(t, err, c.fails)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.power, st.Power)
	}
}

// FuzzControllers gives every parser of what controllers say the same text.
func FuzzControllers(f *testing.F) {
	for _, s := range []string{
		"on", "ok", "OK", "<OK/>", "<ERROR>x</ERROR>", "<TESTBED_STATUS><detail><node x='1' y='1' state='POWERON'/></detail></TESTBED_STATUS>",
		"Chassis Power is on", `{"Members":[{"@odata.id":"/redfish/v1/Systems/1"}]}`,
		`{"PowerState":"On","Actions":{"#ComputerSystem.Reset":{"target":"/x","ResetType@Redfish.AllowableValues":["On"]}}}`,
		`{"Parameters":[{"Name":"ResetType","AllowableValues":["On"]}]}`, `{"error":{"message":"m","@Message.ExtendedInfo":[{"Message":"n"}]}}`, "\xff<",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, parse := range []func() (State, error){
			func() (State, error) { return parseCard(text, "status") },
			func() (State, error) { return parseChassis(text, "n", 1, 1) },
			func() (State, error) { return parseChassisPower(string(text)) },
			func() (State, error) { s, err := parseSystem(text); return s.state(), err },
		} {
			st, err := parse()
			if err != nil {
				continue
			}
			require.Contains(t, []string{On, Off, Unknown}, st.Power)
		}
		if types, err := parseActionInfo(text); err == nil {
			require.NotEmpty(t, types)
		}
		if at, err := onlySystem(text); err == nil {
			require.NotEmpty(t, at)
		}
		_ = parseOK(text)
		require.LessOrEqual(t, len(redfishError(text)), 2000)
	})
}
