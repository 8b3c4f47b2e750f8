package config

import "strings"

// Setting is one thing that can be configured.
type Setting struct {
	Key     string // dotted, as in the file: "serve.http"
	Default string // as text; lists are joined by commas
	Help    string
	Instead string // what takes the place of an empty value, for people
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

	KeyRoles        = "serve.roles"
	KeyState        = "serve.state"
	KeyImages       = "serve.images"
	KeyInventory    = "serve.inventory"
	KeyGrid         = "serve.grid"
	KeyNATS         = "serve.nats"
	KeyNATSListen   = "serve.nats_listen"
	KeyTLS          = "serve.tls"
	KeyTLSCert      = "serve.tls_cert"
	KeyTLSKey       = "serve.tls_key"
	KeyTLSCA        = "serve.tls_ca"
	KeyTLSNames     = "serve.tls_names"
	KeyReplicas     = "serve.replicas"
	KeyAuthUsers    = "serve.auth_users"
	KeyServeHTTP    = "serve.http"
	KeyHTTPBase     = "serve.http_base"
	KeyBridgeListen = "serve.bridge_listen"
	KeyOMF          = "serve.omf"
	KeyOneGroup     = "serve.one_group"
	KeyInterface    = "serve.interface"
	KeyGroup        = "serve.group"
	KeyPort         = "serve.port"
	KeyRate         = "serve.rate"
	KeyLinkRate     = "serve.link_rate"
	KeyIdle         = "serve.idle"
	KeySaveLife     = "serve.save_life"
	KeySavePort     = "serve.save_port"
	KeySaveDir      = "serve.save_dir"
	KeyWindow       = "serve.window"
	KeyStagger      = "serve.stagger"
	KeyPxelinux     = "serve.pxelinux"
	KeyPxeImage     = "serve.pxelinux_image"
	KeyPxeLifetime  = "serve.pxelinux_lifetime"
	KeyCheckIn      = "serve.checkin"
	KeyJoin         = "serve.join"
	KeyStall        = "serve.stall"
	KeySilence      = "serve.silence"
	KeyLeave        = "serve.leave"
	KeyBoots        = "serve.boot_attempts"
	KeyLoads        = "serve.load_attempts"
	KeySweep        = "serve.sweep"
	KeyLog          = "serve.log"

	KeyBootDir       = "netboot.dir"
	KeyBootDHCP      = "netboot.dhcp"
	KeyBootInterface = "netboot.interface"
	KeyBootAddress   = "netboot.address"
	KeyBootListen    = "netboot.listen"
	KeyBootLoader    = "netboot.loader"
	KeyBootBase      = "netboot.base"
	KeyBootBus       = "netboot.bus"
	KeyBootNetmask   = "netboot.netmask"
	KeyBootGateway   = "netboot.gateway"
	KeyBootDNS       = "netboot.dns"
	KeyBootLease     = "netboot.lease"
	KeyBootKernel    = "netboot.kernel"
	KeyBootInitrd    = "netboot.initrd"
	KeyBootBIOS      = "netboot.bios"
	KeyBootEFI       = "netboot.efi"
	KeyBootEFIARM    = "netboot.efi_arm"
	KeyBootPxelinux  = "netboot.pxelinux"
)

// Settings lists all settings in the order in which they are shown.
func Settings() []Setting {
	return []Setting{
		{KeyServer, "nats://127.0.0.1:4222", "bus that client commands connect to; several with commas", ""},
		{KeyTestbed, "default", "testbed that client commands mean", ""},
		{KeyCredential, "", "file with a credential of the bus", "none"},
		{KeyHTTP, "", "HTTP address of the image service", "asked of it over the bus"},
		{KeyOutput, "text", "text, json or jsonl", ""},

		{KeyRoles, "", "roles to play, with commas", "nats (without --nats), handler, frisbee, bridge (with legacy nodes), sim (with --sim)"},
		{KeyState, "", "state directory", "/var/lib/loadnode for root and under systemd, else ~/.local/state/loadnode"},
		{KeyImages, "", "image directory", "images in the state directory"},
		{KeyInventory, "", "inventory file", "a generated grid"},
		{KeyGrid, "20x20", "size of the generated grid", ""},
		{KeyNATS, "", "external bus to use; several URLs with commas", "the embedded bus"},
		{KeyNATSListen, "127.0.0.1:4222", "where the embedded bus listens", ""},
		{KeyTLS, "auto", "certificate of the embedded bus: on makes one and renews it, off lets clients speak in the clear, auto is on where the bus listens beyond this machine", ""},
		{KeyTLSCert, "", "certificate of the embedded bus, in place of one that it makes, PEM", "none"},
		{KeyTLSKey, "", "its key, PEM", "none"},
		{KeyTLSCA, "", "authority that clients have to trust, PEM, written into credentials: of --tls-cert, or with the role auth of the external bus", "none"},
		{KeyTLSNames, "", "further names and addresses by which clients reach the bus, with commas", "none"},
		{KeyReplicas, "", "copies of each stream on the bus, 1 to 5", "as many as there are; of new ones 3 on a cluster, else 1"},
		{KeyAuthUsers, "", "file with the passwords of the external bus's users auth and sys, for the role auth", ""},
		{KeyServeHTTP, "127.0.0.1:5012", "where HTTP listens, or none", ""},
		{KeyBridgeListen, "", "where legacy agents that connect by themselves are taken", "none"},
		{KeyOMF, "auto", "the services of OMF on HTTP, which ask nobody who they are: on, off, or auto, which is on where only this machine can reach them", ""},
		{KeyOneGroup, "off", "on: all sessions on one multicast group with ports of their own, for readers of OMF's status page", ""},
		{KeyHTTPBase, "", "how nodes reach HTTP", "derived from --http"},
		{KeyInterface, "127.0.0.1", "IPv4 address of the interface that sends image data", ""},
		{KeyGroup, "", "first multicast group of image sessions", "239.192.77.0"},
		{KeyPort, "", "first UDP port of image sessions", "7000"},
		{KeyRate, "", "rate of one session at most, in bit/s on the wire, such as 500M or 2.5G", "300M"},
		{KeyLinkRate, "", "rate of all sessions together, which they share", "that of one session"},
		{KeyIdle, "", "how long a session without clients and leases stays", "5m"},
		{KeySaveLife, "", "how long an image that is saved may take to come, where the job does not say", "2h"},
		{KeySaveDir, "", "directory that nodes of OMF 4.4 save to by NFS, as it is called on this machine", "none"},
		{KeySavePort, "", "first TCP port for images that come without HTTP, from nodes of OMF 5", "9000"},
		{KeyWindow, "", "nodes that boot at once", "64"},
		{KeyStagger, "", "pause between the starts of two nodes", "none"},
		{KeyPxelinux, "", "configuration directory of the TFTP tree, such as /tftpboot/pxelinux.cfg, where the boot links of nodes with boot driver pxelinux are", "none"},
		{KeyPxeImage, "", "boot configuration in it of nodes whose inventory names none", "orbit-1.0.0"},
		{KeyPxeLifetime, "", "how long a boot link that was set by hand stays", "30m"},
		{KeyCheckIn, "", "how long a node may take from reboot to agent", "3m30s, short with --sim"},
		{KeyJoin, "", "how long it may take from there to the beginning of the load", "1m30s, short with --sim"},
		{KeyStall, "", "how long a joined node waits for data", "30s, short with --sim"},
		{KeySilence, "", "how long nothing may be heard of an agent that loads", "1m, short with --sim"},
		{KeyLeave, "", "how long a shutdown or reboot may take", "1m30s, short with --sim"},
		{KeyBoots, "", "reboots of a node in a job at most", "2"},
		{KeyLoads, "", "load attempts of a node in a job at most", "3"},
		{KeySweep, "", "how often to look for what was left behind: sessions and leases of ended jobs", "1m"},
		{KeyLog, "info", "debug, info, warn or error", ""},

		{KeyBootDir, "", "boot directory: loaders, kernel and initrd of the imaging system", "boot in the state directory"},
		{KeyBootDHCP, "off", "what is answered by DHCP: off, proxy (boot files beside another server), reservations (addresses of the inventory, and boot files)", ""},
		{KeyBootInterface, "", "interface of the nodes' network, the only one on which DHCP is answered", "none"},
		{KeyBootAddress, "", "IPv4 address of this machine there", "the interface's first"},
		{KeyBootListen, "", "where TFTP listens, or none", "port 69 of that address"},
		{KeyBootLoader, "ipxe", "what BIOS machines start from: ipxe or pxelinux", ""},
		{KeyBootBase, "", "how nodes reach HTTP when they boot", "as --http-base"},
		{KeyBootBus, "", "how nodes reach the bus; several URLs with commas", "the embedded bus, else --nats"},
		{KeyBootNetmask, "", "netmask that nodes are told", "the interface's"},
		{KeyBootGateway, "", "gateway that nodes are told", "none"},
		{KeyBootDNS, "", "name servers that nodes are told, with commas", "none"},
		{KeyBootLease, "1h", "how long a node may keep its address before it asks again", ""},
		{KeyBootKernel, "kernel", "file of the imaging system's kernel in the boot directory", ""},
		{KeyBootInitrd, "initrd", "file of its initial file system", ""},
		{KeyBootBIOS, "undionly.kpxe", "loader for BIOS machines", ""},
		{KeyBootEFI, "snponly.efi", "loader for x86-64 machines with EFI", ""},
		{KeyBootEFIARM, "ipxe-arm64.efi", "loader for arm64 machines with EFI", ""},
		{KeyBootPxelinux, "lpxelinux.0", "loader for BIOS machines with loader pxelinux", ""},
	}
}
