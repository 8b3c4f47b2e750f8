package powertest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"loadnode/events"
	"loadnode/handler/inventory"
)

// NewChassis serves machines as ORBIT's chassis manager does, or as cards: the
// path of a card begins with its node. places says where nodes stand.
func NewChassis(t *testing.T, m *Machines, form string, places map[string][2]int) *httptest.Server {
	node := func(q *http.Request) string {
		if form == inventory.FormOrbit5 {
			return q.FormValue("hrn")
		}
		for name, p := range places {
			if q.FormValue("x") == fmt.Sprint(p[0]) && q.FormValue("y") == fmt.Sprint(p[1]) {
				return name
			}
		}
		return "none"
	}
	state := func(power string) string { return "POWER" + strings.ToUpper(power) }
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		words := strings.Split(strings.Trim(q.URL.Path, "/"), "/")
		action := map[string]string{
			"on": events.PowerOn, "off": events.PowerOff, "offHard": events.PowerOff, "offSoft": events.PowerSoft, "reset": events.PowerReset, "status": events.PowerStatus,
		}[words[len(words)-1]]
		fail := func(err error) {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, "<HTML>\n<BODY>\n<H1>Internal Server Error</H1>\n %s\n</BODY></HTML>", err)
		}
		switch {
		case form == inventory.FormCard:
			st, err := m.Do(q.Context(), words[0], action)
			switch {
			case err != nil:
				fail(err)
			case action == events.PowerStatus:
				fmt.Fprintln(w, st.Power)
			default:
				fmt.Fprintln(w, "ok")
			}
		case words[len(words)-1] == "allStatus":
			var b strings.Builder
			for name, p := range places {
				// The chassis manager waits for a node that hangs, as the real
				// one does, and it has one answer for all of them.
				st, err := m.Do(q.Context(), name, events.PowerStatus)
				if err != nil {
					fail(err)
					return
				}
				fmt.Fprintf(&b, "<node name='n_%d_%d' state='%s' x='%d' y='%d'/>", p[0], p[1], state(st.Power), p[0], p[1])
			}
			fmt.Fprintf(w, "<TESTBED_STATUS><detail>%s</detail></TESTBED_STATUS>", b.String())
		default:
			st, err := m.Do(q.Context(), node(q), action)
			switch {
			case err != nil && form == inventory.FormOrbit5:
				fmt.Fprintf(w, "<ERROR>%s</ERROR>", err)
			case err != nil:
				fail(err)
			case action == events.PowerStatus:
				fmt.Fprintf(w, "<NODE_STATUS><detail><node hrn='%s' state='%s'/></detail></NODE_STATUS>", node(q), state(st.Power))
			case form == inventory.FormOrbit5:
				fmt.Fprint(w, "<OK/>")
			default:
				fmt.Fprint(w, "OK")
			}
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}
