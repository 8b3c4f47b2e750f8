package config

import "strings"

// Setting is one thing that can be configured.
type Setting struct {
	Key     string // dotted, as in the file: "serve.http"
	Default string // as text; lists are joined by commas
	Help    string
}

// Env is the environment variable of the setting: LOADNODE_SERVE_HTTP.
func (s Setting) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.Key, ".", "_"))
}

const envPrefix = "LOADNODE_"

// Keys of the settings.
const (
	KeyServer     = "server"
	KeyTestbed    = "testbed"
	KeyCredential = "credential"
	KeyHTTP       = "http"
	KeyOutput     = "output"

	KeyRoles      = "serve.roles"
	KeyState      = "serve.state"
	KeyImages     = "serve.images"
	KeyInventory  = "serve.inventory"
	KeyGrid       = "serve.grid"
	KeyNATS       = "serve.nats"
	KeyNATSListen = "serve.nats_listen"
	KeyReplicas   = "serve.replicas"
	KeyServeHTTP  = "serve.http"
	KeyHTTPBase   = "serve.http_base"
	KeyInterface  = "serve.interface"
	KeyGroup      = "serve.group"
	KeyPort       = "serve.port"
	KeyRate       = "serve.rate"
	KeyIdle       = "serve.idle"
	KeyWindow     = "serve.window"
	KeyCheckIn    = "serve.checkin"
	KeyJoin       = "serve.join"
	KeyStall      = "serve.stall"
	KeyLeave      = "serve.leave"
	KeyBoots      = "serve.boot_attempts"
	KeyLoads      = "serve.load_attempts"
	KeySweep      = "serve.sweep"
	KeyLog        = "serve.log"
)

// Settings lists all settings in the order in which they are shown.
func Settings() []Setting {
	return []Setting{
		{KeyServer, "nats://127.0.0.1:4222", "bus that client commands connect to, comma separated"},
		{KeyTestbed, "default", "testbed that client commands mean"},
		{KeyCredential, "", "file with the operator's credential; empty: anonymous"},
		{KeyHTTP, "http://127.0.0.1:5012", "HTTP address of the image service, for uploads"},
		{KeyOutput, "text", "text, json or jsonl"},

		{KeyRoles, "", "roles of omf serve; empty: nats,handler,frisbee and sim where a simulated grid is asked for"},
		{KeyState, "", "state directory; empty: /var/lib/loadnode for root, else the user's state directory"},
		{KeyImages, "", "image directory; empty: images in the state directory"},
		{KeyInventory, "", "inventory file; empty: a generated grid"},
		{KeyGrid, "20x20", "size of the generated grid, COLSxROWS"},
		{KeyNATS, "", "URLs of an external bus; empty: the embedded one"},
		{KeyNATSListen, "127.0.0.1:4222", "where the embedded bus listens"},
		{KeyReplicas, "1", "copies of each stream on an external cluster, 1 to 5"},
		{KeyServeHTTP, "127.0.0.1:5012", "where HTTP listens"},
		{KeyHTTPBase, "", "URL by which nodes reach HTTP; empty: derived from the listening address"},
		{KeyInterface, "127.0.0.1", "IPv4 address of the interface that sends image data"},
		{KeyGroup, "", "first multicast group of image sessions; empty: the image service's default"},
		{KeyPort, "", "first UDP port of image sessions; empty: the image service's default"},
		{KeyRate, "", "rate of a session in bit/s on the wire, with K, M or G; empty: the image service's default"},
		{KeyIdle, "", "how long a session without clients and leases stays; empty: the image service's default"},
		{KeyWindow, "", "nodes that boot at once; empty: the handler's default"},
		{KeyCheckIn, "", "how long a node may take from reboot to agent; empty: 3m30s, short with --sim"},
		{KeyJoin, "", "how long it may take from there to the beginning of the load; empty: 1m30s, short with --sim"},
		{KeyStall, "", "how long a joined node waits for data; empty: 30s, short with --sim"},
		{KeyLeave, "", "how long a shutdown or reboot may take; empty: 1m30s, short with --sim"},
		{KeyBoots, "", "reboots of a node in a job at most; empty: 2"},
		{KeyLoads, "", "load attempts of a node in a job at most; empty: 3"},
		{KeySweep, "", "how often what was left behind is looked for: sessions and leases of ended jobs; empty: 1m"},
		{KeyLog, "info", "debug, info, warn or error"},
	}
}
