package powertest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"loadnode/events"
)

// Redfish is a service that follows DSP0266 as far as power goes: sessions,
// basic authentication, a collection of systems, their power state, resets,
// an ActionInfo, and the boot override with its entity tag.
type Redfish struct {
	*httptest.Server
	User, Password string
	// Types are the resets that it allows; in an ActionInfo if InfoOnly.
	Types    []string
	InfoOnly bool

	machines *Machines
	names    []string
	mu       sync.Mutex
	sessions map[string]bool // tokens
	override map[string]string
	made     int
}

// NewRedfish serves machines over TLS.
func NewRedfish(t *testing.T, m *Machines, names ...string) *Redfish {
	r := &Redfish{
		User: "admin", Password: "geheim", Types: []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart", "PowerCycle"},
		machines: m, names: names, sessions: map[string]bool{}, override: map[string]string{},
	}
	mux := http.NewServeMux()
	const root = "/redfish/v1"
	mux.HandleFunc("POST "+root+"/SessionService/Sessions", r.login)
	mux.HandleFunc("DELETE "+root+"/SessionService/Sessions/{id}", r.allowed(r.logout))
	mux.HandleFunc("GET "+root+"/Systems", r.allowed(r.systems))
	mux.HandleFunc("GET "+root+"/Systems/{id}", r.allowed(r.system))
	mux.HandleFunc("PATCH "+root+"/Systems/{id}", r.allowed(r.patch))
	mux.HandleFunc("GET "+root+"/Systems/{id}/ResetActionInfo", r.allowed(r.info))
	mux.HandleFunc("POST "+root+"/Systems/{id}/Actions/ComputerSystem.Reset", r.allowed(r.reset))
	r.Server = httptest.NewTLSServer(mux)
	t.Cleanup(r.Close)
	return r
}

// Fingerprint is the SHA-256 of its certificate.
func (r *Redfish) Fingerprint() string {
	sum := sha256.Sum256(r.Certificate().Raw)
	return hex.EncodeToString(sum[:])
}

// Sessions counts the sessions that were made and those that are open.
func (r *Redfish) Sessions() (made, open int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.made, len(r.sessions)
}

// Override is what the next start of a machine is told to boot from.
func (r *Redfish) Override(node string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.override[node]
}

func (r *Redfish) fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
		"code": "Base.1.0.GeneralError", "message": "A general error has occurred.",
		"@Message.ExtendedInfo": []map[string]string{{"MessageId": "Base.1.0.GeneralError", "Message": message}},
	}})
}

func (r *Redfish) reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (r *Redfish) allowed(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		ok := r.sessions[q.Header.Get("X-Auth-Token")]
		r.mu.Unlock()
		if user, pw, basic := q.BasicAuth(); basic {
			ok = user == r.User && pw == r.Password
		}
		if !ok {
			r.fail(w, http.StatusUnauthorized, "no valid session")
			return
		}
		next(w, q)
	}
}

func (r *Redfish) login(w http.ResponseWriter, q *http.Request) {
	var c struct{ UserName, Password string }
	if json.NewDecoder(q.Body).Decode(&c) != nil || c.UserName != r.User || c.Password != r.Password {
		r.fail(w, http.StatusUnauthorized, "wrong name or password")
		return
	}
	r.mu.Lock()
	r.made++
	token := fmt.Sprintf("token%d", r.made)
	r.sessions[token] = true
	r.mu.Unlock()
	w.Header().Set("X-Auth-Token", token)
	w.Header().Set("Location", "/redfish/v1/SessionService/Sessions/"+token)
	w.WriteHeader(http.StatusCreated)
}

func (r *Redfish) logout(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, q.PathValue("id"))
	w.WriteHeader(http.StatusNoContent)
}

func (r *Redfish) systems(w http.ResponseWriter, _ *http.Request) {
	var members []map[string]string
	for _, n := range r.names {
		members = append(members, map[string]string{"@odata.id": "/redfish/v1/Systems/" + n})
	}
	r.reply(w, map[string]any{"Members@odata.count": len(members), "Members": members})
}

func (r *Redfish) system(w http.ResponseWriter, q *http.Request) {
	id := q.PathValue("id")
	m, err := r.machines.Do(q.Context(), id, events.PowerStatus)
	if err != nil {
		r.fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	at := "/redfish/v1/Systems/" + id
	reset := map[string]any{"target": at + "/Actions/ComputerSystem.Reset"}
	if r.InfoOnly {
		reset["@Redfish.ActionInfo"] = at + "/ResetActionInfo"
	} else if r.Types != nil {
		reset["ResetType@Redfish.AllowableValues"] = r.Types
	}
	w.Header().Set("ETag", `"`+id+`"`)
	r.reply(w, map[string]any{
		"@odata.id": at, "Id": id, "PowerState": strings.ToUpper(m.Power[:1]) + m.Power[1:],
		"Boot":    map[string]any{"BootSourceOverrideTarget@Redfish.AllowableValues": []string{"None", "Pxe", "Hdd"}},
		"Actions": map[string]any{"#ComputerSystem.Reset": reset},
	})
}

func (r *Redfish) info(w http.ResponseWriter, _ *http.Request) {
	r.reply(w, map[string]any{"Parameters": []map[string]any{{"Name": "ResetType", "AllowableValues": r.Types}}})
}

func (r *Redfish) patch(w http.ResponseWriter, q *http.Request) {
	var c struct {
		Boot struct{ BootSourceOverrideEnabled, BootSourceOverrideTarget string }
	}
	id := q.PathValue("id")
	switch err := json.NewDecoder(q.Body).Decode(&c); {
	case err != nil || c.Boot.BootSourceOverrideEnabled != "Once":
		r.fail(w, http.StatusBadRequest, "no override")
	case q.Header.Get("If-Match") != `"`+id+`"`:
		r.fail(w, http.StatusPreconditionRequired, "no entity tag")
	default:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.override[id] = c.Boot.BootSourceOverrideTarget
		w.WriteHeader(http.StatusNoContent)
	}
}

func (r *Redfish) reset(w http.ResponseWriter, q *http.Request) {
	var c struct{ ResetType string }
	id := q.PathValue("id")
	action := map[string]string{
		"On": events.PowerOn, "ForceOff": events.PowerOff, "GracefulShutdown": events.PowerSoft, "ForceRestart": events.PowerReset, "PowerCycle": events.PowerCycle,
	}
	if json.NewDecoder(q.Body).Decode(&c) != nil || action[c.ResetType] == "" || r.Types != nil && !has(r.Types, c.ResetType) {
		r.fail(w, http.StatusBadRequest, "ResetType "+c.ResetType+" is not allowed")
		return
	}
	if _, err := r.machines.Do(q.Context(), id, action[c.ResetType]); err != nil {
		r.fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func has(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}
