package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"loadnode/bus/credential"
	"loadnode/cmd/omf/internal/config"
	"loadnode/handler/netboot"
	"loadnode/handler/netboot/dhcp"
)

// netbootConfig is what the boot service is told.
type netbootConfig struct {
	dir     string
	mode    dhcp.Mode
	loader  dhcp.Loader
	iface   string     // DHCP is heard there
	address netip.Addr // ours; invalid: the interface's
	listen  string     // of TFTP; "": port 69 of the address; "none"
	base    string     // of HTTP; "": derived
	bus     []string   // URLs; empty: derived
	files   netboot.Files
	loaders dhcp.Files
	netmask net.IPMask // nil: the interface's
	gateway netip.Addr
	dns     []netip.Addr
	lease   time.Duration
}

// netbootConfig reads the settings under netboot.
func (a *app) netbootConfig(state string) (netbootConfig, error) {
	get := func(key string) string { return a.get(key) }
	bad := func(key, want string) (netbootConfig, error) {
		v := a.cfg.Get(key)
		return netbootConfig{}, usagef("%s %q (%s): want %s", key, v.Text, v.Origin, want)
	}
	c := netbootConfig{
		dir: get(config.KeyBootDir), iface: get(config.KeyBootInterface), listen: get(config.KeyBootListen),
		base: get(config.KeyBootBase), bus: list(get(config.KeyBootBus)),
		files:   netboot.Files{Kernel: get(config.KeyBootKernel), Initrd: get(config.KeyBootInitrd)},
		loaders: dhcp.Files{BIOS: get(config.KeyBootBIOS), EFI: get(config.KeyBootEFI), EFIARM: get(config.KeyBootEFIARM), Pxelinux: get(config.KeyBootPxelinux)},
	}
	if c.dir == "" {
		c.dir = filepath.Join(state, "boot")
	}
	mode, err := a.oneOf(config.KeyBootDHCP, string(dhcp.Off), string(dhcp.Proxy), string(dhcp.Reservations))
	if err != nil {
		return c, err
	}
	loader, err := a.oneOf(config.KeyBootLoader, string(dhcp.IPXE), string(dhcp.Pxelinux))
	if err != nil {
		return c, err
	}
	c.mode, c.loader = dhcp.Mode(mode), dhcp.Loader(loader)
	for key, to := range map[string]*netip.Addr{config.KeyBootAddress: &c.address, config.KeyBootGateway: &c.gateway} {
		if text := get(key); text != "" {
			if *to, err = netip.ParseAddr(text); err != nil || !to.Is4() {
				return bad(key, "an IPv4 address")
			}
		}
	}
	for _, text := range list(get(config.KeyBootDNS)) {
		ip, err := netip.ParseAddr(text)
		if err != nil || !ip.Is4() {
			return bad(config.KeyBootDNS, "IPv4 addresses with commas")
		}
		c.dns = append(c.dns, ip)
	}
	if text := get(config.KeyBootNetmask); text != "" {
		ip, err := netip.ParseAddr(text)
		if err != nil || !ip.Is4() {
			return bad(config.KeyBootNetmask, "a netmask such as 255.255.0.0")
		}
		c.netmask = ip.AsSlice()
		if ones, _ := c.netmask.Size(); ones == 0 {
			return bad(config.KeyBootNetmask, "a netmask such as 255.255.0.0")
		}
	}
	if text := get(config.KeyBootLease); text != "" {
		if c.lease, err = time.ParseDuration(text); err != nil || c.lease <= 0 {
			return bad(config.KeyBootLease, "a time such as 1h")
		}
	}
	if c.mode != dhcp.Off && c.iface == "" {
		return c, usagef("%s %s needs the interface of the nodes' network: --boot-interface", config.KeyBootDHCP, c.mode)
	}
	return c, nil
}

// place finds our address and netmask on the nodes' network.
func (c *netbootConfig) place() error {
	if c.iface == "" {
		return nil
	}
	i, err := net.InterfaceByName(c.iface)
	if err != nil {
		return usagef("--boot-interface %s: %w", c.iface, err)
	}
	addrs, err := i.Addrs()
	if err != nil {
		return fmt.Errorf("addresses of %s: %w", c.iface, err)
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().Is4() || c.address.IsValid() && c.address != p.Addr() {
			continue
		}
		c.address = p.Addr()
		if c.netmask == nil {
			c.netmask = net.CIDRMask(p.Bits(), 32)
		}
		return nil
	}
	if c.address.IsValid() {
		return usagef("--boot-interface %s has not the address %s", c.iface, c.address)
	}
	return usagef("--boot-interface %s has no IPv4 address; give it one, in the network of the nodes", c.iface)
}

// reached makes a URL of ours one that nodes can use.
func (c netbootConfig) reached(text, flag string) (string, error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", usagef("%s %q: %w", flag, text, err)
	}
	host, err := netip.ParseAddr(u.Hostname())
	switch {
	case err != nil: // a name
	case host.IsUnspecified() && c.address.IsValid():
		u.Host = net.JoinHostPort(c.address.String(), u.Port())
	case host.IsUnspecified():
		return "", usagef("nodes cannot reach %s: say how with %s", text, flag)
	case host.IsLoopback() && c.mode != dhcp.Off:
		return "", usagef("nodes cannot reach %s: listen on %s, or say how with %s", text, c.address, flag)
	}
	return u.String(), nil
}

// privileged explains what it takes to open a port below 1024.
func privileged(err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return &exit{code: exitUnreachable, err: err}
	}
	return &exit{code: exitUnreachable, err: err, hint: "ports 67 and 69 need rights: run as root, or: setcap cap_net_bind_service,cap_net_raw+ep omf; " +
		"with systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_NET_RAW"}
}

// netbootRole leads nodes into the imaging system.
func (s *server) netbootRole(ctx context.Context) (role, func(), error) {
	c := s.cfg.netboot
	if s.addr.http == "" {
		return role{}, nil, usagef("role %s needs HTTP: leave out --http none", roleNetboot)
	}
	if err := c.place(); err != nil {
		return role{}, nil, err
	}
	if err := s.netbootURLs(&c); err != nil {
		return role{}, nil, err
	}
	conn, err := s.connect(ctx, roleNetboot)
	if err != nil {
		return role{}, nil, err
	}
	opened := []func(){conn.Close}
	undo := func() {
		for _, f := range opened {
			f()
		}
	}
	fail := func(err error) (role, func(), error) { undo(); return role{}, nil, err }
	grants, err := credential.OpenGrants(ctx, conn)
	if err != nil {
		return fail(err)
	}
	issuer := credential.NewIssuer(credential.IssuerConfig{Conn: conn, Grants: grants, Address: s.nodeAddress, CA: s.busCA(), Logger: s.log.With("role", roleNetboot)})
	cfg := netboot.Config{
		Inventory: s.cfg.inventory, Conn: conn, Dir: c.dir, Base: c.base, Bus: c.bus, Files: c.files,
		Credentials: issuer, Logger: s.log.With("role", roleNetboot),
	}
	sockets, err := c.listenTo(ctx, &cfg)
	opened = append(opened, sockets...)
	if err != nil {
		return fail(err)
	}
	r, err := netboot.New(cfg)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fail(&exit{code: exitUsage, err: err, hint: "make initramfs writes kernel and initrd; put them there with the loaders, or name another directory with --boot-dir"})
	case err != nil:
		return fail(usagef("%w", err))
	}
	opened = append(opened, r.Close)
	r.Register(s.mux)
	s.boots.Store(r)
	return role{run: r.Run, ready: func(ctx context.Context) error {
		select {
		case <-r.Ready():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}, undo, nil
}

// netbootURLs says where nodes reach HTTP and the bus.
func (s *server) netbootURLs(c *netbootConfig) (err error) {
	if c.base == "" {
		c.base = s.cfg.httpBase
	}
	if c.base, err = c.reached(c.base, "--boot-base"); err != nil {
		return err
	}
	urls := slices.Clone(c.bus)
	if len(urls) == 0 {
		urls = slices.Clone(s.cfg.nats)
		if s.nats != nil {
			urls = []string{s.addr.nats}
		}
	}
	for i, u := range urls {
		if urls[i], err = c.reached(u, "--boot-bus"); err != nil {
			return err
		}
	}
	c.bus = urls
	return nil
}

// listenTo opens the sockets of DHCP and TFTP. What it has opened is to be closed also if there is an error.
func (c netbootConfig) listenTo(ctx context.Context, cfg *netboot.Config) (opened []func(), err error) {
	if c.mode != dhcp.Off {
		cfg.DHCP = &dhcp.Config{
			Mode: c.mode, Server: c.address, Loader: c.loader, Files: c.loaders,
			Netmask: c.netmask, Gateway: c.gateway, DNS: c.dns, Lease: c.lease,
		}
		ports := []uint16{dhcp.ServerPort}
		if c.mode == dhcp.Proxy {
			ports = append(ports, dhcp.BootPort)
		}
		for _, port := range ports {
			k, err := dhcp.Listen(c.iface, port)
			if err != nil {
				return opened, privileged(err)
			}
			opened = append(opened, func() { k.Close() })
			cfg.DHCPSockets = append(cfg.DHCPSockets, dhcp.Socket{Conn: k, Port: port})
		}
	}
	if c.listen == "" && c.address.IsValid() {
		c.listen = netip.AddrPortFrom(c.address, 69).String()
	}
	if c.listen != "" && c.listen != httpNone {
		k, err := new(net.ListenConfig).ListenPacket(ctx, "udp4", c.listen)
		if err != nil {
			return opened, privileged(fmt.Errorf("tftp: %w", err))
		}
		opened = append(opened, func() { k.Close() })
		cfg.TFTP = k
	}
	return opened, nil
}

// nodeAddress is the address of a node by the inventory.
func (s *server) nodeAddress(testbed, node string) (netip.Addr, bool) {
	tb, ok := s.cfg.inventory.Testbed(testbed)
	if !ok {
		return netip.Addr{}, false
	}
	n, ok := tb.Node(node)
	if !ok || !n.IP.IsValid() {
		return netip.Addr{}, false
	}
	return n.IP, true
}
