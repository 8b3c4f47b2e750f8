package netboot

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"

	"loadnode/events"
	"loadnode/handler/netboot/script"
	"loadnode/handler/netboot/tftp"
)

// Register puts the routes onto a mux:
//
//	GET /boot/ipxe?mac=    what a node is to start, as a script of iPXE
//	GET /boot/kernel?mac=  the kernel of the imaging system
//	GET /boot/initrd?mac=  its initial file system
//	GET /boot/config?mac=  events.BootConfig, for the imaging system
//	GET /boot/files/NAME   any file of the boot directory
//
// Files are no secret: kernel, initrd and files are for everybody.
func (r *Role) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /boot/ipxe", r.ipxe)
	mux.HandleFunc("GET /boot/kernel", func(w http.ResponseWriter, q *http.Request) {
		r.system(w, q, r.cfg.Files.Kernel, events.StageKernel)
	})
	mux.HandleFunc("GET /boot/initrd", func(w http.ResponseWriter, q *http.Request) {
		r.system(w, q, r.cfg.Files.Initrd, events.StageInitrd)
	})
	mux.HandleFunc("GET /boot/config", r.config)
	mux.HandleFunc("GET /boot/files/", r.files)
}

// from is the address that a request comes from.
func from(q *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(q.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// who finds the node that asks, or answers that there is none.
func (r *Role) who(w http.ResponseWriter, q *http.Request) *node {
	text := q.URL.Query().Get("mac")
	mac, err := net.ParseMAC(strings.ReplaceAll(text, "-", ":"))
	if err != nil || len(mac) != 6 || len(text) > 32 {
		http.Error(w, "mac: want ?mac=00:11:22:33:44:55", http.StatusBadRequest)
		return nil
	}
	n, err := r.nodes.who(mac.String(), from(q))
	if err != nil {
		r.refused(q.URL.Path, from(q), err)
		http.Error(w, "refused: MAC and address are not those of one node that boots from here", http.StatusForbidden)
		return nil
	}
	return n
}

func (r *Role) ipxe(w http.ResponseWriter, q *http.Request) {
	n := r.who(w, q)
	if n == nil {
		return
	}
	r.chains.end(n.key)
	r.saw(n, events.StageScript, "", "ipxe")
	b := r.boot(n)
	what, text := "disk", script.IPXEDisk(b)
	if !r.state.known() {
		what, text = "wait", script.IPXEWait(b)
	} else if _, ok := r.state.of(n.key); ok {
		what, text = "imaging", script.IPXE(b)
	}
	r.log.Debug("boot script", "start", what, "node", n.node, "from", from(q))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(text)) // the node may be gone
}

// system serves a file of the imaging system that is meant for whoever asks:
// a node may have one of its own.
func (r *Role) system(w http.ResponseWriter, q *http.Request, name, stage string) {
	n := r.nodes.ips[from(q)]
	if n != nil && !n.led {
		n = nil
	}
	if n != nil && n.Boot.Image != "" {
		name = path.Join(n.Boot.Image, name)
	}
	r.serve(w, q, n, name, stage)
}

func (r *Role) files(w http.ResponseWriter, q *http.Request) {
	n := r.nodes.ips[from(q)]
	if n != nil && !n.led {
		n = nil
	}
	r.serve(w, q, n, strings.TrimPrefix(q.URL.Path, "/boot/files/"), events.StageTFTP)
}

// serve sends a file of the boot directory. Its stage counts when all of it
// is on the way.
func (r *Role) serve(w http.ResponseWriter, q *http.Request, n *node, asked, stage string) {
	name, err := tftp.Name(asked)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f, err := r.root.Open(name)
	if err != nil {
		r.warn("a file of the boot directory is missing", "file", name, "from", from(q), "err", err)
		http.Error(w, name+": no such file in the boot directory", http.StatusNotFound)
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		http.Error(w, name+": no such file in the boot directory", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	c := &counted{ResponseWriter: w}
	http.ServeContent(c, q, "", st.ModTime(), f)
	if n != nil && q.Method == http.MethodGet && c.sent >= st.Size() {
		r.saw(n, stage, "", name)
	}
}

// counted counts the body of an answer.
type counted struct {
	http.ResponseWriter
	sent int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.sent += int64(n)
	return n, err
}

// config tells the imaging system of a node what it needs, with the credential
// of this boot.
func (r *Role) config(w http.ResponseWriter, q *http.Request) {
	if q.Method != http.MethodGet { // HEAD would use the credential up
		http.Error(w, "GET only", http.StatusMethodNotAllowed)
		return
	}
	n := r.who(w, q)
	if n == nil {
		r.alarm(q)
		return
	}
	if !r.state.known() {
		w.Header().Set("Retry-After", "2")
		http.Error(w, "the boot service has not read the log yet", http.StatusServiceUnavailable)
		return
	}
	b, ok := r.state.of(n.key)
	if !ok {
		r.count("config_idle")
		http.Error(w, fmt.Sprintf("no job wants %s in the imaging system", n.node), http.StatusNotFound)
		return
	}
	c := events.BootConfig{
		Testbed: n.testbed, Node: n.node, MAC: n.MAC, Job: b.job, Attempt: b.attempt,
		Bus: r.cfg.Bus, Time: r.clock(), Options: r.cfg.Options,
	}
	cred, err := r.cfg.Credentials.Issue(q.Context(), n.testbed, n.node, n.MAC, from(q))
	switch {
	case delivered(err):
		r.count("credential_again")
		r.log.Warn("the credential of a boot was asked for again", "node", n.node, "job", b.job, "attempt", b.attempt, "from", from(q), "err", err)
		r.saw(n, events.StageConfig, "", "refused: the credential of this boot was delivered already")
		http.Error(w, "the credential of this boot was delivered already", http.StatusConflict)
		return
	case code(err) == events.CodeNotFound:
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	case err != nil:
		r.log.Warn("no credential", "node", n.node, "job", b.job, "attempt", b.attempt, "err", err)
		w.Header().Set("Retry-After", "2")
		http.Error(w, "no credential can be made now", http.StatusServiceUnavailable)
		return
	}
	if cred != (events.Credential{}) {
		c.Credential = &cred
	}
	body, err := json.Marshal(c)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	r.saw(n, events.StageConfig, "", "")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n')) // the node may be gone
}

// delivered reports whether a credential was refused because it was handed out
// before, as an error of this process or of a service on the bus.
func delivered(err error) bool {
	return errors.Is(err, ErrDelivered) || code(err) == events.CodeConflict
}

// code is that of an error which came as data, empty for others.
func code(err error) events.Code {
	var e *events.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// alarm tells the issuer of credentials that somebody asked with the MAC of a
// node that is being booted, from an address that is not the node's: it
// refuses. The attempt goes on.
func (r *Role) alarm(q *http.Request) {
	mac, err := net.ParseMAC(strings.ReplaceAll(q.URL.Query().Get("mac"), "-", ":"))
	if err != nil {
		return
	}
	n := r.nodes.macs[mac.String()]
	if n == nil || !n.led || n.IP == from(q) {
		return
	}
	if _, ok := r.state.of(n.key); !ok {
		return
	}
	_, err = r.cfg.Credentials.Issue(q.Context(), n.testbed, n.node, n.MAC, from(q))
	r.log.Warn("somebody asked for the credential of a node from another address", "node", n.node, "from", from(q), "err", err)
}
