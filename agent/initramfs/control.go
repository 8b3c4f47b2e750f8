package initramfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// Times of DHCP: a switch may take half a minute before it forwards.
const (
	carrierWait = 10 * time.Second // for the carrier; then DHCP is tried all the same
	carrierStep = 20 * time.Millisecond
	dhcpFirst   = time.Second // for the first answer; then twice as long, …
	dhcpTries   = 4           // … and anew after so many
	dhcpPause   = 10 * time.Second
)

// sysNet is where the kernel shows interfaces.
const sysNet = "/sys/class/net"

// network is what the control interface was given.
type network struct {
	device   net.Interface
	address  netip.Prefix
	gateway  netip.Addr // or not valid
	dns      []netip.Addr
	hostname string
	domain   string
	mtu      int // 0: as it is
	lease    *nclient4.Lease
}

// findControl waits for the control interface and gets an address for it.
// changed says when to look for interfaces again. With several candidates the
// first that gets an answer is it.
func findControl(ctx context.Context, p Parameters, changed <-chan struct{}, log *slog.Logger) (network, error) {
	ctx, cancel := context.WithCancel(ctx)
	got := make(chan network)
	tried := map[string]bool{}
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-got
		}
	}()
	for {
		found, err := candidates(sysNet, p.MAC)
		if err != nil {
			return network{}, err
		}
		for _, d := range found {
			if tried[d.Name] {
				continue
			}
			tried[d.Name] = true
			log.Info("interface", "name", d.Name, "mac", d.HardwareAddr.String())
			if err := linkUp(d.Index); err != nil {
				log.Error("interface cannot be used", "name", d.Name, "err", err)
				continue
			}
			if p.Address.IsValid() {
				return network{device: d, address: p.Address, gateway: p.Gateway}, nil
			}
			running++
			go func() {
				n, err := ask(ctx, d, log)
				if err != nil && ctx.Err() == nil {
					log.Error("DHCP", "interface", d.Name, "err", err)
				}
				got <- n
			}()
		}
		select {
		case n := <-got:
			running--
			if n.lease != nil {
				return n, nil
			}
		case <-changed:
		case <-ctx.Done():
			return network{}, ctx.Err()
		}
	}
}

// candidates are the Ethernet interfaces of devices, or the one with the
// address that is wanted.
func candidates(class string, want net.HardwareAddr) ([]net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var found []net.Interface
	for _, d := range all {
		if d.Flags&net.FlagLoopback != 0 || len(d.HardwareAddr) != 6 {
			continue
		}
		if want != nil {
			if bytes.Equal(d.HardwareAddr, want) {
				found = append(found, d)
			}
			continue
		}
		if _, err := os.Stat(filepath.Join(class, d.Name, "device")); err == nil {
			found = append(found, d)
		}
	}
	return found, nil
}

// carrier reports whether an interface has a signal. The file cannot be read
// while the interface is off.
func carrier(class, name string) bool {
	text, err := os.ReadFile(filepath.Join(class, name, "carrier"))
	return err == nil && strings.TrimSpace(string(text)) == "1"
}

// awaitCarrier waits until there is a signal, but not for ever: not every
// driver tells. It reports whether there is one.
func awaitCarrier(ctx context.Context, there func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, carrierWait)
	defer cancel()
	step := time.NewTicker(carrierStep)
	defer step.Stop()
	for !there() {
		select {
		case <-step.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// ask gets a lease, however long it takes. What is sent before there is a
// carrier is lost, and costs the time until it is sent again.
func ask(ctx context.Context, d net.Interface, log *slog.Logger) (network, error) {
	if !awaitCarrier(ctx, func() bool { return carrier(sysNet, d.Name) }) && ctx.Err() == nil {
		log.Warn("no carrier", "interface", d.Name)
	}
	client, err := nclient4.New(d.Name, nclient4.WithTimeout(dhcpFirst), nclient4.WithRetry(dhcpTries))
	if err != nil {
		return network{}, err
	}
	defer client.Close()
	for {
		lease, err := client.Request(ctx, dhcpv4.WithOption(dhcpv4.OptClassIdentifier("loadnode")),
			dhcpv4.WithRequestedOptions(dhcpv4.OptionHostName, dhcpv4.OptionDomainName, dhcpv4.OptionInterfaceMTU))
		if err == nil {
			n, readErr := readLease(lease.ACK)
			if readErr == nil {
				n.device, n.lease = d, lease
				return n, nil
			}
			err = readErr
		}
		if ctx.Err() != nil {
			return network{}, ctx.Err()
		}
		log.Warn("no usable answer of a DHCP server yet", "interface", d.Name, "err", err)
		if !errors.Is(err, nclient4.ErrNoResponse) {
			// An answer of no use would come again at once.
			select {
			case <-ctx.Done():
				return network{}, ctx.Err()
			case <-time.After(dhcpPause):
			}
		}
	}
}

// readLease takes from an answer what the machine is set up with.
func readLease(ack *dhcpv4.DHCPv4) (network, error) {
	var n network
	ip, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback() {
		return n, fmt.Errorf("DHCP: the address %v is none for a machine", ack.YourIPAddr)
	}
	ones, size := 24, 32
	if mask := ack.SubnetMask(); mask != nil {
		ones, size = mask.Size()
	}
	if size != 32 || ones == 0 {
		return n, fmt.Errorf("DHCP: the mask %v is none", ack.SubnetMask())
	}
	n.address = netip.PrefixFrom(ip, ones)
	for _, r := range ack.Router() {
		if g, ok := netip.AddrFromSlice(r.To4()); ok && !n.gateway.IsValid() && n.address.Contains(g) {
			n.gateway = g
		}
	}
	for _, s := range ack.DNS() {
		if d, ok := netip.AddrFromSlice(s.To4()); ok && len(n.dns) < 3 {
			n.dns = append(n.dns, d)
		}
	}
	n.hostname = hostname(ack.HostName())
	n.domain = hostname(ack.DomainName())
	if raw := ack.Options.Get(dhcpv4.OptionInterfaceMTU); len(raw) == 2 {
		if mtu := int(raw[0])<<8 | int(raw[1]); mtu >= 576 && mtu < math.MaxUint16 {
			n.mtu = mtu
		}
	}
	return n, nil
}

// hostname is a name if it is one, and otherwise empty.
func hostname(s string) string {
	s = strings.TrimRight(s, "\x00")
	if len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	}) {
		return ""
	}
	return s
}

// use sets the interface up. Groups are reached through it also where there is
// no default route.
func (n network) use() error {
	i := n.device.Index
	if n.mtu > 0 && n.mtu < n.device.MTU {
		if err := setMTU(i, uint32(n.mtu)); err != nil {
			return err
		}
	}
	if err := addAddress(i, n.address); err != nil {
		return err
	}
	if err := addRoute(i, netip.MustParsePrefix("224.0.0.0/4"), netip.Addr{}); err != nil {
		return err
	}
	if n.gateway.IsValid() {
		if err := addRoute(i, netip.PrefixFrom(netip.IPv4Unspecified(), 0), n.gateway); err != nil {
			return err
		}
	}
	if err := os.MkdirAll("/etc", 0o755); err != nil {
		return err
	}
	return os.WriteFile("/etc/resolv.conf", n.resolver(), 0o644)
}

// resolver is the text of /etc/resolv.conf.
func (n network) resolver() []byte {
	var b strings.Builder
	if n.domain != "" {
		fmt.Fprintf(&b, "search %s\n", n.domain)
	}
	for _, d := range n.dns {
		fmt.Fprintf(&b, "nameserver %v\n", d)
	}
	return []byte(b.String())
}

// keep renews the lease at half of its time until ctx ends. An address that is
// not given again is kept: a load in progress is worth more.
func (n network) keep(ctx context.Context, log *slog.Logger) {
	lease := n.lease
	for lease != nil {
		half := max(lease.ACK.IPAddressLeaseTime(time.Hour)/2, time.Minute)
		select {
		case <-ctx.Done():
			return
		case <-time.After(half):
		}
		renewed, err := renew(ctx, n.device.Name, lease)
		if err != nil {
			log.Warn("the address is not given again; it is kept", "interface", n.device.Name, "err", err)
			continue
		}
		lease = renewed
	}
}

func renew(ctx context.Context, device string, lease *nclient4.Lease) (*nclient4.Lease, error) {
	client, err := nclient4.New(device, nclient4.WithTimeout(dhcpFirst), nclient4.WithRetry(dhcpTries))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return client.Renew(ctx, lease)
}
